"""One connection that is served: requests in the order they came, answers in the same order, and how it ends.

Handlers see whole requests, one at a time for each connection; what is sent ahead of its turn waits, and is not read
without bound. Routes nothing and keeps no log.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol, cast

from engine.transport.incoming import Handle, Outgoing, Refuse
from engine.transport.request_parser import Malformed, Parsed, RequestParser

# Requests that wait for their turn; more are not read.
_WAITING_MAX = 16
_KEEPALIVE_S = 75.0
# For so long what a refused sender still sends is read and thrown away, so that he can read the refusal.
_LINGER_S = 5.0
# A whole body gets this many times the patience that a head gets.
_BODY_PATIENCE = 3
_JOINED_MAX = 64 * 1024
# SO_LINGER with zero seconds: closing sends RST and throws unsent bytes away (socket(7)).
_RESET = struct.pack("ii", 1, 0)
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_BODILESS = (204, 304)


class House(Protocol):
    """What a connection needs of its listener."""

    origin: str
    body_max: int
    handle: Handle
    refuse: Refuse


class Connection(asyncio.Protocol):
    """Serves one connection; `gone` is called once when it is over."""

    def __init__(self, house: House, gone: Callable[[Connection], None]) -> None:
        self._house = house
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._parser = RequestParser(origin=house.origin, body_max=house.body_max)
        self._waiting: deque[Parsed | None] = deque()
        self._task: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._is_paused = self._is_shut = self._is_lingering = False
        self._since = self._loop.time()
        self.transport: asyncio.Transport | None = None
        self.is_busy = False

    # What the loop calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._is_lingering:
            return
        if self._parser.is_idle:
            self._since = self._loop.time()
        was_in_body = self._parser.is_in_body
        try:
            found: list[Parsed | None] = [*self._parser.feed(data)]
        except Malformed:
            found = [None]
        if self._parser.is_in_body and not was_in_body:
            self._since = self._loop.time()
        if self._parser.wants_word and not self._waiting and not self.is_busy and self.transport is not None:
            self._parser.wants_word = False
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if found:
            self._take(found)

    def eof_received(self) -> bool:
        """The peer sends no more; what it asked for is still answered."""
        self._is_shut = True
        return self.is_busy or bool(self._waiting)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self.transport = None
        for future in (self._news, self._drained):
            if future is not None and not future.done():
                future.set_exception(ConnectionResetError())
                future.exception()
        if self._task is not None and not self.is_busy:
            self._task.cancel()
        self._gone(self)

    def pause_writing(self) -> None:
        """The peer takes no more for now."""
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        """It takes more again."""
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # What the listener calls -------------------------------------------------------------------

    def sweep(self, now: float, head_s: float) -> None:
        """End what is overdue: a head, a body, a silence, a sender who was refused."""
        if self.transport is None:
            return
        waited = now - self._since
        if self._is_lingering:
            if waited > _LINGER_S:
                self.transport.abort()
        elif self._parser.is_in_body:
            if waited > head_s * _BODY_PATIENCE and not self._parser.is_over:
                self._take([self._parser.refuse(408)])
        elif not (self.is_busy or self._waiting):
            limit = head_s if self._parser.is_in_head or self._task is None else _KEEPALIVE_S
            if waited > limit:
                self.transport.abort()

    async def aclose(self, within_s: float) -> None:
        """End it: at once where nothing is answered, else after a moment."""
        if self.is_busy and self._task is not None:
            self._is_shut = True
            await asyncio.wait((self._task,), timeout=within_s)
        if self._task is not None:
            self._task.cancel()
        if self.transport is not None:
            self.transport.close()

    # Answering ---------------------------------------------------------------------------------

    def _take(self, found: list[Parsed | None]) -> None:
        self._waiting.extend(found)
        if len(self._waiting) > _WAITING_MAX and self.transport is not None and not self._is_paused:
            self._is_paused = True
            self.transport.pause_reading()
        if self._task is None:
            self._task = self._loop.create_task(self._serve())
        elif self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _serve(self) -> None:
        try:
            while self.transport is not None:
                if not self._waiting:
                    if self._is_shut:
                        break
                    self._news = self._loop.create_future()
                    await self._news
                    continue
                self.is_busy = True
                is_kept = await self._answer(self._waiting.popleft())
                self.is_busy = False
                self._since = self._loop.time()
                if not is_kept:
                    self._leave()
                    return
                self._read_on()
            if self.transport is not None:
                self.transport.close()
        except (ConnectionResetError, BrokenPipeError):
            pass  # The peer is gone; nobody reads an answer any more.
        except Exception:
            # A handler that fails is a bug of ours, and none of its words are the caller's.
            if self.transport is not None:
                self.transport.write(_head(500, {"Content-Length": "0", "Connection": "close"}))
                self.transport.close()
            raise
        finally:
            self.is_busy = False

    def _read_on(self) -> None:
        if self._is_paused and len(self._waiting) <= _WAITING_MAX // 2 and self.transport is not None:
            self._is_paused = False
            self.transport.resume_reading()

    def _leave(self) -> None:
        """After the last answer: what still comes is read and thrown away for a while, then the connection ends."""
        transport = self.transport
        if transport is None:
            return
        if self._parser.is_over and not self._is_shut:
            self._is_lingering = True
            if transport.can_write_eof():
                transport.write_eof()
            return
        transport.close()

    async def _answer(self, parsed: Parsed | None) -> bool:
        """Answer one request; whether the connection goes on."""
        if parsed is None:
            self._write(_head(400, {"Content-Length": "0", "Connection": "close"}))
            return False
        house, incoming = self._house, parsed.incoming
        outgoing = house.refuse(incoming, parsed.status) if parsed.status else await house.handle(incoming)
        is_kept = parsed.is_kept and not self._is_shut and not self._parser.is_over
        if outgoing.abort:
            self._reset()
            return True
        has_body = incoming.method != "HEAD" and outgoing.status not in _BODILESS
        body = outgoing.body
        if body is None or isinstance(body, bytes):
            await self._send_whole(outgoing, body or b"", has_body=has_body, is_kept=is_kept)
        else:
            await self._send_pieces(outgoing, body, has_body=has_body, is_kept=is_kept)
        return is_kept

    async def _send_whole(self, outgoing: Outgoing, body: bytes, *, has_body: bool, is_kept: bool) -> None:
        headers = dict(outgoing.headers)
        told = [name for name in headers if name.lower() == "content-length"]
        # To HEAD a handler may tell the length of what GET would send.
        if has_body or not told:
            for name in told:
                del headers[name]
            if outgoing.status not in _BODILESS:
                headers["Content-Length"] = str(len(body))
        if not is_kept:
            headers["Connection"] = "close"
        head = _head(outgoing.status, headers)
        if not has_body:
            self._write(head)
        elif outgoing.cut_after is not None and outgoing.cut_after < len(body):
            self._write(head + body[: outgoing.cut_after])
            await self._flushed()
            self._reset()
        elif len(body) <= _JOINED_MAX:
            self._write(head + body)
        else:
            self._write(head)
            for start in range(0, len(body), _JOINED_MAX):
                self._write(body[start : start + _JOINED_MAX])
                await self._drain()

    async def _send_pieces(
        self, outgoing: Outgoing, body: AsyncIterator[bytes], *, has_body: bool, is_kept: bool
    ) -> None:
        headers = dict(outgoing.headers)
        is_chunked = "content-length" not in {name.lower() for name in headers}
        if is_chunked:
            headers["Transfer-Encoding"] = "chunked"
        if not is_kept:
            headers["Connection"] = "close"
        self._write(_head(outgoing.status, headers))
        if not has_body:
            return
        left = outgoing.cut_after
        async for whole in body:
            piece = whole if left is None else whole[:left]
            if piece:
                self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
                await self._drain()
            if left is not None:
                left -= len(piece)
                if not left:
                    await self._flushed()
                    self._reset()
                    return
        if is_chunked:
            self._write(b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)

    async def _drain(self) -> None:
        if self._drained is not None:
            await self._drained

    async def _flushed(self) -> None:
        """Wait until what was written has left."""
        for _ in range(1000):
            if self.transport is None or not self.transport.get_write_buffer_size():
                return
            await asyncio.sleep(0.001)

    def _reset(self) -> None:
        """End the connection with a reset, throwing away what has not left."""
        if self.transport is None:
            return
        handle = self.transport.get_extra_info("socket")
        if handle is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()
        self.transport = None


class _Dates:
    """The Date header, made anew once a second."""

    second = 0
    line = b""

    @classmethod
    def now(cls) -> bytes:
        second = int(time.time())
        if second != cls.second:
            cls.second = second
            cls.line = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return cls.line


def _head(status: int, headers: dict[str, str]) -> bytes:
    """The head of an answer. A line break in a header is a bug of ours, and never leaves.

    Raises:
        ValueError: there is one.
    """
    text = "".join([f"{name}: {value}\n" for name, value in headers.items()])
    if "\r" in text or text.count("\n") != len(headers):
        raise ValueError("a header of an answer holds a line break")
    text = text.replace("\n", "\r\n")
    line = _LINES.get(status) or f"HTTP/1.1 {status} \r\n".encode()
    return b"".join((line, _Dates.now(), text.encode("latin-1"), b"\r\n"))
