"""The byte budget: first come first served, never more than it has, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random

import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.clock import ManualClock, SystemClock
from engine.events import Event, Waited
from engine.runtime import budget as budgeting
from engine.runtime.budget import ByteBudget, Loan, resident_bytes

pytestmark = pytest.mark.anyio


class _Noted:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def notice(self, event: Event) -> None:
        self.events.append(event)


def _budget(total: int, noted: _Noted | None = None) -> ByteBudget:
    return ByteBudget(total, clock=SystemClock(), observer=noted or _Noted())


async def _turns() -> None:
    for _ in range(5):
        await checkpoint()


async def test_who_came_first_is_served_first() -> None:
    """A small loan does not overtake a large one that waits: nobody starves."""
    noted = _Noted()
    budget = _budget(100, noted)
    first = await budget.borrow(80)
    large = asyncio.ensure_future(budget.borrow(60))
    small = asyncio.ensure_future(budget.borrow(10))
    await _turns()
    assert not large.done()
    assert not small.done()
    first.give_back()
    await _turns()
    assert large.done()
    assert small.done()
    assert budget.lent == 70
    assert [event.reason for event in noted.events if isinstance(event, Waited)] == ["memory", "memory"]


async def test_what_is_larger_than_the_whole_budget_passes_alone() -> None:
    """It waits until nothing is lent, and nothing is lent beside it."""
    budget = _budget(100)
    other = await budget.borrow(1)
    giant = asyncio.ensure_future(budget.borrow(1000))
    await _turns()
    assert not giant.done()
    other.give_back()
    loan = await giant
    late = asyncio.ensure_future(budget.borrow(1))
    await _turns()
    assert not late.done()
    loan.give_back()
    assert (await late).bytes == 1


async def test_what_has_begun_may_overdraw_and_nothing_new_begins_meanwhile() -> None:
    """`take` and `resize` never wait; `borrow` does, until it is paid back."""
    budget = _budget(100)
    loan = await budget.borrow(50)
    loan.resize(300)
    taken = budget.take(20)
    assert (budget.lent, budget.lent_max) == (320, 320)
    new = asyncio.ensure_future(budget.borrow(10))
    await _turns()
    assert not new.done()
    loan.resize(50)
    await _turns()
    assert new.done()
    for each in (loan, loan, taken, await new):
        each.give_back()
    assert budget.lent == 0


async def test_a_waiter_that_is_cancelled_leaves_the_line() -> None:
    """Cancelled while waiting or in the instant of being served: nothing stays lent, and who stands behind goes on."""
    budget = _budget(100)
    loan = await budget.borrow(100)
    one, two = asyncio.ensure_future(budget.borrow(90)), asyncio.ensure_future(budget.borrow(90))
    await _turns()
    one.cancel()
    await _turns()
    loan.give_back()
    two.cancel()
    await asyncio.wait((one, two))
    assert budget.lent == 0
    assert (await budget.borrow(100)).bytes == 100


async def test_what_is_withheld_is_not_lent_but_never_stops_everything() -> None:
    """When the process has grown, less is lent; one at a time always goes on."""
    budget = _budget(100)
    budget.withhold(10**12)
    assert budget.withheld < 100
    assert budget.is_tight
    loan = await budget.borrow(90)
    waiting = asyncio.ensure_future(budget.borrow(20))
    await _turns()
    assert not waiting.done()
    budget.withhold(-5)
    loan.resize(70)
    await _turns()
    assert waiting.done()


async def test_the_process_itself_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a second, what is occupied beyond baseline and budget is withheld."""
    if resident_bytes() is None:
        pytest.skip("this system does not say cheaply what a process occupies")
    clock = ManualClock()
    budget = ByteBudget(1000, clock=clock, observer=_Noted())
    monkeypatch.setattr(budgeting, "BASELINE", 0)
    watching = asyncio.ensure_future(budget.watch())
    await _turns()
    assert budget.withheld == 750
    monkeypatch.setattr(budgeting, "BASELINE", 10**12)
    clock.advance(1.0)
    await _turns()
    assert budget.withheld == 0
    watching.cancel()


class _Miniature:
    """A run in small, its loans taken in the documented order.

    A reader borrows before it reads and hands on bodies; creators hold bodies until a slot is free; fetchers borrow
    before they open a result, and some rows are larger than their loan.
    """

    def __init__(self, slots: int, order: random.Random) -> None:
        self.budget = _budget(50)
        self.done = 0
        self._ready: asyncio.Queue[Loan] = asyncio.Queue()
        self._results: asyncio.Queue[int] = asyncio.Queue()
        self._slot = asyncio.Semaphore(slots)
        self._order = order

    async def _nap(self) -> None:
        for _ in range(self._order.randrange(4)):
            await checkpoint()

    async def read(self, batches: list[list[int]]) -> None:
        for batch in batches:
            loan = await self.budget.borrow(10)
            await self._nap()
            loan.resize(sum(batch))
            for size in batch:
                await self._ready.put(self.budget.take(size))
            loan.give_back()

    async def create(self) -> None:
        while True:
            body = await self._ready.get()
            await self._slot.acquire()
            await self._nap()
            asyncio.get_running_loop().call_soon(self._slot.release)
            self._results.put_nowait(body.bytes)
            body.give_back()

    async def fetch(self) -> None:
        while True:
            size = await self._results.get()
            loan = await self.budget.borrow(15)
            await self._nap()
            if size > 15:
                async with self.budget.alone:
                    loan.resize(4 * size)
                    await self._nap()
                    loan.resize(15)
            loan.give_back()
            self.done += 1


_SIZES = st.integers(1, 60)


@settings(max_examples=150, deadline=None)
@given(
    batches=st.lists(st.lists(_SIZES, min_size=1, max_size=4), min_size=1, max_size=12),
    slots=st.integers(1, 3),
    workers=st.integers(1, 4),
    order=st.randoms(use_true_random=False),
)
async def test_no_order_of_events_makes_everybody_wait(batches, slots, workers, order) -> None:
    """Whatever is large and whoever is slow, everything is read, created and fetched, and nothing stays lent."""
    small = _Miniature(slots, order)
    running = [asyncio.ensure_future(work()) for work in [small.create, small.fetch] * workers]
    running.append(asyncio.ensure_future(small.read(batches)))
    total = sum(map(len, batches))
    for _ in range(500 * total):
        if small.done == total:
            break
        await checkpoint()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert small.done == total
    assert small.budget.lent == 0
