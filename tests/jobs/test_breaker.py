"""The breaker as a table of what happened and what it then says."""

from __future__ import annotations

from engine.errors import Unavailable
from engine.jobs.breaker import CLOSED, OPEN, PROBING, Breaker, BreakerPolicy

DOWN = Unavailable("down", status=503)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(BreakerPolicy(failures=3, first_s=1.0, max_s=3.0))
    for _ in range(3):
        breaker.failed(DOWN, now, is_probe=False)
    return breaker


def test_it_opens_at_failures_in_a_row_and_says_so_once() -> None:
    """Two failures and a success are nothing; three in a row open it, and later ones do not open it again."""
    breaker = Breaker(BreakerPolicy(failures=3))
    assert not breaker.failed(DOWN, 0.0, is_probe=False)
    assert not breaker.failed(DOWN, 0.0, is_probe=False)
    breaker.succeeded(is_probe=False)
    told = [breaker.failed(DOWN, 0.0, is_probe=False) for _ in range(4)]
    assert told == [False, False, True, False]
    assert breaker.state == OPEN


def test_it_opens_when_half_of_the_recent_answers_were_failures() -> None:
    """Failures that never come in a row count too, once there are enough answers to judge by."""
    breaker = Breaker(BreakerPolicy(failures=3, window=10, ratio=0.5))
    for number in range(9):
        if number % 2:
            assert not breaker.failed(DOWN, 0.0, is_probe=False)
        else:
            breaker.succeeded(is_probe=False)
    assert breaker.failed(DOWN, 0.0, is_probe=False)


def test_only_a_probe_closes_it() -> None:
    """Answers to requests from before it opened prove nothing."""
    breaker = opened()
    assert not breaker.succeeded(is_probe=False)
    breaker.probe()
    assert breaker.state == PROBING
    assert breaker.succeeded(is_probe=True)
    assert breaker.state == CLOSED
    assert breaker.open_for_s(99.0) == 0.0


def test_probes_become_rarer_up_to_a_bound() -> None:
    """One second, two, three, three: measured from each failed probe."""
    breaker, now = opened(), 0.0
    waits = []
    for _ in range(4):
        waits.append(breaker.wait_s(now))
        now += breaker.wait_s(now)
        breaker.probe()
        breaker.failed(DOWN, now, is_probe=True)
    assert waits == [1.0, 2.0, 3.0, 3.0]
    assert breaker.open_for_s(now) == now


def test_jitter_takes_off_a_half_at_most() -> None:
    """Many processes that saw the same outage do not probe in the same moment."""
    breaker = Breaker(BreakerPolicy(failures=1, first_s=1.0))
    breaker.failed(DOWN, 0.0, is_probe=False, jitter=0.0)
    assert breaker.wait_s(0.0) == 0.5


def test_a_probe_that_never_came_to_an_answer_is_forgotten() -> None:
    """The next caller is the probe then."""
    breaker = opened()
    breaker.probe()
    breaker.forget_probe()
    assert breaker.state == OPEN
