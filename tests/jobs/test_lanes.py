"""A lane: finds how much the platform takes, on a clock that only the simulation moves."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

import anyio
import pytest

from engine.contract.exchange import Request
from engine.errors import ConnectFailed, EngineError, OutOfPatience, TimedOut
from engine.events import LaneMoved, Warned
from engine.jobs.gradient import Gradient
from engine.jobs.laned import LanedTransport
from engine.jobs.lanes import Lanes
from engine.jobs.slots import Slots
from engine.transport.limiting import Budget
from engine.transport.patience import Patience, PatienceEnded
from engine.transport.retry_budget import RetryBudget
from engine.transport.retrying import RetryingTransport, Waiting
from tests.jobs.virtual import JumpingClock, Recorder, Simulated

pytestmark = pytest.mark.anyio


class Platform:
    """A platform that serves `capacity` requests at once, 50 ms each, and refuses or queues the rest.

    The width is asked of `Gradient` alone: time is a heap, so a minute takes a moment.
    """

    def __init__(self, *, capacity: int, queues: bool, ceiling: int = 400) -> None:
        self.capacity = capacity
        self.queues = queues
        self.width = Gradient(ceiling=ceiling)
        self.now = 0.0
        self.done: list[float] = []
        self.refused: list[float] = []
        self._running = self._queue = 0
        self._in_use = 0
        self._ends: list[tuple[float, float, bool]] = []

    def run_until(self, end: float) -> None:
        """Keep the lane full until then."""
        while self.now < end:
            while self._in_use < self.width.limit:
                self._send()
            self.now, sent_at, is_served = heapq.heappop(self._ends)
            if is_served:
                self._running -= 1
                self.done.append(self.now)
                is_full = self._in_use >= self.width.limit
                self.width.succeeded(self.now - sent_at, self.now, is_full=is_full)
            else:
                self.refused.append(self.now)
                self.width.pushed_back(sent_at, self.now, others=self._in_use - 1)
            self._in_use -= 1

    def _send(self) -> None:
        self._in_use += 1
        if self._running < self.capacity:
            self._running += 1
            heapq.heappush(self._ends, (self.now + 0.05, self.now, True))
        elif self.queues:
            # One more place in the queue of a server that works off `capacity` every 50 ms.
            self._running += 1
            waits_s = 0.05 * self._running / self.capacity
            heapq.heappush(self._ends, (self.now + waits_s, self.now, True))
        else:
            heapq.heappush(self._ends, (self.now + 0.005, self.now, False))

    def rate(self, start: float, end: float) -> float:
        """Requests served per second."""
        return sum(1 for at in self.done if start <= at < end) / (end - start)

    def refusals(self, start: float, end: float) -> float:
        """The share of requests refused."""
        refused = sum(1 for at in self.refused if start <= at < end)
        return refused / (refused + self.rate(start, end) * (end - start))


def steps(values: list[int], seconds: float) -> Iterator[tuple[int, float, float]]:
    for number, value in enumerate(values):
        yield value, number * seconds, (number + 1) * seconds


@pytest.mark.parametrize("capacities", [[20, 100, 20, 60], [200, 10, 40], [5, 8, 5]])
def test_f17_the_limiter_follows_capacity_that_changes_in_steps(capacities) -> None:
    """95 % of each new capacity is in use within 5 s, and after that at most 1 % of requests are refused."""
    platform = Platform(capacity=capacities[0], queues=False)
    for capacity, start, end in steps(capacities, 20):
        platform.capacity = capacity
        platform.run_until(end)
        assert platform.rate(start + 5, end) >= 0.95 * capacity / 0.05
        assert platform.refusals(start + 5, end) <= 0.01
    assert platform.refused


@pytest.mark.parametrize("capacities", [[20, 100, 20], [200, 10, 40]])
def test_the_limiter_notices_a_queue_before_anybody_refuses(capacities) -> None:
    """A platform that queues instead of refusing: all its capacity is used, and the queue stays bounded."""
    platform = Platform(capacity=capacities[0], queues=True, ceiling=10_000)
    for capacity, start, end in steps(capacities, 20):
        platform.capacity = capacity
        platform.run_until(end)
        assert platform.rate(start + 5, end) >= 0.95 * capacity / 0.05
        assert platform.width.limit < 3 * capacity


def test_an_idle_lane_does_not_grow() -> None:
    """Answers that come while there is room say nothing about more room."""
    width = Gradient(ceiling=100)
    for moment in range(1000):
        width.succeeded(0.01, moment * 0.1, is_full=False)

    assert width.limit == 4


def test_an_outage_is_followed_by_a_slow_start_to_where_it_was() -> None:
    """After an outage few requests go at first, and after some answers as many as before."""
    width = Gradient(ceiling=64)
    for moment in range(60):
        width.succeeded(0.01, moment * 0.001, is_full=True)
    assert width.limit == 64
    width.start_over()
    assert width.limit == 4
    for moment in range(60):
        width.succeeded(0.01, 1 + moment * 0.001, is_full=True)
    assert width.limit == 64


async def test_slots_are_given_in_the_order_asked_for() -> None:
    """First come, first served; a cancelled waiter takes no place with it."""
    slots = Slots(1)
    await slots.acquire()
    order: list[int] = []

    async def take(number: int) -> None:
        await slots.acquire()
        order.append(number)
        slots.release()

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(take, number)
            await anyio.lowlevel.checkpoint()
        async with anyio.create_task_group() as other:
            other.start_soon(take, 9)
            await anyio.lowlevel.checkpoint()
            other.cancel_scope.cancel()
        slots.release()
    assert order == [0, 1, 2]
    assert slots.in_use == 0


class Line:
    """Lanes over a simulated platform, as `assembly` wires them."""

    def __init__(
        self, answer: Callable[[Request], int | EngineError], *, patience_s: float = 600.0, took_s: float = 0.05
    ) -> None:
        self.clock = JumpingClock()
        self.recorder = Recorder()
        self.patience = Patience(self.clock, patience_s)
        self.platform = Simulated(self.clock, answer, took_s=took_s)
        self.lanes = Lanes(concurrency=32, clock=self.clock, patience=self.patience, observer=self.recorder)
        laned = LanedTransport(self.platform, self.lanes, Budget(self.clock))
        waiting = Waiting(self.patience, lambda route: self.lanes.of(route) is not None)
        self.transport = RetryingTransport(laned, self.clock, waiting=waiting, seed=1, budget=RetryBudget(floor=32))

    async def create(self, jobs: int, *, workers: int = 32) -> None:
        """Create so many jobs, each until it is answered."""
        left = iter(range(jobs))

        async def work() -> None:
            for number in left:
                await self.transport.send(request("jobs.create", key=str(number)))

        async def all_of_it() -> None:
            async with anyio.create_task_group() as group:
                for _ in range(workers):
                    group.start_soon(work)

        await self.clock.play(all_of_it)


def request(route: str, *, key: str = "k") -> Request:
    return Request("POST", "http://platform/v1/jobs", {"Idempotency-Key": key}, b"{}", route=route)


async def test_f18_an_outage_costs_a_few_probes_and_no_job() -> None:
    """A minute of 503 in the middle: every job is created, with at most 1.2 requests each."""
    line = Line(lambda _: 503 if 2 <= line.clock.monotonic() < 62 else 201)

    await line.create(1000)

    refused = sum(1 for at, _ in line.platform.sent if 2 <= at < 62)
    assert refused > 5
    assert len(line.platform.sent) == 1000 + refused
    assert len(line.platform.sent) <= 1.2 * 1000
    assert len({sent.headers["Idempotency-Key"] for _, sent in line.platform.sent}) == 1000
    assert [event.reason for event in line.recorder.of(LaneMoved) if event.reason in ("open", "closed")] == [
        "open", "closed",
    ]  # fmt: skip
    assert [event.code for event in line.recorder.of(Warned)] == ["lane.open"]


async def test_f18_a_share_of_failures_is_retried_inside_the_budget() -> None:
    """One request of ten fails for ever: retries stay at a tenth of the traffic, and every job is made."""
    count = 0

    def answer(_: Request) -> int:
        nonlocal count
        count += 1
        return 502 if count % 10 == 0 else 201

    line = Line(answer)
    await line.create(1000)

    assert len(line.platform.sent) - 1000 > 100
    assert len(line.platform.sent) <= 1.2 * 1000


@pytest.mark.parametrize("failure", [503, 500, ConnectFailed("nobody there"), TimedOut("too slow")])
async def test_f20_an_outage_without_end_ends_in_out_of_patience(failure) -> None:
    """After ten minutes of failures the waiting ends with the last failure's words; few requests were spent on it."""
    line = Line(lambda _: failure)
    failures: list[Exception] = []

    async def work() -> None:
        try:
            await line.transport.send(request("jobs.create"))
        except OutOfPatience as exc:
            failures.append(exc)

    async def many() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(work)

    await line.clock.play(many)
    assert len(failures) == 8
    assert 595 <= line.clock.monotonic() <= 650
    assert len(line.platform.sent) < 100
    assert "did not come back within 600 s" in str(failures[0])


