"""Results: the files a job leaves behind, the signed URLs they are fetched by, and the route that serves them.

A file is stored in pieces, so that one of any size is written and sent in bounded memory. A signed URL is a lease:
an HMAC over path, expiry and a nonce, no bearer token (contract 9.4, Q45). Ranges as in RFC 9110 section 14.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import msgspec

from engine.codec.payload import encode, loads
from engine.contract.jobs import SUCCEEDED
from engine.contract.problem import Problem
from engine.contract.profile import PROFILE
from engine.emulator import jobtable
from engine.emulator.faults import Fault
from engine.emulator.scenarios import sandbox_now_ns
from engine.emulator.state import State
from engine.emulator.work import Stored
from engine.transport.incoming import Incoming, Outgoing

SCHEMA = """
CREATE TABLE IF NOT EXISTS result_files (
    job_id TEXT NOT NULL, name TEXT NOT NULL, media_type TEXT NOT NULL, body_bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL, is_manifest INTEGER NOT NULL, created_ns INTEGER NOT NULL, PRIMARY KEY (job_id, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS result_pieces (
    job_id TEXT NOT NULL, name TEXT NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS result_pieces_in_order ON result_pieces (job_id, name, number);
"""

PIECE = 1024 * 1024
PREFIX = "/results/"
_RANGE = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE)
_PATH = re.compile(r"/results/([^/]+)\.json|/results/([^/]+)/([^/]+)")

RawHandler = Callable[[Incoming], Awaitable[Outgoing]]


class Lease(msgspec.Struct, frozen=True):
    """What a valid signed URL names: the file `name` of a job ("" is the result document)."""

    job_id: str
    name: str


class _No(Exception):
    """The route refuses."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


# Writing --------------------------------------------------------------------------------------


class Writer:
    """One result file being written, piece by piece. What it wrote is served only once its job has succeeded."""

    def __init__(self, state: State, job_id: str, name: str, media_type: str) -> None:
        self._state = state
        self._job_id = job_id
        self._name = name
        self._media_type = media_type
        self._digest = hashlib.sha256()
        self._open = bytearray()
        self._pieces = 0
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """Append; every full MiB goes to the database."""
        self._open += data
        while len(self._open) >= PIECE:
            self._flush(bytes(self._open[:PIECE]))
            del self._open[:PIECE]

    def close(self) -> Stored:
        """End the file."""
        return self._end(is_manifest=False)

    def close_manifest(self) -> Stored:
        """End the file; what it lists under `files` gets a fresh `url` each time it is read."""
        return self._end(is_manifest=True)

    def _end(self, *, is_manifest: bool) -> Stored:
        with self._state.transaction() as db:
            if self._open:
                self._flush(bytes(self._open))
            sha256 = self._digest.hexdigest()
            db.execute(
                "INSERT OR REPLACE INTO result_files VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    self._job_id, self._name, self._media_type, self._bytes, sha256, is_manifest,
                    self._state.clock.now_ns(),
                ),
            )  # fmt: skip
        return Stored(name=self._name, body_bytes=self._bytes, sha256=sha256)

    def _flush(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._bytes += len(piece)
        self._state.db.execute(
            "INSERT OR REPLACE INTO result_pieces (job_id, name, number, body) VALUES (?, ?, ?, ?)",
            (self._job_id, self._name, self._pieces, piece),
        )
        self._pieces += 1


def discard(state: State, job_id: str) -> None:
    """Remove every file of a job: before its work is done again, or after its retention."""
    with state.transaction() as db:
        db.execute("DELETE FROM result_pieces WHERE job_id = ?", (job_id,))
        db.execute("DELETE FROM result_files WHERE job_id = ?", (job_id,))


def purge(state: State) -> None:
    """Remove the results past their retention (Q47), oldest first, a few at a time."""
    before_ns = state.clock.now_ns() - state.profile.result_retention_s * 1_000_000_000
    rows = state.db.execute(
        "SELECT job_id FROM result_files f JOIN jobs j ON j.id = f.job_id"
        " WHERE j.completed_ns < ? AND NOT j.is_sandbox LIMIT 100",
        (before_ns,),
    ).fetchall()
    for (job_id,) in rows:
        discard(state, job_id)


# Leases ---------------------------------------------------------------------------------------


def path_of(job_id: str, name: str) -> str:
    """Where a file is served."""
    return f"{PREFIX}{job_id}/{quote(name, safe='')}" if name else f"{PREFIX}{job_id}.json"


def reference(job_id: str) -> str:
    """The stable storage reference of a job's result (contract 9.4)."""
    return f"r2://argus-jobs/results/{job_id}.json"


def sign(state: State, job: jobtable.Job, name: str, *, origin: str) -> str:
    """A fresh signed URL for a file; `exp` is in milliseconds since 1970. In the sandbox it is always the same."""
    fault = state.faults.strike("result.url", kind=job.kind, subject=job.id)
    ttl_s = state.profile.signed_url_ttl_s
    if fault is not None:
        ttl_s = fault.number_of("ttl", ttl_s)
    now_ns = sandbox_now_ns(state.profile) if job.is_sandbox else state.clock.now_ns()
    expires_ms = now_ns // 1_000_000 + int(ttl_s * 1000)
    nonce = job.id if job.is_sandbox else state.new_id()
    path = path_of(job.id, name)
    return f"{origin}{path}?exp={expires_ms}&nonce={nonce}&sig={_signature(state, path, str(expires_ms), nonce)}"


def _signature(state: State, path: str, expires: str, nonce: str) -> str:
    text = f"{path}\n{expires}\n{nonce}".encode()
    return hmac.new(state.secret("signed-url"), text, hashlib.sha256).hexdigest()


def _open_lease(state: State, path: str, query: dict[str, str]) -> tuple[Lease, jobtable.Job]:
    """Check a signed URL. The signature comes first: without it, nothing is said about any job."""
    match = _PATH.fullmatch(path)
    expires, nonce = query.get("exp", ""), query.get("nonce", "")
    expected = _signature(state, path, expires, nonce)
    if match is None or not hmac.compare_digest(expected.encode(), query.get("sig", "").encode()):
        raise _No(403, "url_invalid", "The signature does not fit this URL.")
    lease = Lease(match[1] or match[2], unquote(match[3] or ""))
    job = jobtable.load(state, lease.job_id)
    if job is None:
        raise _No(404, "not_found", "No such result.")
    now_ns = sandbox_now_ns(state.profile) if job.is_sandbox else state.clock.now_ns()
    if now_ns // 1_000_000 >= int(expires):
        raise _No(403, "url_expired", "This URL has expired; ask GET /v1/jobs/{id}/result for a new one.")
    return lease, job


def vouch(state: State, realm: str, url: str) -> Lease | None:
    """The lease of a live signed URL of ours for a result of this realm; None for any other URL."""
    parts = urlsplit(url)
    if f"{parts.scheme}://{parts.netloc}" not in (state.base_url, state.sandbox_url):
        return None
    try:
        lease, job = _open_lease(state, parts.path, dict(parse_qsl(parts.query)))
    except _No:
        return None
    return lease if job.realm == realm and job.status == SUCCEEDED else None


# Serving --------------------------------------------------------------------------------------


class _File(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it is served. `body` is there when it is small or made on the spot; else it is in pieces."""

    lease: Lease
    media_type: str
    body_bytes: int
    etag: str
    body: bytes | None = None


def pieces(state: State, job_id: str, name: str, start: int = 0) -> Any:
    """The bytes of a stored file from `start` on, piece by piece; a plain iterator."""
    number, skip = divmod(start, PIECE)
    while row := state.db.execute(
        "SELECT body FROM result_pieces WHERE job_id = ? AND name = ? AND number = ?", (job_id, name, number)
    ).fetchone():
        yield bytes(row[0][skip:])
        number, skip = number + 1, 0


def _find(state: State, lease: Lease, job: jobtable.Job, origin: str) -> _File:
    row = state.db.execute(
        "SELECT media_type, body_bytes, sha256, is_manifest FROM result_files WHERE job_id = ? AND name = ?",
        (lease.job_id, lease.name),
    ).fetchone()
    if is_past_retention(state, job):
        raise _No(410, "result_expired", "The result is past its retention.")
    if row is None or job.status != SUCCEEDED:
        raise _No(404, "not_found", "No such result.")
    media_type, body_bytes, sha256, is_manifest = row
    body = b"".join(pieces(state, lease.job_id, lease.name)) if body_bytes <= PIECE or is_manifest else None
    if body is not None and is_manifest:
        body = _with_urls(state, job, body, origin)
        body_bytes, sha256 = len(body), hashlib.sha256(body).hexdigest()
    return _File(lease=lease, media_type=media_type, body_bytes=body_bytes, etag=f'"{sha256[:32]}"', body=body)


def _with_urls(state: State, job: jobtable.Job, body: bytes, origin: str) -> bytes:
    document, names = loads(body), PROFILE.export_file_names
    for file in document[PROFILE.export_bulk.results]:
        file[names["url"]] = sign(state, job, file[names["name"]], origin=origin)
    return encode(document)


def is_past_retention(state: State, job: jobtable.Job) -> bool:
    """Whether the result may be gone (Q47: seven days after completion)."""
    if job.completed_ns is None or job.is_sandbox:
        return False
    return job.completed_ns <= state.clock.now_ns() - state.profile.result_retention_s * 1_000_000_000


def raw_routes(state: State) -> list[tuple[str, str, RawHandler]]:
    """The routes that need no token: (method, path prefix, handler)."""

    async def serve(incoming: Incoming) -> Outgoing:
        try:
            lease, job = _open_lease(state, incoming.path, incoming.query)
            file = _find(state, lease, job, incoming.origin)
        except _No as no:
            return _problem(no)
        fault = state.faults.strike("result.body", kind=job.kind, subject=job.id)
        if fault is not None:
            await state.clock.sleep(fault.delay_s(state.faults))
            if fault.flag("reset"):
                return Outgoing(abort=True)
            if status := fault.count("status"):
                failed = _problem(_No(status, "storage_error", "The storage does not answer."))
                return msgspec.structs.replace(failed, headers={**failed.headers, **fault.retry_headers()})
        return _spoiled(_answer(state, incoming, file), fault)

    return [("GET", PREFIX, serve), ("HEAD", PREFIX, serve)]


def _problem(no: _No) -> Outgoing:
    title = {403: "Forbidden", 404: "Not Found", 410: "Gone"}.get(no.status, "Service Unavailable")
    body = encode(Problem(title=title, status=no.status, detail=no.detail, code=no.code))
    return Outgoing(status=no.status, headers={"Content-Type": PROFILE.problem_type}, body=body)


def _answer(state: State, incoming: Incoming, file: _File) -> Outgoing:
    headers = {"Content-Type": file.media_type, "ETag": file.etag, "Accept-Ranges": "bytes", "Cache-Control": "private"}
    span = _asked_range(incoming, file)
    if span == ():
        headers["Content-Range"] = f"bytes */{file.body_bytes}"
        return Outgoing(status=416, headers=headers)
    start, end = span or (0, file.body_bytes)
    if span:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.body_bytes}"
    headers["Content-Length"] = str(end - start)
    status = 206 if span else 200
    if incoming.method == "HEAD":
        return Outgoing(status=status, headers=headers)
    body = _stream(state, file, start, end) if file.body is None else file.body[start:end]
    return Outgoing(status=status, headers=headers, body=body)


def _asked_range(incoming: Incoming, file: _File) -> tuple[int, int] | tuple[()] | None:
    """(start, end) of a range to serve, () when it cannot be satisfied, None to serve everything.

    Several ranges, malformed ones and ones whose If-Range no longer fits are answered with everything, as
    RFC 9110 (sections 13.1.5 and 14.2) allows. A date in If-Range never fits: this is the strong comparison.
    """
    match = _RANGE.fullmatch(incoming.headers.get("range", "").strip())
    condition = incoming.headers.get("if-range")
    if match is None or not (match[1] or match[2]) or (condition is not None and condition.strip() != file.etag):
        return None
    if not match[1]:
        length = min(int(match[2]), file.body_bytes)
        return (file.body_bytes - length, file.body_bytes) if length else ()
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    if start >= file.body_bytes:
        return ()
    return start, min(int(match[2]) + 1, file.body_bytes) if match[2] else file.body_bytes


async def _stream(state: State, file: _File, start: int, end: int) -> AsyncIterator[bytes]:
    left = end - start
    for piece in pieces(state, file.lease.job_id, file.lease.name, start):
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


def _spoiled(answer: Outgoing, fault: Fault | None) -> Outgoing:
    """The answer as the fault script wants it: cut short, or with one byte that is not what was stored."""
    if fault is None or answer.body is None:
        return answer
    body = answer.body
    if fault.flag("corrupt"):
        body = _corrupted(body) if isinstance(body, bytes) else _corrupted_stream(body)
    cut_after = fault.count("cut_after") if "cut_after" in fault.says else None
    return msgspec.structs.replace(answer, body=body, cut_after=cut_after)


def _corrupted(body: bytes) -> bytes:
    if not body:
        return body
    middle = len(body) // 2
    # The highest bit: what was ASCII is no longer UTF-8, so even a reader without digests can see it.
    return body[:middle] + bytes((body[middle] ^ 0x80,)) + body[middle + 1 :]


async def _corrupted_stream(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    is_first = True
    async for piece in body:
        yield _corrupted(piece) if is_first else piece
        is_first = False
