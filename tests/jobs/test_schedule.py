"""The poll schedule, with callbacks and without."""

from engine.jobs.schedule import Durations, Reliance, Schedule
from engine.pipeline.spec import PollSpec


def _schedule(*seconds: float) -> Schedule:
    durations = Durations()
    for one in seconds:
        durations.add(one)
    return Schedule(PollSpec(first=2.0, max=30.0), durations)


def test_a_relaxed_schedule_waits_for_most_jobs_to_end() -> None:
    """The first relaxed poll comes after nearly all learned durations, or at the longest pause while none are known."""
    durations = [float(n) for n in range(1, 101)]
    assert _schedule().relaxed_first_s() == 30.0
    assert _schedule(*durations).relaxed_first_s() > 96.0 > _schedule(*durations).first_s()


def test_a_relaxed_schedule_never_stops() -> None:
    """The next look is about as far away as the first was, and at most the longest pause."""
    pauses = [_schedule(5.0).relaxed_next_s(jitter=jitter) for jitter in (0.0, 0.5, 1.0)]
    assert pauses == [22.5, 26.25, 30.0]
    assert _schedule(*[4.0] * 5).relaxed_next_s(jitter=1.0) == 8.0
    assert _schedule(*[400.0] * 5).relaxed_next_s(jitter=1.0) == 30.0


def test_silence_is_noticed_once_and_ends_with_the_next_callback() -> None:
    """After the patience polling relies on nothing; one callback is enough to rely again."""
    reliance = Reliance(patience_s=120.0, heard_at=0.0)
    assert [reliance.lose(now) for now in (0.0, 119.9, 120.0, 500.0)] == [False, False, True, False]
    assert not reliance.is_good
    reliance.hear(500.0)
    assert reliance.is_good
    assert (reliance.lose(619.0), reliance.lose(620.0)) == (False, True)
