"""Bare: the least Python that can do the work of P7, as the limit to measure against; nobody should run it.

A `Protocol` for each connection, llhttp, bodies joined from bytes, results decoded by msgspec into the fields in use
and encoded again. No ledger, key, trace, limiter, retry, digest, TLS, deadline or cap, and no connection that breaks.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httptools
import msgspec
import uvloop

from benchmarks.rounds import Failed, Meter

_POLL_S = 0.01
_ID_AT = len(b'{"id":')


class _Row(msgspec.Struct, gc=False):
    profile_id: str
    status: str
    enrichment_score: int | None = None
    attributes: msgspec.Raw = msgspec.Raw()


class _Result(msgspec.Struct, gc=False):
    results: list[_Row]


class _Job(msgspec.Struct, gc=False):
    id: str
    status: str = ""


class _Link(msgspec.Struct, gc=False):
    signed_url: str


_result, _job, _link = (msgspec.json.Decoder(kind).decode for kind in (_Result, _Job, _Link))
_encode_lines = msgspec.json.Encoder().encode_lines


class _Line(asyncio.Protocol):
    """One connection, one question at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._pieces: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._out: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        self._parser, self._answer = httptools.HttpResponseParser(self), self._loop.create_future()
        self._out.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        pieces, self._pieces = self._pieces, []
        self._answer.set_result(pieces[0] if len(pieces) == 1 else b"".join(pieces))


def whole(*, url: str, source: str, batch: int, in_flight: int) -> dict[str, Any]:
    """A contestant: jobs of `batch` rows, each created, polled and fetched, and its rows written."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "out.ndjson"
        with Meter() as meter:
            read = uvloop.run(_whole(url, Path(source), out, batch, in_flight))
        written = out.read_bytes().count(b"\n")
    if read != written:
        raise Failed(f"{read} rows were read and {written} written")
    return meter.answer(read)


async def _whole(url: str, source: Path, out: Path, batch: int, in_flight: int) -> int:
    where, read = urlsplit(url), 0
    host = f"Host: {where.netloc}\r\n\r\n".encode()

    def batches(file: BinaryIO) -> Iterator[list[bytes]]:
        nonlocal read
        while lines := list(islice(file, batch)):
            read += len(lines)
            yield lines

    async def work(jobs: Iterator[list[bytes]], sink: BinaryIO) -> None:
        _, line = await asyncio.get_running_loop().create_connection(_Line, where.hostname, where.port)
        for lines in jobs:
            ids = b",".join([one[_ID_AT:-2] for one in lines])
            body = b'{"kind":"intelligence.enrich.bulk","payload":{"profile_ids":[%b]}}' % ids
            head = b"POST /v1/jobs HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
            path = b"GET /v1/jobs/" + _job(await line.ask(head + host + body)).id.encode()
            status = ""
            while status != "succeeded":
                await asyncio.sleep(_POLL_S)
                status = _job(await line.ask(path + b" HTTP/1.1\r\n" + host)).status
            link = _link(await line.ask(path + b"/result HTTP/1.1\r\n" + host)).signed_url
            rows = _result(await line.ask(b"GET %b HTTP/1.1\r\n%b" % (link.removeprefix(url).encode(), host))).results
            sink.write(_encode_lines([row for row in rows if row.status == "succeeded"]))

    with source.open("rb") as file, out.open("wb") as sink:
        jobs = batches(file)
        async with asyncio.TaskGroup() as group:
            for _ in range(in_flight):
                group.create_task(work(jobs, sink))
    return read
