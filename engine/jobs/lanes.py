"""Lanes: create, poll and fetch, each a stream of requests with a width of its own that it finds by itself.

A lane knows how many requests the platform takes at once (`gradient`) and whether it answers at all (`breaker`).
While it does not, whoever asks waits here, holding nothing on the wire: an outage costs time, never a row.
"""

from __future__ import annotations

import random

import msgspec

from engine.errors import EngineError, TimedOut, TransportError
from engine.events import LaneMoved, Waited, Warned
from engine.jobs.breaker import CLOSED, OPEN, Breaker
from engine.jobs.gradient import Gradient
from engine.jobs.slots import Slots
from engine.ports import Clock, Observer
from engine.transport.patience import Patience, out_of_patience

_TELL_EVERY_S = 0.5
_PUSH_BACKS = (429, 503)
_WAITED = ("create", "fetch")


class Permit(msgspec.Struct, gc=False):
    """One request that may be on the wire; `is_probe`: its outcome decides whether the lane opens again."""

    is_probe: bool
    sent_at: float = 0.0
    is_told: bool = False


class Lane:
    """At most `ceiling` requests at once.

    `enter`, then `sent`, then one of `answered` and `failed`, then `leave`; for each try of a request.
    """

    def __init__(self, name: str, *, ceiling: int, clock: Clock, patience: Patience, observer: Observer) -> None:
        self.name = name
        self.ceiling = ceiling
        self._clock = clock
        self._patience = patience
        self._observer = observer
        self._width = Gradient(ceiling=ceiling)
        self._slots = Slots(self._width.limit)
        self._breaker = Breaker()
        self._told_limit = self._width.limit
        self._told_at = -_TELL_EVERY_S

    @property
    def limit(self) -> int:
        """Requests that may be on the wire now."""
        return self._slots.limit

    @property
    def in_use(self) -> int:
        """Requests that have a place."""
        return self._slots.in_use

    @property
    def is_shut(self) -> bool:
        """Whether the platform is not being asked, but for a probe now and then."""
        return self._breaker.state != CLOSED

    async def enter(self) -> Permit:
        """Wait until a request may leave.

        Raises:
            OutOfPatience: it has been shut for longer than we wait.
            PatienceEnded: it is shut, and the run is to stop.
        """
        if not self.is_shut and self._slots.take():
            return Permit(is_probe=False)
        started = self._clock.monotonic()
        has_waited = self.is_shut or not self._slots.has_room
        while True:
            is_probe = await self._pass()
            await self._take_place(is_probe=is_probe)
            # It may have been shut while we waited for the place.
            if is_probe or not self.is_shut:
                break
            self._slots.release()
        if has_waited and self.name in _WAITED:
            self._observer.notice(Waited(self.name, self._clock.monotonic() - started))
        return Permit(is_probe)

    async def ready(self) -> None:
        """Wait until the lane is not shut, or a probe is due; takes nothing. Raises as `enter`."""
        while (self.is_shut and self._breaker.state != OPEN) or self._breaker_wait_s() > 0:
            await self._wait_shut()

    def sent(self, permit: Permit) -> None:
        """The request leaves now: its latency counts from here."""
        permit.sent_at = self._clock.monotonic()

    def answered(self, permit: Permit, status: int, error: EngineError | None = None) -> None:
        """An answer came; `error` is what it stands for when it says that the platform cannot answer (5xx, 408)."""
        permit.is_told = True
        now = self._clock.monotonic()
        if status in _PUSH_BACKS:
            self._push_back(permit, now)
        if error is not None:
            self._fail(permit, error, now)
            return
        if self._breaker.succeeded(is_probe=permit.is_probe):
            self._width.start_over()
            self._tell("closed", now)
        if status not in _PUSH_BACKS:
            is_full = self._slots.in_use >= self._slots.limit
            self._width.succeeded(now - permit.sent_at, now, is_full=is_full)
        self._follow(now, "answers")

    def failed(self, permit: Permit, error: EngineError) -> None:
        """No answer came."""
        if not isinstance(error, TransportError):
            return  # Ours to judge, not the platform's health.
        permit.is_told = True
        now = self._clock.monotonic()
        if isinstance(error, TimedOut):
            self._push_back(permit, now)
        self._fail(permit, error, now)

    def leave(self, permit: Permit) -> None:
        """The request is over, however it went."""
        if permit.is_probe and not permit.is_told:
            self._breaker.forget_probe()
        self._slots.release()

    async def _pass(self) -> bool:
        """Wait while the breaker is not closed; True: the caller is its probe."""
        while self.is_shut:
            now = self._clock.monotonic()
            if self._breaker.state == OPEN and self._breaker.wait_s(now) <= 0 and self._has_patience(now):
                self._breaker.probe()
                return True
            await self._wait_shut()
        return False

    async def _take_place(self, *, is_probe: bool) -> None:
        try:
            await self._slots.acquire()
        except BaseException:
            if is_probe:
                self._breaker.forget_probe()
            raise

    async def _wait_shut(self) -> None:
        now = self._clock.monotonic()
        if not self._has_patience(now):
            raise out_of_patience(self._breaker.error, self._patience)
        # While a probe is out there is no moment to wait for; a short nap finds what became of it.
        nap_s = max(self._breaker.wait_s(now), 0.05)
        left_s = self._patience.seconds - self._breaker.open_for_s(now)
        await self._patience.pause(min(nap_s, max(left_s, 0.001)))

    def _breaker_wait_s(self) -> float:
        return self._breaker.wait_s(self._clock.monotonic()) if self.is_shut else 0.0

    def _has_patience(self, now: float) -> bool:
        return self._breaker.open_for_s(now) < self._patience.seconds

    def _push_back(self, permit: Permit, now: float) -> None:
        self._width.pushed_back(permit.sent_at, now, others=self._slots.in_use - 1)
        self._follow(now, "pushed back")

    def _fail(self, permit: Permit, error: EngineError, now: float) -> None:
        if self._breaker.failed(error, now, is_probe=permit.is_probe, jitter=random.random()):
            self._tell("open", now)
            self._observer.notice(
                Warned("lane.open", f"the {self.name} lane pauses: {error.message}; it is tried again by and by")
            )

    def _follow(self, now: float, reason: str) -> None:
        limit = self._width.limit
        if limit != self._slots.limit:
            self._slots.move(limit)
        if limit != self._told_limit and now - self._told_at >= _TELL_EVERY_S:
            self._tell(reason, now)

    def _tell(self, reason: str, now: float) -> None:
        self._told_limit, self._told_at = self._slots.limit, now
        self._observer.notice(LaneMoved(self.name, self._slots.limit, self._slots.in_use, self._slots.waiting, reason))


class Lanes:
    """The three lanes of one account, under `concurrency` requests on the wire in all."""

    def __init__(self, *, concurrency: int, clock: Clock, patience: Patience, observer: Observer) -> None:
        poll = max(1, concurrency // 4)
        fetch = max(1, concurrency // 4)
        self.create = Lane(
            "create", ceiling=concurrency - poll - fetch, clock=clock, patience=patience, observer=observer
        )
        self.poll = Lane("poll", ceiling=poll, clock=clock, patience=patience, observer=observer)
        self.fetch = Lane("fetch", ceiling=fetch, clock=clock, patience=patience, observer=observer)
        self._by_route = {
            "jobs.create": self.create,
            "jobs.get": self.poll,
            "jobs.list": self.poll,
            "jobs.result": self.fetch,
            "jobs.cancel": self.fetch,
        }

    def take_in(self, route: str, lane: Lane) -> None:
        """Let a route that a pipeline asks for its rows go through a lane, unless it has one."""
        self._by_route.setdefault(route, lane)

    def of(self, route: str) -> Lane | None:
        """The lane of a route; None: it belongs to none (tokens, keys, everything that is not about jobs)."""
        return self._by_route.get(route)
