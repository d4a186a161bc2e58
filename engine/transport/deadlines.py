"""Deadlines: one timer for all the waiting of a transport, because a timer each costs more than most requests.

Whoever waits keeps its own moment; the timer rings at the earliest that was noted, and then everybody is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

NEVER = float("inf")


class Deadlines:
    """Calls `sweep(now)` at the earliest moment noted; it ends what is overdue, and answers the earliest left."""

    def __init__(self, sweep: Callable[[float], float]) -> None:
        self._loop = asyncio.get_running_loop()
        self._sweep = sweep
        self._timer: asyncio.TimerHandle | None = None
        self.rings_at = NEVER
        self.now = self._loop.time

    def note(self, at: float) -> None:
        """Look at everybody at this moment, or before."""
        if at < self.rings_at:
            self.close()
            self.rings_at = at
            self._timer = self._loop.call_at(at, self._ring)

    def close(self) -> None:
        """Ring no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.rings_at = NEVER

    def _ring(self) -> None:
        self._timer = None
        self.rings_at = NEVER
        self.note(self._sweep(self.now()))
