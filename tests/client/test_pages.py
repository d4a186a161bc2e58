"""Lists: they end, whatever the platform says of them (T16)."""

import itertools

import pytest

from engine.client.pages import items, pages
from engine.errors import BrokenAnswer, CapExceeded

pytestmark = pytest.mark.anyio


@pytest.fixture
def listing(platform, scripted, answer_json):
    """Script the list of jobs: one job per page, and the cursors that lead from page to page."""

    def script(cursors):
        cursors = iter(cursors)
        numbers = itertools.count(1)

        def answer(_):
            job = {"id": f"j{next(numbers)}", "kind": "k", "status": "running"}
            return answer_json({"jobs": [job], "next_cursor": next(cursors)})

        platform.script["GET /v1/jobs"] = answer
        return lambda cursor: scripted.jobs.list(cursor=cursor, limit=1)

    return script


async def test_a_list_is_walked_to_its_end(platform, listing) -> None:
    """Each page is asked for by the cursor of the one before; null, or empty, is the end."""
    for last in (None, ""):
        platform.seen.clear()
        ask = listing(["a", "b+/=", last])
        assert [job.id async for job in items(ask, lambda page: page.jobs)] == ["j1", "j2", "j3"]
        asked = platform.asked("GET /v1/jobs")
        assert [seen.query.get("cursor") for seen in asked] == [None, "a", "b+/="]


@pytest.mark.parametrize("cursors", [["a", "a"], ["a", "b", "a"], ["a", "b", "c", "b"]])
async def test_t16_a_cursor_that_comes_again_ends_the_walk(listing, cursors) -> None:
    """T16: a loop of any length is found when it closes."""
    with pytest.raises(BrokenAnswer, match="repeats a cursor"):
        async for _ in items(listing(itertools.cycle(cursors)), lambda page: page.jobs):
            pass


async def test_t16_endless_pages_end(platform, listing) -> None:
    """T16: a list that never stops is given up at the cap."""
    ask = listing(str(number) for number in itertools.count())
    with pytest.raises(CapExceeded, match="more than 20 pages"):
        async for _ in pages(ask, pages_max=20):
            pass
    assert len(platform.asked("GET /v1/jobs")) == 20


async def test_t16_a_cursor_is_never_followed_elsewhere(platform, elsewhere, listing) -> None:
    """T16: a cursor that is a URL is a member of our own query, and nothing else."""
    ask = listing([elsewhere.url + "/v1/jobs", None])
    assert len([page async for page in pages(ask)]) == 2
    assert elsewhere.seen == []


async def test_t16_a_cursor_of_any_size_is_no_cursor(listing) -> None:
    """T16: what would not fit a URL is not sent as one."""
    with pytest.raises(BrokenAnswer, match="more than 8192"):
        async for _ in pages(listing(["x" * 9000, None])):
            pass


async def test_a_walk_may_begin_in_the_middle(platform, listing) -> None:
    """A cursor that was kept continues a walk."""
    assert len([page async for page in pages(listing([None]), start="kept")]) == 1
    assert platform.asked("GET /v1/jobs")[0].query["cursor"] == "kept"
