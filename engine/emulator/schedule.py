"""A schedule: things that are due at a moment, and a way to wait for the next of them without polling.

One waiter. Times are wall nanoseconds, as they are stored; waiting is the clock's business.
"""

from __future__ import annotations

import asyncio
import heapq

from engine.ports import Clock


class Schedule:
    """Keys by due time. A key may be due several times; whoever takes it knows whether it still matters."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[int, str]] = []
        self._poked = asyncio.Event()

    def put(self, at_ns: int, key: str) -> None:
        """Have `key` come due at `at_ns`."""
        heapq.heappush(self._heap, (at_ns, key))
        if self._heap[0] == (at_ns, key):
            self._poked.set()

    def poke(self) -> None:
        """End the current wait, or the next one."""
        self._poked.set()

    def take_due(self) -> list[str]:
        """The keys whose time has come, earliest first."""
        now_ns = self._clock.now_ns()
        due = []
        while self._heap and self._heap[0][0] <= now_ns:
            due.append(heapq.heappop(self._heap)[1])
        return due

    async def wait(self) -> None:
        """Return when something may be due, or when poked."""
        if not self._poked.is_set():
            if not self._heap:
                await self._poked.wait()
            else:
                await self._wait_until(self._heap[0][0])
        self._poked.clear()

    async def _wait_until(self, at_ns: int) -> None:
        seconds = (at_ns - self._clock.now_ns()) / 1e9
        if seconds <= 0:
            return
        alarm = asyncio.ensure_future(self._clock.sleep(seconds))
        poke = asyncio.ensure_future(self._poked.wait())
        try:
            await asyncio.wait((alarm, poke), return_when=asyncio.FIRST_COMPLETED)
        finally:
            alarm.cancel()
            poke.cancel()
