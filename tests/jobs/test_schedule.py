"""When jobs are asked about: few requests, short delays, and the platform's own words first."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from benchmarks.polling import SPREADS, fixed, ours
from engine.jobs.durations import Durations
from engine.jobs.reliance import Reliance
from engine.jobs.schedule import Schedule
from engine.pipeline.spec import PollSpec


def until_asked(schedule: Schedule, now: float, *, limit_s: float = 120.0) -> float:
    """The moment of the next question."""
    end = now + limit_s
    while now < end:
        look = schedule.look(now)
        if look.pages or look.singles:
            return now
        now += look.wait_s or limit_s
    return now


@pytest.mark.parametrize("spread", list(SPREADS))
def test_two_thousand_jobs_cost_fewer_than_two_polls_each(spread) -> None:
    """Fewer than two requests a job; fewer than every 1 s and sooner than every 5 s, whatever the durations are."""
    chance = random.Random(7)
    durations = [SPREADS[spread](chance) for _ in range(2000)]
    cost = ours(durations, 500)
    assert cost.requests_per_job < 2
    assert cost.requests_per_job < fixed(durations, 1.0).requests_per_job
    assert cost.delay_s < fixed(durations, 5.0).delay_s


def test_a_lone_job_is_asked_about_when_its_kind_usually_ends() -> None:
    """After jobs of a minute, a new one is left alone for most of a minute."""
    schedule = Schedule(PollSpec(max=300.0))
    for number in range(50):
        schedule.add("old", 0.0)
        schedule.ended("old", 58.0 + number % 5, took_s=58.0 + number % 5)
    schedule.add("new", 1000.0)
    assert 55.0 <= until_asked(schedule, 1000.0) - 1000.0 <= 62.0


def test_before_anything_is_learned_the_spec_is_followed() -> None:
    """A lone job of an unknown kind: first asked about at about `first`, then ever more rarely, `max` at most apart."""
    schedule = Schedule(PollSpec(first=2.0, factor=1.5, max=30.0))
    schedule.add("j", 0.0)
    asked, now = [], 0.0
    for _ in range(12):
        now = until_asked(schedule, now)
        asked.append(now)
        schedule.still_going("j", now)
    gaps = [later - sooner for sooner, later in pairwise(asked)]
    assert 1.3 <= asked[0] <= 2.5
    assert max(gaps) <= 30.6
    assert gaps[-1] > 3 * gaps[0]


def test_a_jobs_own_progress_beats_what_was_learned() -> None:
    """Half done after 20 s: asked about again at 40 s."""
    schedule = Schedule(PollSpec(first=15.0))
    schedule.add("j", 0.0)
    schedule.still_going("j", 20.0, progress_pct=50)
    for moment in (21.0, 24.0):
        assert not schedule.look(moment).singles
    assert schedule.look(40.1).singles == ["j"]


@pytest.mark.parametrize(("said", "until"), [(7.0, 7.0), (1e12, 300.0), (0.0, 0.0), (None, 0.0)])
def test_t17_a_retry_after_of_a_poll_is_honoured_and_clamped(said, until) -> None:
    """The platform says when to come again; five minutes at most, and not at all when it says nothing."""
    schedule = Schedule(PollSpec(first=0.1, max=0.5))
    schedule.add("j", 0.0)
    schedule.still_going("j", 1.0, retry_after_s=said)
    asked = until_asked(schedule, 1.0, limit_s=400.0)
    assert until + 1.0 <= asked <= until + 2.0


def test_a_page_that_says_wait_holds_everything_back() -> None:
    """A `Retry-After` on a list page is for all questions."""
    schedule = Schedule(PollSpec(first=0.1))
    for number in range(50):
        schedule.add(str(number), 0.0)
    schedule.hold(1.0, 9.0)
    assert until_asked(schedule, 1.0) == pytest.approx(10.0)


def test_a_hint_is_followed_at_once() -> None:
    """Somebody says that a job has ended: it is asked about in the next look, alone; unknown ids are nothing."""
    schedule = Schedule(PollSpec(first=60.0))
    schedule.add("j", 0.0)
    schedule.hint("other")
    assert not schedule.look(1.0).singles
    schedule.hint("j")
    assert schedule.look(1.0).singles == ["j"]


def test_asking_takes_a_part_of_the_accounts_ceiling() -> None:
    """With ten requests a second for everything, questions take three of them at most."""
    schedule = Schedule(PollSpec(first=0.1, max=0.1), requests_per_s=10.0)
    for number in range(100):
        schedule.add(str(number), 0.0)
    asked, now = 0, 1.0
    while (now := until_asked(schedule, now)) < 11.0:
        asked += 1
        for number in range(100):
            schedule.still_going(str(number), now)
        schedule.read_pages(1, ours=100)
    assert 15 <= asked <= 31


def test_a_job_is_looked_at_when_its_time_is_up() -> None:
    """The deadline of a job is a reason to ask, whatever is expected of it."""
    schedule = Schedule(PollSpec(first=100.0, max=1000.0), timeout_s=5.0)
    schedule.add("j", 0.0)
    assert until_asked(schedule, 0.1) == pytest.approx(5.0, abs=0.6)


def test_durations_are_learned_from_between_two_answers() -> None:
    """A job that was alive at 2 s and over at 4 s took about 3: else each look would teach to look later."""
    schedule = Schedule(PollSpec())
    schedule.add("j", 0.0)
    schedule.still_going("j", 2.0)
    assert schedule.ended("j", 4.0) == 4.0
    assert schedule.learned.quantile(0.5) == 3.0


def test_a_job_found_after_a_restart_teaches_only_what_the_platform_says() -> None:
    """How long our process was away is no duration of a job."""
    schedule = Schedule(PollSpec())
    schedule.add("a", 0.0, age_s=3600.0)
    schedule.ended("a", 1.0)
    assert len(schedule.learned) == 0
    schedule.add("b", 0.0, age_s=3600.0)
    schedule.ended("b", 1.0, took_s=45.0)
    assert schedule.learned.quantile(0.5) == 45.0


def test_what_is_longer_than_everything_seen_is_still_expected_to_end() -> None:
    """Beyond the longest job seen the guess goes on: chances grow with time and stay between 0 and 1."""
    learned = Durations()
    for number in range(300):
        learned.add(1.0 + number % 10 / 10)
    assert len(learned) == 256
    chances = [learned.ended_between(5.0, later) for later in (5.0, 6.0, 10.0, 100.0, 1e6)]
    assert chances == sorted(chances)
    assert chances[0] == 0.0
    assert chances[-1] > 0.9


def _relaxed(count: int = 3) -> Schedule:
    schedule = Schedule(PollSpec(first=2.0, max=30.0))
    schedule.is_relaxed = True
    for number in range(count):
        schedule.add(f"j{number}", 0.0)
    return schedule


def test_while_callbacks_arrive_nothing_is_asked_until_one_must_have_been_lost() -> None:
    """Jobs are put off beyond what nearly all take, or by the longest pause while nothing is known."""
    schedule = _relaxed()
    assert not schedule.look(29.0).chances
    assert set(schedule.look(30.0).chances) == {"j0", "j1", "j2"}
    for _ in range(20):
        schedule.learned.add(4.0)
    assert schedule.relaxed_s() == 8.0


def test_a_callback_makes_its_job_due_and_no_other() -> None:
    """A hint is asked about at once; a job that then goes on is polled as if there were no callbacks."""
    schedule = _relaxed()
    schedule.hint("j1")
    look = schedule.look(1.0)
    assert (look.singles, look.pages) == (["j1"], False)
    schedule.still_going("j1", 1.0)
    assert not schedule.look(1.01).singles


def test_a_callback_during_a_question_is_not_lost() -> None:
    """An answer that may be older than the hint does not take it back."""
    schedule = _relaxed(1)
    schedule.look(30.0)
    schedule.hint("j0")
    schedule.still_going("j0", 30.1)
    assert schedule.look(30.2).singles == ["j0"]


def test_late_answers_teach_nothing_while_callbacks_arrive() -> None:
    """What was asked late by design says nothing of how long jobs take; what a callback told does."""
    schedule = _relaxed(2)
    schedule.ended("j0", 500.0)
    assert schedule.learned.quantile(0.5) is None
    schedule.hint("j1")
    schedule.ended("j1", 3.0)
    assert schedule.learned.quantile(0.5) == 3.0


def test_silence_is_noticed_once_and_ends_with_the_next_callback() -> None:
    """After the patience polling relies on nothing; one callback is enough to rely again."""
    reliance = Reliance(patience_s=120.0, heard_at=0.0)
    assert [reliance.lose(now) for now in (0.0, 119.9, 120.0, 500.0)] == [False, False, True, False]
    assert not reliance.is_good
    reliance.hear(500.0)
    assert reliance.is_good
    assert (reliance.lose(619.0), reliance.lose(620.0)) == (False, True)
