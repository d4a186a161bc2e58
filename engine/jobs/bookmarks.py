"""Bookmarks: list pages that showed jobs of ours, kept by the cursors they were asked for with. Pure.

Times are monotonic seconds. A cursor is a place in the order of creation (contract 9.6), so the page behind it shows
the same jobs again, and can be asked for alone, whenever enough of them are expected to have ended, and beside others.
The cursor itself is opaque. Jobs of one page were created together and seen together: one look at a page stands for
all of them.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Iterator

import msgspec


class Bookmark(msgspec.Struct, gc=False, eq=False):
    """A page: the jobs on it that are open, about when they began, when they were seen, when they say they will end."""

    cursor: str
    jobs: set[str]
    since: float
    seen: float
    promised: list[float] = []

    def expected(self, now: float, ended_between: Callable[[float, float], float]) -> float:
        """How many have ended by now, going by how long jobs take, or by their own word where that is more."""
        usual = len(self.jobs) * ended_between(self.seen - self.since, now - self.since)
        return max(usual, float(bisect_right(self.promised, now)))


class Bookmarks:
    """The pages, and which job is on which."""

    def __init__(self) -> None:
        self._pages: dict[str, Bookmark] = {}
        self._page_of: dict[str, Bookmark] = {}

    def __len__(self) -> int:
        return len(self._pages)

    def __iter__(self) -> Iterator[Bookmark]:
        return iter(self._pages.values())

    def __contains__(self, job: str) -> bool:
        return job in self._page_of

    def keep(self, cursor: str, jobs: Iterable[str], *, since: float, now: float) -> list[str]:
        """The page of this cursor shows these jobs, and no other of ours; who stood there before and is gone."""
        old = self._pages.pop(cursor, None)
        page = Bookmark(cursor, set(jobs), since, now)
        gone = [] if old is None else list(old.jobs - page.jobs)
        for job in gone:
            del self._page_of[job]
        for job in page.jobs:
            self.forget(job)
            self._page_of[job] = page
        if page.jobs:
            self._pages[cursor] = page
        return gone

    def promise(self, job: str, at: float) -> None:
        """A job says when it will end."""
        page = self._page_of.get(job)
        if page is not None:
            insort(page.promised, at)

    def forget(self, job: str) -> None:
        """A job has ended, or is asked about in another way."""
        page = self._page_of.pop(job, None)
        if page is None:
            return
        page.jobs.discard(job)
        if not page.jobs and self._pages.get(page.cursor) is page:
            del self._pages[page.cursor]

    def drop(self, cursor: str) -> list[str]:
        """The cursor is good no longer; who stood there."""
        page = self._pages.pop(cursor, None)
        if page is None:
            return []
        for job in page.jobs:
            del self._page_of[job]
        return list(page.jobs)