async def test_a_lane_that_is_shut_does_not_shut_the_others() -> None:
    """While creates fail, polls and results go through."""
    line = Line(lambda sent: 503 if sent.route == "jobs.create" and line.clock.monotonic() < 30 else 200)
    seen: list[float] = []

    async def poll() -> None:
        for _ in range(50):
            await line.transport.send(request("jobs.get"))
        seen.append(line.clock.monotonic())

    async def both() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(poll)
            for _ in range(8):
                group.start_soon(line.transport.send, request("jobs.create"))

    await line.clock.play(both)
    assert seen[0] < 5
    assert line.clock.monotonic() >= 30
    assert not line.lanes.poll.is_shut


async def test_a_stop_ends_the_waiting_at_once() -> None:
    """Whoever waits for a shut lane, or between two tries, is told that the run stops."""
    line = Line(lambda _: 503)
    ended: list[float] = []

    async def work() -> None:
        with pytest.raises(PatienceEnded):
            await line.transport.send(request("jobs.create"))
        ended.append(line.clock.monotonic())

    async def stop() -> None:
        await line.clock.sleep(20)
        line.patience.end()

    async def all_of_it() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(stop)
            for _ in range(8):
                group.start_soon(work)

    await line.clock.play(all_of_it)
    # Those on the wire at that moment read their answer first.
    assert all(20 <= at <= 20.1 for at in ended)
    assert len(ended) == 8


async def test_a_cancelled_probe_lets_the_next_one_go() -> None:
    """A probe that is cancelled on the wire leaves the lane open to the next caller, not shut for ever."""
    line = Line(lambda _: 503 if line.clock.monotonic() < 10 else 201, took_s=1.0)

    async def work() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(line.transport.send, request("jobs.create"))
            while not line.lanes.create.is_shut:
                await line.clock.sleep(0.1)
            while line.lanes.create.in_use == 0:
                await line.clock.sleep(0.1)
            group.cancel_scope.cancel()
        assert line.lanes.create.in_use == 0
        await line.transport.send(request("jobs.create"))

    await line.clock.play(work)
    assert not line.lanes.create.is_shut


async def test_a_refusal_of_a_request_is_no_outage() -> None:
    """401, 404 and 422 are answers: the lane stays open however many there are."""
    line = Line(lambda _: 422)
    await line.create(50)
    assert not line.lanes.create.is_shut
    assert len(line.platform.sent) == 50
