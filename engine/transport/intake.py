"""Intake: where the body of a streamed answer lies between the connection that brings it and whoever reads it.

Bounded: over the mark the connection reads no more until the reader has caught up, so the peer feels it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

from engine.contract.exchange import Request
from engine.errors import EngineError
from engine.transport.pace import CHUNK_BYTES, Pace

_HIGH = 4 * CHUNK_BYTES
_LOW = CHUNK_BYTES
_NEVER = float("inf")


class Bringer(Protocol):
    """Whoever brings the answer; `connection` for the engine."""

    def wait_until(self, deadline: float) -> None:
        """Be timed out then."""

    def pause(self) -> None:
        """Bring no more for now."""

    def resume(self) -> None:
        """Go on."""

    def abandon(self, reader: Any) -> None:
        """`reader` wants no more."""


class Intake:
    """A `BodyStream` once `head` has returned; its connection calls `open`, `put`, and one of `end` and `fail`."""

    def __init__(self, request: Request) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self._request = request
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._is_open = self._is_ended = self._is_paused = False
        self._error: EngineError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._connection: Bringer | None = None

    async def head(self) -> None:
        """Wait for the head of the answer.

        Raises:
            TransportError: it does not come.
        """
        while not self._is_open:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def chunks(self) -> AsyncIterator[bytes]:
        """As `ports.BodyStream.chunks`."""
        pace = Pace(self._request)
        pieces = self._pieces
        while True:
            pace.wait()
            while not pieces:
                if self._error is not None:
                    raise self._error
                if self._is_ended:
                    return
                await self._wait_for_more()
            piece = pieces.popleft()
            pace.came(len(piece))
            self._size -= len(piece)
            if self._is_paused and self._size <= _LOW and self._connection is not None:
                self._is_paused = False
                self._connection.resume()
            yield piece

    def close(self) -> None:
        """Nobody reads any more; a connection that still brings something is closed."""
        if self._connection is not None:
            self._connection.abandon(self)
        self._leave()

    # What the connection calls.

    def begin(self, connection: Bringer) -> None:
        """The request is on this connection."""
        self._connection = connection

    def open(self, status: int, headers: Mapping[str, str]) -> None:
        """The head is there; time runs only while somebody waits."""
        if not self._is_open:
            self._is_open = True
            self.status, self.headers = status, headers
            if self._connection is not None:
                self._connection.wait_until(_NEVER)
        self._wake()

    def put(self, piece: bytes) -> None:
        """A piece of the body."""
        if len(piece) <= CHUNK_BYTES:
            self._pieces.append(piece)
        else:
            self._pieces.extend(piece[at : at + CHUNK_BYTES] for at in range(0, len(piece), CHUNK_BYTES))
        self._size += len(piece)
        if self._size > _HIGH and not self._is_paused and self._connection is not None:
            self._is_paused = True
            self._connection.pause()

    def end(self) -> None:
        """The body is whole; the connection belongs to others now."""
        self._is_ended = True
        if self._is_paused and self._connection is not None:
            self._connection.resume()
        self._leave()
        self._wake()

    def fail(self, error: EngineError) -> None:
        """No more will come, and the body is not whole."""
        self._error = error
        self._leave()
        self._wake()

    async def _wait_for_more(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.wait_until(asyncio.get_running_loop().time() + self._request.timeout_s)
        await self._wait()
        if self._connection is not None:
            self._connection.wait_until(_NEVER)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _leave(self) -> None:
        self._connection = None
        self._is_paused = False
