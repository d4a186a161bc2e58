"""Driver: one request over and over on kept connections, without a client library; drives servers to their limit."""

from __future__ import annotations

import asyncio
from typing import Any

import uvloop

from benchmarks.rounds import Failed, Meter


class _Line(asyncio.Protocol):
    """One connection: the next request leaves when an answer has come in whole."""

    def __init__(self, requests: Any, over: asyncio.Event) -> None:
        self._requests, self._over, self._held = requests, over, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._out: asyncio.WriteTransport = transport  # type: ignore[assignment]
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._out.close()
        else:
            self._out.write(request)

    def data_received(self, data: bytes) -> None:
        data = self._held + data
        self._held = data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return
        head = data[:end].lower()
        at = head.find(b"content-length:")
        if at < 0 or not head.startswith((b"http/1.1 201", b"http/1.1 200")):
            raise Failed(f"the server answered {head[:200]!r}")
        length = int(head[at + 15 :].partition(b"\r\n")[0])
        if len(data) >= end + 4 + length:
            self._held = b""
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._over.set()


def posting(*, host: str, port: int, token: str, count: int, connections: int, body: str) -> dict[str, Any]:
    """A contestant: `count` creates, each with a key of its own."""
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(body)}\r\nIdempotency-Key: "
    )
    requests = (f"{head}{number:08}-0000-4000-8000-000000000000\r\n\r\n{body}".encode() for number in range(count))

    async def go() -> None:
        loop, lines = asyncio.get_running_loop(), [asyncio.Event() for _ in range(connections)]
        failures: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: failures.append(context))
        for over in lines:
            await loop.create_connection(lambda over=over: _Line(requests, over), host, port)  # type: ignore[misc]
        for over in lines:
            await over.wait()
        if failures:
            raise Failed(str(failures[0]))

    with Meter() as meter:
        uvloop.run(go())
    return meter.answer(count)
