"""List pages that are kept by their cursors: read again alone, given up when their cursor is, and no job forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.jobs.bookmarks import Bookmarks
from engine.jobs.schedule import Schedule
from engine.pipeline.spec import PollSpec


def _schedule(*, kept: bool = True) -> tuple[Schedule, list[str]]:
    """Ten jobs of a minute that a page showed at 10 s, and one that no page has shown."""
    schedule = Schedule(PollSpec(max=300.0))
    for second in range(50):
        schedule.learned.add(58.0 + second / 10)
    jobs = [f"j{number}" for number in range(10)]
    for job in [*jobs, "loose"]:
        schedule.add(job, 0.0)
    if kept:
        schedule.read_page("c1", jobs, 10.0)
    return schedule, jobs


def _walk(schedule: Schedule, now: float, until: float) -> list[tuple[float, list[str], bool, list[str]]]:
    """What is asked until then, while nobody answers."""
    asked = []
    while now < until:
        look = schedule.look(now)
        if look.bookmarks or look.pages or look.singles:
            asked.append((now, look.bookmarks, look.pages, look.singles))
            return asked
        now += look.wait_s or until
    return asked


def test_a_kept_page_is_read_again_by_its_cursor_when_its_jobs_usually_end() -> None:
    """Nothing is asked for most of the minute; then the page alone, and the loose job by itself."""
    schedule, _ = _schedule()
    (at, cursors, pages, singles), *_ = _walk(schedule, 11.0, 120.0)
    assert 50.0 <= at <= 60.0
    assert (cursors, pages) == (["c1"], False)
    assert singles in ([], ["loose"])


@pytest.mark.parametrize("cursor", [None, "c1"])
def test_only_a_page_with_a_cursor_is_kept(cursor: str | None) -> None:
    """The newest page is another one each time, so its jobs stay loose."""
    schedule, jobs = _schedule(kept=False)
    schedule.read_page(cursor, jobs, 10.0)
    assert _walk(schedule, 11.0, 120.0)[0][1] == ([] if cursor is None else ["c1"])


def test_a_lost_cursor_costs_the_page_and_no_job() -> None:
    """Jobs of a page that cannot be read any more are asked about like all others."""
    schedule, jobs = _schedule()
    schedule.lose_page("c1")
    look = schedule.look(70.0)
    assert not look.bookmarks
    assert set(look.chances) == {*jobs, "loose"}


def test_a_job_that_left_its_page_is_loose() -> None:
    """A platform whose pages shift shows fewer jobs behind the same cursor: those it hides are looked for again."""
    schedule, jobs = _schedule()
    schedule.read_page("c1", jobs[:6], 20.0)
    assert set(schedule.look(70.0).chances) == {*jobs[6:], "loose"}


def test_a_told_job_is_taken_off_its_page() -> None:
    """A callback's job is asked about alone and at once, also where a page stands for it."""
    schedule, _ = _schedule()
    schedule.hint("j3")
    assert schedule.look(11.0).singles == ["j3"]


def test_while_callbacks_arrive_no_page_is_kept() -> None:
    """What is put off for callbacks is not asked about by pages either."""
    schedule, jobs = _schedule()
    schedule.is_relaxed = True
    assert not schedule.look(59.0).bookmarks
    schedule.read_page("c2", jobs, 59.0)
    assert not schedule.look(59.5).bookmarks


def test_what_jobs_promise_is_counted() -> None:
    """Four jobs that say by their progress that they end at 30 s bring their page up then."""
    schedule, jobs = _schedule()
    for job in jobs[:4]:
        schedule.still_going(job, 10.0, progress_pct=33)
    ((at, cursors, _, _),) = _walk(schedule, 11.0, 120.0)
    assert cursors == ["c1"]
    assert 30.0 <= at <= 31.0


_IDS = st.integers(0, 30).map(str)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.sampled_from("abc"), st.sets(_IDS)),
        st.tuples(st.just("forget"), _IDS),
        st.tuples(st.just("drop"), st.sampled_from("abc")),
    ),
    max_size=30,
)


@settings(max_examples=60)
@given(_STEPS)
def test_every_job_is_on_one_page_or_none(steps: list[tuple[object, ...]]) -> None:
    """Whatever is kept, forgotten and dropped: pages hold each job once, none is empty, and who left is told."""
    bookmarks, held = Bookmarks(), dict[str, str]()
    for step in steps:
        match step:
            case ("keep", str(cursor), set(jobs)):
                gone = bookmarks.keep(cursor, jobs, since=0.0, now=1.0)
                assert set(gone) == {job for job, page in held.items() if page == cursor} - jobs
                held = {job: page for job, page in held.items() if page != cursor} | dict.fromkeys(jobs, cursor)
            case ("forget", str(job)):
                bookmarks.forget(job)
                held.pop(job, None)
            case ("drop", str(cursor)):
                gone = bookmarks.drop(cursor)
                assert set(gone) == {job for job, page in held.items() if page == cursor}
                held = {job: page for job, page in held.items() if page != cursor}
        assert {job: page.cursor for page in bookmarks for job in page.jobs} == held
        assert all(job in bookmarks for job in held)
        assert all(page.jobs for page in bookmarks)
