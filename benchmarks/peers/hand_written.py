"""Hand-written clients: what a good engineer writes in an afternoon with aiohttp or httpx, and no guarantee in it.

No ledger, no idempotency key, no trace, no limiter, no retry, no digest: what dies here loses rows or doubles them.
aiohttp gets every public knob that made it faster: uvloop, no cookie jar, no inflating, prebuilt URLs, bytes as bodies.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import uvloop

from benchmarks.rounds import Failed, Meter

_JSON = {"Content-Type": "application/json"}
_POLL_S = 0.01
# Sends method, URL and body, and answers the bytes that came.
Ask = Callable[[str, str, bytes | None], Awaitable[bytes]]


@asynccontextmanager
async def _aiohttp(connections: int) -> AsyncIterator[Ask]:
    import aiohttp
    from yarl import URL

    connector = aiohttp.TCPConnector(limit=connections)
    jar = aiohttp.DummyCookieJar()
    urls: dict[str, URL] = {}
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, auto_decompress=False) as session:

        async def ask(method: str, url: str, body: bytes | None) -> bytes:
            parsed = urls.get(url) or URL(url, encoded=True)
            if body is not None:
                urls[url] = parsed
            async with session.request(method, parsed, data=body, headers=_JSON if body else None) as answer:
                return await answer.read()

        yield ask


@asynccontextmanager
async def _httpx(connections: int) -> AsyncIterator[Ask]:
    import httpx

    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    async with httpx.AsyncClient(limits=limits, timeout=30.0) as client:

        async def ask(method: str, url: str, body: bytes | None) -> bytes:
            answer = await client.request(method, url, content=body, headers=_JSON if body else None)
            return answer.content

        yield ask


_CLIENTS = {"aiohttp": _aiohttp, "httpx": _httpx}


def creating(*, url: str, source: str, client: str, connections: int) -> dict[str, Any]:
    """A contestant: one create for each row of the file; the first tenth is not counted, as with ours."""
    return uvloop.run(_creating(url, Path(source).read_bytes().splitlines(), client, connections))


async def _creating(url: str, lines: list[bytes], client: str, connections: int) -> dict[str, Any]:
    jobs = f"{url}/v1/jobs"

    async def work(ask: Ask, source: Iterator[bytes]) -> None:
        for line in source:
            body = b'{"kind":"intelligence.enrich.bulk","payload":{"profile_ids":[%b]}}' % line[6:-1]
            orjson.loads(await ask("POST", jobs, body))["id"]

    async with _CLIENTS[client](connections) as ask:
        warm = len(lines) // 10
        await _together(connections, lambda source: work(ask, source), iter(lines[:warm]))
        with Meter() as meter:
            await _together(connections, lambda source: work(ask, source), iter(lines[warm:]))
    return meter.answer(len(lines) - warm)


async def _together(workers: int, work: Callable[[Iterator[Any]], Awaitable[None]], source: Iterator[Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work(source))  # type: ignore[arg-type]


def whole(*, url: str, source: str, client: str, batch: int, in_flight: int) -> dict[str, Any]:
    """A contestant: jobs of `batch` rows, each created, polled and fetched, and its rows written."""
    import_module(client)  # Counted for nobody.
    gc.collect()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "out.ndjson"
        with Meter() as meter:
            read = uvloop.run(_whole(url, Path(source), out, client, batch, in_flight))
        written = out.read_bytes().count(b"\n")
    if read != written:
        raise Failed(f"{read} rows were read and {written} written")
    return meter.answer(read)


async def _whole(url: str, source: Path, out: Path, client: str, batch: int, in_flight: int) -> int:
    read = 0

    def batches(file: BinaryIO) -> Iterator[list[bytes]]:
        nonlocal read
        while lines := list(islice(file, batch)):
            read += len(lines)
            yield lines

    with source.open("rb") as file, out.open("wb") as sink:
        async with _CLIENTS[client](in_flight) as ask:

            async def work(jobs: Iterator[list[bytes]]) -> None:
                for lines in jobs:
                    sink.write(await _one(ask, url, lines))

            await _together(in_flight, work, batches(file))
    return read


async def _one(ask: Ask, url: str, lines: list[bytes]) -> bytes:
    """One job from its rows to its rows."""
    ids = [orjson.loads(line)["id"] for line in lines]
    body = orjson.dumps({"kind": "intelligence.enrich.bulk", "payload": {"profile_ids": ids}})
    job = orjson.loads(await ask("POST", f"{url}/v1/jobs", body))["id"]
    status = "queued"
    while status != "succeeded":
        await asyncio.sleep(_POLL_S)
        status = orjson.loads(await ask("GET", f"{url}/v1/jobs/{job}", None))["status"]
    link = orjson.loads(await ask("GET", f"{url}/v1/jobs/{job}/result", None))["signed_url"]
    rows = orjson.loads(await ask("GET", link, None))["results"]
    return b"".join(
        [orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows if row["status"] == "succeeded"]
    )
