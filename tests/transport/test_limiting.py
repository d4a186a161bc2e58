"""The ceiling and the pause: when a request's turn comes, by a clock that only moves when told to."""

import anyio
import pytest

from engine.contract.exchange import Request
from engine.events import Waited
from engine.transport.incoming import Outgoing
from engine.transport.limiting import Budget, LimitingTransport, exhausted_for_s
from engine.transport.pooled import PooledTransport

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pooled():
    pooled = PooledTransport()
    yield pooled
    await pooled.aclose()


async def settled(check) -> None:
    """Let others run until something is so."""
    with anyio.fail_after(5):
        while not check():
            await anyio.lowlevel.checkpoint()


async def test_no_ceiling_means_no_waiting(server, pooled, clock, recorder) -> None:
    """Without a ceiling and a pause every request goes at once, and nobody tells of waiting."""
    limited = LimitingTransport(pooled, Budget(clock, observer=recorder))
    for _ in range(20):
        await limited.send(Request("GET", server.url, {}))

    assert (len(server.seen), recorder.events) == (20, [])


async def test_requests_are_spaced_by_the_ceiling(server, pooled, clock, recorder) -> None:
    """At 2 a second, the first goes at once and each other half a second after the one before."""
    limited = LimitingTransport(pooled, Budget(clock, requests=2, observer=recorder))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(limited.send, Request("GET", server.url, {}))
        for expected in range(1, 6):
            await settled(lambda n=expected: len(server.seen) == n)
            clock.advance(0.5)

    assert [event.took_s for event in recorder.events] == [0.5, 1.0, 1.5, 2.0]
    assert all(isinstance(event, Waited) and event.reason == "budget" for event in recorder.events)


async def test_a_burst_goes_at_once_and_no_more_than_that(server, pooled, clock) -> None:
    """A pause in asking earns the burst, and only once."""
    limited = LimitingTransport(pooled, Budget(clock, requests=10, burst=3))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(limited.send, Request("GET", server.url, {}))
        await settled(lambda: len(server.seen) == 3)
        clock.advance(0.11)
        await settled(lambda: len(server.seen) == 4)
        clock.advance(0.11)


@pytest.mark.parametrize("status", [429, 503])
async def test_a_retry_after_holds_back_everybody(server, pooled, clock, status) -> None:
    """One request's 429 is every request's pause, a stream's too."""
    limited = LimitingTransport(pooled, Budget(clock))
    server.answer = [Outgoing(status=status, headers={"Retry-After": "7"}), Outgoing()]
    await limited.send(Request("GET", server.url, {}))

    async def stream() -> None:
        async with limited.stream(Request("GET", server.url, {})):
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limited.send, Request("GET", server.url, {}))
        tasks.start_soon(stream)
        await anyio.lowlevel.checkpoint()
        clock.advance(6.9)
        await anyio.lowlevel.checkpoint()
        assert len(server.seen) == 1
        clock.advance(0.2)
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("said", "pause_s"),
    [
        ("99999999999", 300), ("-5", 0), ("soon", 0), ("", 0), ("1.5", 0), ("0", 0), ("12", 12),
        ("Fri, 08 May 2099 12:00:00 GMT", 300), ("Fri, 08 May 2026 12:00:09 GMT", 9),
        ("Fri, 08 May 2020 12:00:00 GMT", 0), ("1e400", 0), ("9" * 5000, 300), ("²", 0),
    ],
)  # fmt: skip
async def test_t17_a_hostile_retry_after_cannot_park_the_run(server, pooled, clock, said, pause_s) -> None:
    """T17: senseless figures are no pause, and huge ones at most five minutes."""
    budget = Budget(clock)
    limited = LimitingTransport(pooled, budget)
    server.answer = [Outgoing(status=429, headers={"Retry-After": said} if said.isascii() else {}), Outgoing()]
    await limited.send(Request("GET", server.url, {}))

    assert budget.paused_s == pytest.approx(pause_s)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ('"default";r=0;t=5', 5), ('"default";r=3;t=5', 0), ('"a";r=0;t=2, "b";r=9;t=60', 0),
        ("limit=10, remaining=0", 0),
        ("", 0), ("r=0", 0), ("r=0;t=-1", 0), ("r=0; t=5", 5), ("r=0;t=99999999999999", 0),
    ],
)  # fmt: skip
def test_an_exhausted_quota_says_for_how_long(field, expected) -> None:
    """`RateLimit` with nothing left is a pause until it is filled again; anything else is none."""
    assert exhausted_for_s(field) == expected


async def test_t47_what_finishes_work_goes_before_what_starts_it(clock) -> None:
    """While all wait, fetch has four turns and poll two for each of create; what is of no lane goes first."""
    budget = Budget(clock, requests=1)
    await budget.turn()
    order: list[str] = []

    async def take(lane: str) -> None:
        await budget.turn(lane)
        order.append(lane)

    async with anyio.create_task_group() as tasks:
        for lane in ("create", "poll", "fetch"):
            for _ in range(14):
                tasks.start_soon(take, lane)
        for _ in range(60):
            await anyio.lowlevel.checkpoint()
        tasks.start_soon(take, "")
        for expected in range(1, 44):
            await anyio.lowlevel.checkpoint()
            clock.advance(1)
            await settled(lambda n=expected: len(order) == n)

    assert order[0] == ""
    assert [order[1:15].count(lane) for lane in ("create", "poll", "fetch")] == [2, 4, 8]
    assert len(order) == 43


async def test_a_cancelled_waiter_leaves_the_line_moving(clock) -> None:
    """Whoever watches the clock for the others may be cancelled: the next one takes over, and nobody is lost."""
    budget = Budget(clock, requests=1)
    await budget.turn()
    done: list[int] = []

    async def take(number: int) -> None:
        await budget.turn("create")
        done.append(number)

    async with anyio.create_task_group() as tasks:
        scopes = []
        for number in range(6):
            scope = anyio.CancelScope()
            scopes.append(scope)

            async def guarded(number: int = number, scope: anyio.CancelScope = scope) -> None:
                with scope:
                    await take(number)

            tasks.start_soon(guarded)
            await anyio.lowlevel.checkpoint()
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        scopes[0].cancel()
        scopes[1].cancel()
        for expected in range(1, 5):
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
            clock.advance(1)
            await settled(lambda n=expected: len(done) == n)
    assert done == [2, 3, 4, 5]
