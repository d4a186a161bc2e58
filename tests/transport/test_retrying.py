"""Trying again: what is sent a second time, and above all what is not."""

import socket

import anyio
import pytest

from engine.clock import ManualClock
from engine.contract.exchange import Request, Trace
from engine.errors import BrokenAnswer, ConnectFailed, OutOfPatience
from engine.retry import Policy
from engine.transport.incoming import Outgoing
from engine.transport.patience import Patience
from engine.transport.pooled import PooledTransport
from engine.transport.retry_budget import RetryBudget
from engine.transport.retrying import RetryingTransport, Waiting

pytestmark = pytest.mark.anyio

KEYED = {"Idempotency-Key": "k"}


class EagerClock(ManualClock):
    """Time that passes as soon as somebody waits for it; remembers how long that was."""

    def __init__(self) -> None:
        super().__init__()
        self.naps: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.advance(seconds)
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def eager():
    return EagerClock()


@pytest.fixture
async def retrying(eager):
    retrying = RetryingTransport(PooledTransport(), eager, policy=Policy(attempts=4), seed=1)
    yield retrying
    await retrying.aclose()


def drop():
    return Outgoing(abort=True)


@pytest.mark.parametrize(
    ("method", "headers", "first", "tries"),
    [
        ("GET", {}, Outgoing(status=503), 2),
        ("GET", {}, Outgoing(status=500), 2),
        ("GET", {}, Outgoing(status=429), 2),
        ("GET", {}, Outgoing(status=408), 2),
        ("GET", {}, Outgoing(status=404), 1),
        ("GET", {}, Outgoing(status=401), 1),
        ("GET", {}, Outgoing(status=302), 1),
        ("POST", KEYED, Outgoing(status=503), 2),
        ("POST", KEYED, drop(), 2),
        ("POST", KEYED, Outgoing(status=422), 1),
        ("POST", KEYED, Outgoing(status=409), 1),
        ("POST", {}, Outgoing(status=429), 2),
        ("POST", {}, Outgoing(status=503), 1),
        ("DELETE", {}, Outgoing(status=502), 1),
        ("PATCH", {}, Outgoing(status=500), 1),
    ],
)
async def test_only_what_can_do_no_harm_is_sent_again(server, retrying, method, headers, first, tries) -> None:
    """Safe or keyed requests are repeated after a failure that may pass; others only after a 429."""
    server.answer = [first, Outgoing(body=b"second")]

    response = await retrying.send(Request(method, server.url, headers, None if method == "GET" else b"{}"))

    assert len(server.seen) == tries
    assert (response.status, response.body) == ((200, b"second") if tries == 2 else (first.status, b""))


async def test_an_unkeyed_post_whose_answer_was_lost_is_not_repeated(server, retrying) -> None:
    """The effect of a POST that broke off is unknown, so the error is the caller's to weigh."""
    server.answer = [drop()]

    with pytest.raises(BrokenAnswer):
        await retrying.send(Request("POST", server.url, {}, b"{}"))
    assert len(server.seen) == 1


async def test_where_nothing_was_sent_anything_is_tried_again(retrying, eager) -> None:
    """A connection that was never made did nothing, so even a bare POST waits and tries on."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectFailed):
            await retrying.send(Request("POST", f"http://127.0.0.1:{nobody.getsockname()[1]}", {}, b"{}"))

    assert len(eager.naps) == 3


async def test_the_last_refusal_is_handed_on(server, retrying, eager) -> None:
    """After all attempts the answer itself comes back, and each wait was within the growing bound."""
    server.answer = [Outgoing(status=503, body=b"still")]

    response = await retrying.send(Request("GET", server.url, {}))

    assert (response.status, response.body, len(server.seen)) == (503, b"still", 4)
    assert all(0 <= nap <= bound for nap, bound in zip(eager.naps, (0.2, 0.4, 0.8), strict=True))


async def test_a_retry_after_is_waited_for(server, retrying, eager) -> None:
    """The platform's own figure is a floor, and clamped when it is hostile."""
    server.answer = [
        Outgoing(status=429, headers={"Retry-After": "9"}),
        Outgoing(status=503, headers={"Retry-After": "99999999999"}),
        Outgoing(),
    ]
    await retrying.send(Request("GET", server.url, {}))

    assert eager.naps == [9.0, 300.0]


