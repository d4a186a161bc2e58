"""Pool: who gets which connection. At most so many in all, first come first served, idle ones closed in time.

A place is a connection that is open or being opened. Whoever finds none waits in one line for all origins.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from engine.contract.exchange import Request
from engine.transport import failures
from engine.transport.connection import Connection
from engine.transport.deadlines import NEVER, Deadlines
from engine.transport.heads import Origin
from engine.transport.pace import GOODBYE_S

# The last is how many seconds it may take.
Dial = Callable[[Origin, Request, float], Awaitable[Connection]]


class _Waiter:
    """One in line; the future is a connection, or None: a place to open one."""

    __slots__ = ("deadline", "future", "origin", "request")

    def __init__(self, origin: Origin, request: Request, deadline: float) -> None:
        self.origin = origin
        self.request = request
        self.deadline = deadline
        self.future: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()


class Pool:
    """At most `concurrency` connections. Opened inside a running loop."""

    def __init__(self, dial: Dial, *, concurrency: int) -> None:
        self._dial = dial
        self._concurrency = concurrency
        self._places = 0
        self._idle: dict[Origin, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._line: deque[_Waiter] = deque()
        self._is_closed = False
        self._all_gone: asyncio.Future[None] | None = None
        self.deadlines = Deadlines(self._sweep)
        self.now = self.deadlines.now

    def take(self, origin: Origin) -> Connection | None:
        """An idle connection, the one that was used last; None: ask `obtain`."""
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                return connection
            connection.close()
        return None

    async def obtain(self, origin: Origin, request: Request, deadline: float) -> Connection:
        """Wait for a connection that comes free, or open one.

        Raises:
            TimedOut: none came free in time. ConnectFailed: it could not be opened.
        """
        while (connection := await self._place(origin, request, deadline)) is not None:
            if connection.is_usable:
                return connection
        try:
            connection = await self._dial(origin, request, deadline - self.now())
            if self._is_closed or not connection.is_usable:
                connection.abort()
                raise failures.pool_closed(request) if self._is_closed else failures.closed_unasked(request)
        except BaseException:
            self._free_place()
            raise
        self._open.add(connection)
        return connection

    async def aclose(self) -> None:
        """Close every connection; requests under way fail, and nothing is asked any more."""
        self._is_closed = True
        self.deadlines.close()
        while self._line:
            waiter = self._line.popleft()
            if not waiter.future.done():
                waiter.future.set_exception(failures.pool_closed(waiter.request))
        for connection in list(self._open):
            connection.end()
        if self._open:
            self._all_gone = asyncio.get_running_loop().create_future()
            await asyncio.wait((self._all_gone,), timeout=GOODBYE_S)
            for connection in list(self._open):
                connection.abort()

    # What connections call.

    def give_back(self, connection: Connection) -> None:
        """Hand it to whoever is next, or keep it."""
        line = self._line
        while line:
            waiter = line.popleft()
            if waiter.future.done():
                continue
            if waiter.origin is connection.origin:
                waiter.future.set_result(connection)
            else:
                line.appendleft(waiter)
                connection.close()
            return
        idle = self._idle.get(connection.origin)
        if idle is None:
            self._idle[connection.origin] = [connection]
        else:
            idle.append(connection)

    def drop(self, connection: Connection) -> None:
        """Its place is free, if it has been given one."""
        if connection not in self._open:
            return
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)
        if idle is not None and not idle:
            del self._idle[connection.origin]
        self._free_place()

    def forget(self, connection: Connection) -> None:
        """Its socket is closed."""
        self._open.discard(connection)
        if not self._open and self._all_gone is not None and not self._all_gone.done():
            self._all_gone.set_result(None)

    async def _place(self, origin: Origin, request: Request, deadline: float) -> Connection | None:
        if self._is_closed:
            raise failures.pool_closed(request)
        if self._places >= self._concurrency:
            self._evict()
        if self._places < self._concurrency and not self._line:
            self._places += 1
            return None
        waiter = _Waiter(origin, request, deadline)
        self._line.append(waiter)
        self.deadlines.note(deadline)
        try:
            return await waiter.future
        except BaseException:
            # It may have been served in the moment it was cancelled.
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                connection = waiter.future.result()
                if connection is None:
                    self._free_place()
                elif connection.is_usable:
                    self.give_back(connection)
            raise

    def _evict(self) -> None:
        """Close an idle connection to somewhere else, the one that has lain longest of its origin."""
        for idle in self._idle.values():
            if idle:
                idle[0].close()
                return

    def _free_place(self) -> None:
        self._places -= 1
        while self._line and self._places < self._concurrency:
            waiter = self._line.popleft()
            if not waiter.future.done():
                self._places += 1
                waiter.future.set_result(None)

    def _sweep(self, now: float) -> float:
        earliest = NEVER
        for connection in list(self._open):
            if connection.deadline <= now:
                connection.overdue(now)
            earliest = min(earliest, connection.deadline)
        self._line = deque(waiter for waiter in self._line if not waiter.future.done())
        for waiter in self._line:
            if waiter.deadline <= now:
                waiter.future.set_exception(failures.timed_out(waiter.request))
            else:
                earliest = min(earliest, waiter.deadline)
        return earliest
