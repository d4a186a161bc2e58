"""Time as a seam: what the wall says, what the stopwatch says, and how to wait.

Everything that needs time takes a `Clock`. Wall time is for what others read (timestamps, expiry);
monotonic time for every interval, so a stepped wall clock stalls nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from typing import Any


def hold_time(future: asyncio.Future[Any]) -> None:
    """Say that a thread works on this: where time leaps (`engine test`) it waits meanwhile. Nothing elsewhere."""
    hold = getattr(future.get_loop(), "hold", None)
    if hold is not None:
        hold(future)


class SystemClock:
    """The machine's own clocks: wall time in nanoseconds since 1970-01-01 UTC, and seconds that never go back."""

    # The functions themselves: each request asks them several times.
    now_ns = staticmethod(time.time_ns)
    monotonic = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Wait; returns at once for zero or less, after letting others run."""
        await asyncio.sleep(max(0.0, seconds))


class ManualClock:
    """A clock that moves only when told to, for tests.

    `advance` wakes every sleeper whose time has come, in order of their deadlines.
    """

    def __init__(self, *, now_ns: int = 1_778_241_600_000_000_000) -> None:
        self._now_ns = now_ns
        self._monotonic = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now_ns(self) -> int:
        """Wall time in nanoseconds since 1970-01-01 UTC."""
        return self._now_ns

    def monotonic(self) -> float:
        """Seconds since this clock was made."""
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has moved the clock this far."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._count, future))
        await future

    def advance(self, seconds: float) -> None:
        """Move time forward and wake whoever waited for it."""
        self._monotonic += seconds
        self._now_ns += int(seconds * 1e9)
        while self._sleepers and self._sleepers[0][0] <= self._monotonic:
            _, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