async def test_each_try_is_a_span_of_its_own(server, retrying) -> None:
    """A second try keeps the trace, takes a new span, and keeps its key."""
    trace = Trace.new()
    server.answer = [Outgoing(status=503), Outgoing()]
    await retrying.send(Request("GET", server.url, {"traceparent": trace.traceparent, **KEYED}))

    first, second = (Trace.parse(seen.headers["traceparent"]) for seen in server.seen)
    assert first == trace
    assert (second.trace_id, second.span_id != trace.span_id) == (trace.trace_id, True)
    assert [seen.headers["idempotency-key"] for seen in server.seen] == ["k", "k"]


@pytest.fixture
async def patient(eager):
    """Makes a transport that waits an outage of the route `patient` out."""
    pooled = PooledTransport()

    def make(*, seconds, budget=None):
        waiting = Waiting(Patience(eager, seconds), lambda route: route == "patient")
        return RetryingTransport(pooled, eager, policy=Policy(attempts=4), seed=1, waiting=waiting, budget=budget)

    yield make
    await pooled.aclose()


async def test_f18_an_outage_is_waited_out_beyond_the_attempts(server, eager, patient) -> None:
    """A patient route is tried on past the policy's attempts, in pauses that stop growing; others are not."""
    server.answer = [*([Outgoing(status=503)] * 20), Outgoing(body=b"back")]
    retrying = patient(seconds=600)
    response = await retrying.send(Request("GET", server.url, {}, route="patient"))
    assert (response.body, len(server.seen)) == (b"back", 21)
    server.seen.clear()
    server.answer = [Outgoing(status=503)]
    assert (await retrying.send(Request("GET", server.url, {}, route="other"))).status == 503
    assert len(server.seen) <= 4


async def test_f18_patience_ends_with_the_last_failure(server, eager, patient) -> None:
    """When the outage outlasts patience, the error says for how long it was waited, and what came last."""
    server.answer = [Outgoing(status=503)]
    retrying = patient(seconds=30)
    with pytest.raises(OutOfPatience, match=r"answered 503.* within 30 s"):
        await retrying.send(Request("GET", server.url, {}, route="patient"))
    assert eager.monotonic() <= 31


async def test_f18_without_budget_nobody_retries_at_once(server, eager, patient) -> None:
    """With its budget spent an impatient request gives up, and a patient one waits until retries are due again."""
    server.answer = [Outgoing(status=503)]
    budget = RetryBudget(floor=2)
    retrying = patient(seconds=600, budget=budget)
    assert (await retrying.send(Request("GET", server.url, {}, route="other"))).status == 503
    assert len(server.seen) == 3
    server.answer = lambda _: Outgoing(status=200 if eager.monotonic() > 9 else 503)
    await retrying.send(Request("GET", server.url, {}, route="patient"))
    assert eager.monotonic() > 9
    assert len(server.seen) <= 6


@pytest.mark.parametrize(
    ("said", "waited_s"),
    [("7", 7), ("Fri, 08 May 2026 12:00:09 GMT", 9), (None, 0), ("0", 0), ("-5", 0), ("1000000000000", 300)],
)
async def test_f17_a_429_is_waited_for_as_long_as_it_says(server, eager, patient, said, waited_s) -> None:
    """F17: seconds, a date, none, zero, negative, a million million: waited, clamped to five minutes."""
    server.answer = [Outgoing(status=429, headers={} if said is None else {"Retry-After": said}), Outgoing()]
    retrying = patient(seconds=600)
    await retrying.send(Request("GET", server.url, {}, route="patient"))
    assert waited_s <= eager.monotonic() <= waited_s + 0.2
    assert len(server.seen) == 2


def test_f18_the_budget_is_a_share_of_recent_traffic_over_a_floor() -> None:
    """Ten retries in ten seconds, and one for each ten first tries; what is older counts no more."""
    budget = RetryBudget(share=0.1, floor=10)
    assert sum(budget.spend(0.0) for _ in range(50)) == 10
    for _ in range(100):
        budget.sent(5.0)
    assert sum(budget.spend(5.0) for _ in range(50)) == 10
    assert not budget.spend(9.9)
    assert sum(budget.spend(10.0) for _ in range(50)) == 10
    assert sum(budget.spend(100.0) for _ in range(50)) == 10
