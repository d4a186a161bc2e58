"""Limiting: one rate ceiling for the whole account, and one pause when the platform asks for it.

Whoever asks while nothing is free waits in the line of its lane; when something is, the lanes take turns by
weight, and what finishes work goes before what starts it. How many requests may be under way is not its matter.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from engine.contract.exchange import Request, Response
from engine.contract.problem import retry_after_s
from engine.events import Waited
from engine.ports import BodyStream, Clock, Observer, Transport

PAUSE_MAX_S = 300.0
# Turns while everybody waits. What belongs to no lane (tokens, keys) goes first: everything else needs it.
WEIGHTS = {"fetch": 4.0, "poll": 2.0, "create": 1.0}
_LIMIT = re.compile(r"(?:^|[;,\s])([rt])\s*=\s*(\d{1,9})(?=\s*(?:[;,]|$))")
_GO = "go"
_LEAD = "lead"


class _Waiter:
    __slots__ = ("future", "is_gone", "lane")

    def __init__(self, lane: str) -> None:
        self.lane = lane
        self.future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.is_gone = False


class _Line:
    """Waiters by lane. A lane's `pass` grows by one over its weight with each turn; the smallest goes next."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[_Waiter]] = {}
        self._passes: dict[str, float] = {}
        self._now = 0.0

    def join(self, waiter: _Waiter) -> None:
        line = self._lanes.setdefault(waiter.lane, deque())
        if not line:
            # Having been away earns no credit.
            self._passes[waiter.lane] = max(self._now, self._passes.get(waiter.lane, 0.0))
        line.append(waiter)

    def next(self) -> _Waiter | None:
        """Whose turn it is; stays in line until `take`."""
        best: str | None = None
        for lane, line in self._lanes.items():
            # Cancelled, though it may not have run to notice it.
            while line and (line[0].is_gone or line[0].future.cancelled()):
                line.popleft()
            if line and (best is None or self._rank(lane) < self._rank(best)):
                best = lane
        return None if best is None else self._lanes[best][0]

    def take(self, waiter: _Waiter) -> None:
        """It had its turn."""
        self._lanes[waiter.lane].remove(waiter)
        if weight := WEIGHTS.get(waiter.lane):
            self._now = self._passes[waiter.lane]
            self._passes[waiter.lane] += 1.0 / weight

    def _rank(self, lane: str) -> tuple[bool, float]:
        return lane in WEIGHTS, self._passes[lane]


class Budget:
    """`requests` per second (None: no ceiling), with bursts of `burst` at once; and the platform's own pauses.

    A 429 or 503 that names a `Retry-After`, and a `RateLimit` header with nothing left, hold back every
    request until then, by 300 s at most: a hostile figure must not park the run.
    """

    def __init__(
        self, clock: Clock, *, requests: float | None = None, burst: int | None = None, observer: Observer | None = None
    ) -> None:
        self._clock = clock
        self._observer = observer
        self._interval_s = 1.0 / requests if requests else 0.0
        # A tenth of a second's worth at once: enough not to stutter, too little to offend.
        self._burst_s = self._interval_s * ((burst or max(1, int((requests or 0) / 10))) - 1)
        self._reserved_to = -1e9
        self._paused_to = -1e9
        self._line = _Line()
        self._is_led = False

    @property
    def paused_s(self) -> float:
        """For how long the platform's own word holds everybody back."""
        return max(0.0, self._paused_to - self._clock.monotonic())

    async def turn(self, lane: str = "") -> None:
        """Wait until one more request may leave. `lane` decides who goes first when several wait."""
        started = self._clock.monotonic()
        if not self._is_led and self._free_in_s(started) <= 0:
            self._spend(started)
            return
        waiter = _Waiter(lane)
        self._line.join(waiter)
        try:
            if not self._is_led or await waiter.future == _LEAD:
                await self._lead(waiter)
        finally:
            waiter.is_gone = True
            if self._was_made_leader(waiter):
                self._hand_on()
        if self._observer is not None:
            self._observer.notice(Waited("budget", self._clock.monotonic() - started))

    def heed(self, status: int, headers: Mapping[str, str]) -> None:
        """Read from an answer how long to hold back."""
        asked_s = 0.0
        if status in (429, 503):
            asked_s = retry_after_s(headers, now_s=self._clock.now_ns() / 1e9) or 0.0
        if "ratelimit" in headers:
            asked_s = max(asked_s, exhausted_for_s(headers["ratelimit"]))
        if asked_s > 0:
            until = self._clock.monotonic() + min(asked_s, PAUSE_MAX_S)
            self._paused_to = max(self._paused_to, until)

    async def _lead(self, leader: _Waiter) -> None:
        """One of those who wait watches the clock for all; whoever is next goes, until it is the leader itself."""
        self._is_led = True
        leader.future = asyncio.get_running_loop().create_future()
        try:
            while True:
                # Again after each nap: the pause may have been made longer meanwhile.
                if (left_s := self._free_in_s(self._clock.monotonic())) > 0:
                    await self._clock.sleep(left_s)
                    continue
                chosen = self._line.next() or leader
                self._line.take(chosen)
                self._spend(self._clock.monotonic())
                if chosen is leader:
                    return
                chosen.is_gone = True
                chosen.future.set_result(_GO)
        finally:
            leader.is_gone = True
            self._hand_on()

    def _hand_on(self) -> None:
        heir = self._line.next()
        self._is_led = heir is not None
        if heir is not None:
            heir.future.set_result(_LEAD)

    def _was_made_leader(self, waiter: _Waiter) -> bool:
        """It was cancelled in the moment between being made the leader and leading."""
        future = waiter.future
        return future.done() and not future.cancelled() and future.result() == _LEAD

    def _free_in_s(self, now: float) -> float:
        return max(self._reserved_to - self._burst_s, self._paused_to) - now

    def _spend(self, now: float) -> None:
        self._reserved_to = max(now, self._reserved_to) + self._interval_s


class LimitingTransport:
    """Wraps `inner`: each request waits for its turn in `budget`."""

    def __init__(self, inner: Transport, budget: Budget) -> None:
        self._inner = inner
        self._budget = budget

    async def send(self, request: Request) -> Response:
        """As the inner transport, when it is this request's turn."""
        await self._budget.turn()
        response = await self._inner.send(request)
        self._budget.heed(response.status, response.headers)
        return response

    def stream(self, request: Request) -> AbstractAsyncContextManager[BodyStream]:
        """As the inner transport, when it is this request's turn; the body's bytes are not counted."""
        return self._streaming(request)

    @asynccontextmanager
    async def _streaming(self, request: Request) -> AsyncIterator[BodyStream]:
        await self._budget.turn()
        async with self._inner.stream(request) as body:
            self._budget.heed(body.status, body.headers)
            yield body

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


def exhausted_for_s(ratelimit: str) -> float:
    """Seconds until an exhausted quota is filled again, by a `RateLimit` field (IETF draft); 0 if not exhausted."""
    members = dict(_LIMIT.findall(ratelimit))
    return float(members.get("t", 0)) if members.get("r") == "0" else 0.0
