"""Leap: an event loop whose time leaps to the next timer as soon as nothing else is left to do, and its clock.

Everything on the loop that waits, waits in its time: sleeps, time-outs, polls, jobs of an emulator in this process.
What threads do takes real time, and time stands still meanwhile. The longer nothing happens, the larger the leaps: a
short timer, as heartbeats have, may come late by a small share of the quiet before it, so that a day in which nothing
happens costs a few hundred steps rather than a hundred thousand. Long ones are kept to the moment, each by itself: an
answer that comes a second before its deadline is in time.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar, TypeVarTuple

from engine.events import Event, RequestDone

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# 2026-01-01T00:00:00Z.
BEGIN_NS = 1_767_225_600 * 1_000_000_000
# How late a short timer may come, as a share of the time since the last request ended.
LATENESS = 0.05
_SHORT_S = 20.0
# A thread that works longer than this may itself wait for something on this loop: time moves on, by single timers.
_PATIENCE_S = 0.05


class LeapLoop(asyncio.SelectorEventLoop):
    """An event loop with a time of its own, which begins at zero."""

    def __init__(self) -> None:
        self._now = 0.0
        self._stirred_at = 0.0
        self._held = 0
        self._stops: list[float] = []
        super().__init__(_LeapingSelector(self))

    def time(self) -> float:
        """Seconds since the loop was made, by its own time."""
        return self._now

    @property
    def is_held(self) -> bool:
        """Whether a thread is at work for somebody on this loop."""
        return self._held > 0

    def hold(self, future: asyncio.Future[Any]) -> None:
        """Time waits until this future is done: a thread works on it."""
        self._held += 1
        future.add_done_callback(self._let_go)

    def stir(self) -> None:
        """Something happened: from here on leaps are small again."""
        self._stirred_at = self._now

    def leap(self, seconds: float, *, exact: bool) -> None:
        """Move on to a timer that is due in so many seconds, or a little beyond it, but past no long one."""
        while self._stops and self._stops[0] <= self._now:
            heapq.heappop(self._stops)
        slack = 0.0 if exact else LATENESS * (self._now - self._stirred_at)
        beyond = min(self._now + slack, self._stops[0] if self._stops else math.inf)
        self._now = max(self._now + seconds, beyond)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As every loop does; long timers are remembered."""
        if when - self._now > _SHORT_S:
            heapq.heappush(self._stops, when)
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """As every loop does; time waits for it."""
        future = super().run_in_executor(executor, func, *args)
        self.hold(future)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's name
        """As every loop does, without a deadline: in this loop's time it would pass before a thread could end."""
        self._held += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._held -= 1

    def _let_go(self, _: asyncio.Future[Any]) -> None:
        self._held -= 1


class _LeapingSelector(selectors.DefaultSelector):
    """Looks for what is ready, and leaps in place of waiting."""

    def __init__(self, loop: LeapLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As every selector; a wait for a timer takes no time."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(0)
        if not found and self._loop.is_held:
            found = super().select(_PATIENCE_S)
            if not found and self._loop.is_held:
                self._loop.leap(timeout, exact=True)
        elif not found:
            self._loop.leap(timeout, exact=False)
        return found


class LeapClock:
    """The clock of such a loop; an `Observer` as well, because requests stir the loop.

    Its wall time begins with the same moment in every run, so that ids and dates that are made of it come out alike.
    """

    def __init__(self, loop: LeapLoop) -> None:
        self._loop = loop

    def now_ns(self) -> int:
        """Wall time in nanoseconds since 1970-01-01 UTC."""
        return BEGIN_NS + int(self._loop.time() * 1e9)

    def monotonic(self) -> float:
        """Seconds since the loop was made."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait, in the loop's time."""
        await asyncio.sleep(max(0.0, seconds))

    def notice(self, event: Event) -> None:
        """A request that ended is something that happened."""
        if isinstance(event, RequestDone):
            self._loop.stir()
