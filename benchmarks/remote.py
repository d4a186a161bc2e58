"""Remote: the part of the contract that a run needs, answered as fast as Python can, in a process of its own.

    python -m benchmarks.remote [--latency 0.01] [--hold 0]

The emulator does what the contract says and would be the bottleneck of whoever measures a client. This knows one tenant
and two kinds, inspects nothing it is not asked about, and counts what it gets, so that a client's books can be held to
it: creates, distinct keys and traces, rows, polls, results. Jobs end `--latency` seconds after they were created; with
`--hold N` none does before N were. It prints its URL as JSON and ends with its standard input. Loopback only.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from urllib.parse import parse_qs

import uvloop

from engine.codec.payload import encode, to_wire
from engine.contract.profile import PROFILE
from engine.trust.minting import SigningKey

ROW_BYTES = 1000
# By kind: the member that holds the rows of a result, the one that names a row, and how a row ends.
_RESULTS = {
    b"import.bulk": (b"rows", b"external_id", b"created"),
    b"intelligence.enrich.bulk": (b"results", b"profile_id", b"succeeded"),
}
_ATTRIBUTE = (
    b'{"name":"employer","value":"Harbour Works","confidence":0.5,"source":"registry",'
    b'"retrieved_at":"2026-05-08T12:00:00Z"}'
)
_PAGE_MAX = 200


def filler(name: bytes, status: bytes, row_bytes: int) -> bytes:
    """What follows the key in a row of a result, so that the row has about `row_bytes`."""
    head = b',"status":"' + status + b'"'
    if name == b"external_id":
        return head + b',"id":"ent_1","errors":[]}'
    count = max(1, (row_bytes - 80) // (len(_ATTRIBUTE) + 1))
    return head + b',"enrichment_score":71,"attributes":[' + b",".join([_ATTRIBUTE] * count) + b"]}"


class Platform:
    """Jobs, and the books about who asked what."""

    def __init__(self, *, latency_s: float, hold: int, row_bytes: int) -> None:
        self._latency_s = latency_s
        self._hold = hold
        self._jobs: list[tuple[float, bytes, bytes, bytes]] = []
        self._keys: dict[bytes, int] = {}
        self._tails = {kind: filler(key, status, row_bytes) for kind, (_, key, status) in _RESULTS.items()}
        self._signer = SigningKey.generate("bench-1")
        self.url = ""
        self.counts = dict.fromkeys(("creates", "replays", "rows", "gets", "lists", "links", "results"), 0)
        self.traces: set[bytes] = set()

    def create(self, head: bytes, body: bytes) -> tuple[bytes, bytes]:
        """A job, or the one its key made before."""
        key, trace = _header(head, b"idempotency-key"), _header(head, b"traceparent")[3:35]
        known = self._keys.get(key) if key else None
        self.traces.add(trace)
        if known is not None:
            self.counts["replays"] += 1
            return b"200 OK", self._created(known)
        number = len(self._jobs)
        if key:
            self._keys[key] = number
        # Writers differ in the blanks around a colon.
        start = body.index(b'"', body.index(b'"kind"') + 6) + 1
        kind = body[start : body.index(b'"', start)]
        ids = _ids(kind, body)
        self._jobs.append((time.monotonic() + self._latency_s, kind, ids, trace))
        self.counts["creates"] += 1
        self.counts["rows"] += ids.count(b",") + 1
        return b"201 Created", self._created(number)

    def _created(self, number: int) -> bytes:
        _, kind, _, trace = self._jobs[number]
        return b'{"id":"job_%d","kind":"%b","status":"queued","created_at":"2026-11-25T12:00:00Z","trace_id":"%b"}' % (
            number, kind, trace,
        )  # fmt: skip

    def _job(self, number: int, now: float) -> bytes:
        ends, kind, _, trace = self._jobs[number]
        is_over = now >= ends and len(self._jobs) >= self._hold
        more = b'"succeeded","completed_at":"2026-11-25T12:00:00Z"' if is_over else b'"running","completed_at":null'
        return b'{"id":"job_%d","kind":"%b","status":%b,"created_at":"2026-11-25T12:00:00Z","trace_id":"%b"}' % (
            number, kind, more, trace,
        )  # fmt: skip

    def get(self, target: bytes) -> tuple[bytes, bytes]:
        """One job, or where its result lies."""
        number, _, rest = target.removeprefix(b"/v1/jobs/job_").partition(b"/")
        if rest:
            self.counts["links"] += 1
            return b"200 OK", b'{"id":"job_%b","result_ref":"r%b","signed_url":"%b/results/%b?sig=1"}' % (
                number, number, self.url.encode(), number,
            )  # fmt: skip
        self.counts["gets"] += 1
        return b"200 OK", self._job(int(number), time.monotonic())

    def list(self, target: bytes) -> tuple[bytes, bytes]:
        """A page of jobs, newest first; the cursor is a number of a job."""
        self.counts["lists"] += 1
        asked = parse_qs(target.partition(b"?")[2].decode())
        top = int(asked.get("cursor", [len(self._jobs)])[0])
        limit = min(int(asked.get("limit", [_PAGE_MAX])[0]), _PAGE_MAX)
        low, now = max(0, top - limit), time.monotonic()
        page = b",".join([self._job(number, now) for number in range(top - 1, low - 1, -1)])
        return b"200 OK", b'{"jobs":[%b],"next_cursor":%b}' % (page, b'"%d"' % low if low else b"null")

    def result(self, target: bytes) -> tuple[bytes, bytes]:
        """The document of a job's result."""
        self.counts["results"] += 1
        _, kind, ids, _ = self._jobs[int(target[9:].partition(b"?")[0])]
        member, key, _ = _RESULTS[kind]
        tail, head = self._tails[kind], b'{"' + key + b'":'
        rows = b",".join([head + one + tail for one in ids.split(b",")])
        return b"200 OK", b'{"' + member + b'":[' + rows + b"]}"

    def keys(self) -> tuple[bytes, bytes]:
        """The key set."""
        return b"200 OK", encode({"keys": [to_wire(self._signer.public_jwk())]})

    def token(self) -> tuple[bytes, bytes]:
        """A token of ours for an hour."""
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": PROFILE.audience, "sub": "app_local", "iat": now, "exp": now + 3600, "jti": "t",
            "client_id": "app_local", "tenant_id": "tnt_local", "scope": "jobs.read jobs.write",
        }  # fmt: skip
        token = self._signer.sign(claims, typ="at+jwt")
        return b"200 OK", encode({"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    def books(self) -> tuple[bytes, bytes]:
        """What it was asked, and what its process took so far."""
        told = self.counts | {"keys": len(self._keys), "traces": len(self.traces), "cpu_s": time.process_time()}
        return b"200 OK", encode(told)

    def answer(self, method: bytes, target: bytes, head: bytes, body: bytes) -> tuple[bytes, bytes]:
        """One request; the most frequent ones first."""
        if method == b"POST" and target == b"/v1/jobs":
            return self.create(head, body)
        if target.startswith(b"/v1/jobs/"):
            return self.get(target)
        if target.startswith(b"/results/"):
            return self.result(target)
        if target.startswith(b"/v1/jobs"):
            return self.list(target)
        rest: dict[bytes, Callable[[], tuple[bytes, bytes]]] = {
            b"/v1/oauth/token": self.token, b"/.well-known/jwks.json": self.keys, b"/books": self.books,
        }  # fmt: skip
        found = rest.get(target)
        return found() if found else (b"404 Not Found", b"{}")


def _ids(kind: bytes, body: bytes) -> bytes:
    """The keys of a create's rows as JSON texts, joined by commas."""
    if kind != b"import.bulk":
        start = body.index(b"[") + 1
        return body[start : body.index(b"]", start)]
    rows = json.loads(body)["payload"]["source"]["inline"]
    return b",".join([json.dumps(row.get("external_id", row.get("id"))).encode() for row in rows])


def _header(head: bytes, name: bytes) -> bytes:
    at = head.find(b"\r\n" + name + b":")
    if at < 0:
        at = head.lower().find(b"\r\n" + name + b":")
        if at < 0:
            return b""
    start = at + len(name) + 3
    return head[start : head.index(b"\r\n", start)].strip()


class Wire(asyncio.Protocol):
    """HTTP/1.1 with lengths and nothing else: what arrives is answered in order, pipelined or not."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._out: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer every request that is whole."""
        data = self._held + data if self._held else data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[: end + 2]
            length = _header(head, b"content-length") if head[:4] != b"GET " else b""
            stop = end + 4 + int(length or 0)
            if len(data) < stop:
                break
            method, target, _ = head.split(b" ", 2)
            status, body = self._platform.answer(method, target, head, data[end + 4 : stop])
            self._out.write(
                b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
                + body
            )
            data = data[stop:]
        self._held = data


async def _serve(platform: Platform) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Wire(platform), "127.0.0.1", 0, backlog=1024)
    platform.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(json.dumps({"url": platform.url}), flush=True)
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)
    await over.wait()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description="a fast platform for clients to be measured against")
    parser.add_argument("--latency", type=float, default=0.01, help="seconds a job takes (default: 0.01)")
    parser.add_argument("--hold", type=int, default=0, help="no job ends before so many were created")
    parser.add_argument("--row-bytes", type=int, default=ROW_BYTES, help=f"of a result (default: {ROW_BYTES})")
    asked = parser.parse_args()
    uvloop.run(_serve(Platform(latency_s=asked.latency, hold=asked.hold, row_bytes=asked.row_bytes)))


if __name__ == "__main__":
    main()
