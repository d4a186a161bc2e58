"""Direct: requests straight to their hosts over connections of our own, at a fraction of what a library costs.

The same promises as `pooled`, held by the same tests. It knows no proxies: who needs one is not sent here.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType

from engine.contract.exchange import Request, Response
from engine.errors import BrokenAnswer
from engine.ports import BodyStream
from engine.transport import failures
from engine.transport.connection import Connection
from engine.transport.dialing import Dialer, Resolve, look_up
from engine.transport.guard import Guard
from engine.transport.heads import Heads, NoUrl, Origin
from engine.transport.intake import Intake
from engine.transport.pace import BODY_MAX
from engine.transport.pool import Pool

# RFC 9110 section 9.2.2: asking these twice does what asking once does.
_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))


class DirectTransport:
    """A `Transport` over at most `concurrency` connections, opened on first use.

    `guard` judges every address before it is connected to; None admits all, for hosts of our own
    configuration. `resolve` is for tests; otherwise the system resolves names, on a thread.
    """

    def __init__(
        self,
        *,
        concurrency: int = 32,
        guard: Guard | None = None,
        body_max: int = BODY_MAX,
        resolve: Resolve = look_up,
    ) -> None:
        self._concurrency = concurrency
        self._body_max = body_max
        self._dialer = Dialer(guard=guard, resolve=resolve)
        self._heads = Heads()
        self._pool: Pool | None = None

    async def send(self, request: Request) -> Response:
        """Send and read the whole answer under `body_max`; see `ports.Transport.send`.

        Raises:
            CapExceeded: the body is larger. AddressRefused: the guard refused the address.
        """
        pool = self._pool or self._open()
        origin, head = self._written(request)
        deadline = pool.now() + request.timeout_s
        connection = pool.take(origin) or await pool.obtain(origin, request, deadline)
        while True:
            answer = connection.ask(request, head, deadline)
            try:
                return await answer
            except asyncio.CancelledError:
                connection.abandon(answer)
                raise
            except BrokenAnswer:
                if not (connection.was_stale and request.method in _IDEMPOTENT):
                    raise
            # It had been closed as it lay idle, which is no failure yet.
            connection = await pool.obtain(origin, request, deadline)

    def stream(self, request: Request) -> AbstractAsyncContextManager[BodyStream]:
        """Send, and hand out the body as it arrives.

        `timeout_s` is the deadline of the head, then the longest silence, and the time in which at least
        `RATE_MIN` bytes a second must have come; time in which nobody reads does not count.
        """
        return _Streaming(self, request)

    async def aclose(self) -> None:
        """Close every connection; requests under way fail."""
        pool = self._pool or self._open()
        await pool.aclose()

    async def begin(self, request: Request) -> Intake:
        """Send a request whose answer is read as it comes; for `stream`."""
        pool = self._pool or self._open()
        origin, head = self._written(request)
        deadline = pool.now() + request.timeout_s
        connection = pool.take(origin) or await pool.obtain(origin, request, deadline)
        while True:
            intake = Intake(request)
            connection.open(request, head, intake)
            try:
                await intake.head()
                return intake
            except BrokenAnswer:
                if not (connection.was_stale and request.method in _IDEMPOTENT):
                    raise
            except asyncio.CancelledError:
                intake.close()
                raise
            connection = await pool.obtain(origin, request, deadline)

    def _open(self) -> Pool:
        self._pool = Pool(self._dial, concurrency=self._concurrency)
        return self._pool

    def _written(self, request: Request) -> tuple[Origin, bytes]:
        try:
            return self._heads.write(request)
        except NoUrl:
            raise failures.no_url(request) from None
        except ValueError:
            # Not `from`: it may quote what was not to be written.
            raise failures.not_writable(request) from None

    async def _dial(self, origin: Origin, request: Request, within_s: float) -> Connection:
        make = partial(Connection, self._pool or self._open(), origin, self._body_max)
        return await self._dialer.dial(origin, request, make, within_s=within_s)


class _Streaming:
    """An answer being opened; leaving the block gives the connection back, or closes it if bytes are to come."""

    def __init__(self, transport: DirectTransport, request: Request) -> None:
        self._transport = transport
        self._request = request
        self._intake: Intake | None = None

    async def __aenter__(self) -> Intake:
        self._intake = await self._transport.begin(self._request)
        return self._intake

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._intake is not None:
            self._intake.close()
