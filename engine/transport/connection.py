"""Connection: one socket, and one request at a time on it.

Knows when it may be used again, and never is otherwise: not after an error, a cancellation, bytes that nobody asked
for, an answer that came before the request had left. Which connection serves whom is `pool`'s matter.
"""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from engine.contract.exchange import Request, Response
from engine.errors import EngineError
from engine.transport import failures
from engine.transport.answer import AnswerReader, BadAnswer, Oversized
from engine.transport.deadlines import NEVER, Deadlines
from engine.transport.heads import Origin
from engine.transport.intake import Intake
from engine.transport.pace import KEEPALIVE_S

# Below this, joining head and body costs less than a second buffer in the system call.
_JOINED_MAX = 64 * 1024


class Keeper(Protocol):
    """Whoever has the connections; `pool` for the engine."""

    deadlines: Deadlines

    def give_back(self, connection: Connection) -> None:
        """It is free, and as good as new."""

    def drop(self, connection: Connection) -> None:
        """It is of no more use; told once."""

    def forget(self, connection: Connection) -> None:
        """Its socket is closed; the last that is heard of it."""


class Connection(asyncio.Protocol):
    """Made by the loop, for one origin. `deadline` is when `overdue` is to be called, of whatever it waits for now."""

    __slots__ = (
        "_deadlines", "_future", "_idle_until", "_intake", "_is_closed", "_keeper", "_loop", "_reader", "_request",
        "_uses", "body_max", "deadline", "has_begun", "origin", "transport",
    )  # fmt: skip

    def __init__(self, keeper: Keeper, origin: Origin, body_max: int) -> None:
        self.origin = origin
        self.body_max = body_max
        self.deadline = NEVER
        self.has_begun = False
        self._keeper = keeper
        self._deadlines = keeper.deadlines
        self._loop = asyncio.get_running_loop()
        self._idle_until = NEVER
        self._reader = AnswerReader(body_max)
        self._request: Request | None = None
        self._future: asyncio.Future[Response] | None = None
        self._intake: Intake | None = None
        self._uses = 0
        self._is_closed = False

    @property
    def is_usable(self) -> bool:
        """Whether a request may be put on it."""
        return not self._is_closed and not self.transport.is_closing()

    @property
    def was_stale(self) -> bool:
        """Whether the last request found a connection that had been used before, and heard nothing on it."""
        return self._uses > 1 and not self.has_begun

    def ask(self, request: Request, head: bytes, deadline: float) -> asyncio.Future[Response]:
        """Send a request; the future is its whole answer, under `body_max`."""
        self._reader.expect(is_head=request.method == "HEAD")
        self._future = future = self._loop.create_future()
        self._send(request, head, deadline)
        return future

    def open(self, request: Request, head: bytes, intake: Intake) -> None:
        """Send a request; its answer goes to `intake` as it comes."""
        self._reader.expect(is_head=request.method == "HEAD", sink=intake.put)
        self._intake = intake
        intake.begin(self)
        self._send(request, head, self._deadlines.now() + request.timeout_s)

    def wait_until(self, deadline: float) -> None:
        """Be overdue then."""
        self.deadline = deadline
        if deadline < self._deadlines.rings_at:
            self._deadlines.note(deadline)

    def pause(self) -> None:
        """Read no more for now."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def abandon(self, reader: asyncio.Future[Response] | Intake) -> None:
        """Whoever asked wants the answer no more; it may still come, so nobody else may have the connection."""
        if reader is self._future or reader is self._intake:
            self._leave()
            self.abort()
        elif isinstance(reader, asyncio.Future) and reader.done() and not reader.cancelled():
            reader.exception()  # Seen, so that the loop does not complain of one that nobody saw.

    def overdue(self, now: float) -> None:
        """The deadline has passed: of a request, or of lying idle, which is counted from the last request."""
        if self._request is not None:
            self._fail(failures.timed_out(self._request))
        elif self._idle_until <= now:
            self.close()
        else:
            self.deadline = self._idle_until

    def end(self) -> None:
        """The transport is being closed, whatever is under way."""
        if self._request is None:
            self.close()
        else:
            self._fail(failures.failed_under(self._request, ConnectionAbortedError()))

    def close(self) -> None:
        """Say goodbye, where TLS has a word for it."""
        self._drop()
        self.transport.close()

    def abort(self) -> None:
        """Close at once; what is not yet sent is thrown away."""
        self._drop()
        self.transport.abort()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands, TLS included."""
        # uvloop's transports are asyncio's in deed but not by descent.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer; or of none, and then this is no connection to ask anything on."""
        request = self._request
        if request is None:
            self.abort()
            return
        self.has_begun = True
        reader = self._reader
        try:
            reader.feed(data)
        except BadAnswer:
            self._fail(failures.cut(request) if reader.is_head_read else failures.not_http(request))
            return
        except Oversized as exc:
            self._fail(failures.too_large(request, self.body_max, exc.declared))
            return
        if reader.is_whole:
            self._finish(request)
        elif self._intake is not None and reader.is_head_read:
            self._intake.open(reader.status, reader.headers)

    def eof_received(self) -> None:
        """The peer sends no more: what is not whole by now never will be."""
        if self._request is None:
            self.close()
        else:
            self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._end(exc)
        self._drop()
        self._keeper.forget(self)

    def _send(self, request: Request, head: bytes, deadline: float) -> None:
        self._request = request
        self._uses += 1
        self.has_begun = False
        self._idle_until = deadline - request.timeout_s + KEEPALIVE_S
        self.deadline = deadline
        if deadline < self._deadlines.rings_at:
            self._deadlines.note(deadline)
        body = request.body
        if not body:
            self.transport.write(head)
        elif len(body) <= _JOINED_MAX:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))

    def _finish(self, request: Request) -> None:
        reader = self._reader
        future, intake = self._future, self._intake
        self._request = self._future = self._intake = None
        if future is not None:
            if not future.done():
                pieces = reader.pieces
                body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
                future.set_result(Response(reader.status, reader.headers, body))
        elif intake is not None:
            intake.open(reader.status, reader.headers)
            intake.end()
            self.wait_until(self._idle_until)
        if self.transport.get_write_buffer_size():
            # The answer came first: the rest of the request would be read as the next one.
            self.abort()
        elif reader.keeps and not self._is_closed:
            self._keeper.give_back(self)
        else:
            self.close()

    def _end(self, exc: Exception | None) -> None:
        request = self._request
        if request is None:
            return
        reader = self._reader
        if exc is None and reader.end():
            self._finish(request)
        elif reader.is_head_read:
            self._fail(failures.cut(request))
        elif exc is None:
            self._fail(failures.closed_early(request))
        else:
            self._fail(failures.failed_under(request, exc))

    def _fail(self, error: EngineError) -> None:
        future, intake = self._future, self._intake
        self._leave()
        self.abort()
        if future is not None and not future.done():
            future.set_exception(error)
        elif intake is not None:
            intake.fail(error)

    def _leave(self) -> None:
        self._request = self._future = self._intake = None
        self.deadline = NEVER

    def _drop(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._keeper.drop(self)
