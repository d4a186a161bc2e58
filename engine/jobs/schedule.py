"""When to ask about jobs, and how: by list pages that answer for many, or one by one. Pure; monotonic seconds.

A request is worth sending when it is expected to bring an end or two to light. What is expected comes from
learned durations, from a job's own progress, and from how well earlier expectations came true, so that a
surprise (all jobs slow, nothing learned yet) costs a few requests and not one per job. Jobs that a page showed are
looked at page by page (`bookmarks`), the others, which are loose, one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from engine.contract.profile import PROFILE
from engine.jobs.bookmarks import Bookmark, Bookmarks
from engine.jobs.durations import Durations
from engine.pipeline.spec import PollSpec

_PAGE_JOBS = PROFILE.page_limit_max
# Ends that a page must be expected to show; for few jobs less, because there requests are few anyway.
_WORTH = 0.5
_WORTH_OF_ONE = 0.15
_WORTH_PER_JOB = 0.05
# One job is asked about alone from this chance on, however little the others are expected to bring.
_RIPE = 0.3
_TICK_MIN_S = 0.02
_TICK_MAX_S = 0.5
_TICK_SHARE = 0.05
# A look at everything costs about so much per job; it must stay a small part of the time.
_LOOK_S = 100e-6
# The part of the account's ceiling that asking may take.
_BUDGET_SHARE = 0.3
_RETRY_AFTER_MAX_S = 300.0
# Until so many durations are known, jobs that fill pages well are all looked at whenever they have aged by a part:
# where a page shows fifty jobs, that is half a request for each, and nobody learns that a minute is usual at a cost
# of several minutes.
_LEARNED = 20
_AGED = 0.04
_FULL_PAGE = 50
# Ends that a kept page must be expected to show: it is one of many, and stands for as many requests as it has jobs.
_WORTH_OF_PAGE = 0.25
# Of kept pages the oldest are enough to learn from: their jobs end first.
_CURIOUS_PAGES = 4
# A page that shows fewer of our jobs is not kept.
_WORTH_KEEPING = 4
# Kept pages of one answer to `look`: what they bring is to be told before more is asked.
_PAGES_AT_ONCE = 32
# How much of earlier questions counts when expectations are compared with what came.
_MEMORY = 0.8
_TRUST_MAX = 4.0


class Look(msgspec.Struct, gc=False, kw_only=True):
    """What to do now: read the kept pages of these cursors, read pages from the newest on, or ask about `singles`.

    Where there is nothing to do, look again after `wait_s` at most.

    `chances` says of each job how likely its end is; a page is worth reading while those unseen add up to `worth`.
    """

    bookmarks: list[str] = []
    pages: bool = False
    singles: list[str] = []
    wait_s: float | None = None
    chances: dict[str, float] = {}
    worth: float = _WORTH


class _Entry(msgspec.Struct, gc=False):
    since: float
    seen: float
    is_old: bool
    not_before: float = -math.inf
    expected: float = math.inf
    is_told: bool = False
    is_news: bool = False


class Schedule:
    """The jobs that are waited for, by id. `timeout_s` is when one is to be looked at in any case.

    `requests_per_s` is the account's ceiling, if it has one.
    """

    def __init__(self, spec: PollSpec, *, timeout_s: float = math.inf, requests_per_s: float | None = None) -> None:
        self._spec = spec
        self._timeout_s = timeout_s
        self._gap_s = 1.0 / (_BUDGET_SHARE * requests_per_s) if requests_per_s else 0.0
        self._entries: dict[str, _Entry] = {}
        self._loose: dict[str, _Entry] = {}
        self._bookmarks = Bookmarks()
        self._loose_at = self._bookmarks_at = -math.inf
        self._pages = 1.0
        self._density = 1.0
        self._not_before = -math.inf
        self._swept_at = -math.inf
        self._trust = 1.0
        self._expected = self._found = 0.0
        self.is_relaxed = False
        self.learned = Durations(first_s=spec.first, factor=spec.factor)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, id: str, now: float, *, age_s: float = 0.0) -> None:
        """Wait for a job that has existed for `age_s`."""
        since = now - age_s
        self._entries[id] = self._loose[id] = _Entry(since, since, age_s > 1.0)

    def hint(self, id: str) -> None:
        """Somebody says that it has ended: ask soon, even where a question is under way that may be older."""
        if entry := self._entries.get(id):
            entry.expected, entry.not_before = -math.inf, -math.inf
            entry.is_told = entry.is_news = True
            self._bookmarks.forget(id)
            self._set_loose((id,))

    def ask_all(self) -> None:
        """Every job is due now: what was relied on to tell of them has gone quiet."""
        for entry in self._entries.values():
            entry.expected = -math.inf
        self._dissolve()

    def still_going(
        self, id: str, now: float, *, progress_pct: int | None = None, retry_after_s: float | None = None
    ) -> None:
        """An answer: not ended. Its own progress and `Retry-After` beat everything learned."""
        entry = self._entries[id]
        entry.seen = now
        if entry.is_news:
            return
        entry.expected = math.inf
        if progress_pct and 0 < progress_pct < 100:
            entry.expected = entry.since + (now - entry.since) * 100 / progress_pct
            self._bookmarks.promise(id, entry.expected)
        if retry_after_s:
            entry.not_before = now + min(retry_after_s, _RETRY_AFTER_MAX_S)

    def ended(self, id: str, now: float, *, took_s: float | None = None) -> float:
        """An answer: ended. `took_s` is the platform's own figure, to the second; answers how long we waited."""
        entry = self._entries.pop(id)
        self._loose.pop(id, None)
        self._bookmarks.forget(id)
        self._found += 1.0
        least, most = entry.seen - entry.since, now - entry.since
        if entry.is_told:
            self.learned.add(most)
        elif took_s is not None and most - least > 2.0:
            self.learned.add(min(max(took_s, least), most))
        elif self.is_relaxed:
            pass  # Asked late by design: learning from it would put off the next questions even more.
        elif not entry.is_old:
            # It ended somewhere between two answers. Taking the later one would teach us to ask ever later.
            self.learned.add((least + most) / 2)
        return most

    def read_page(self, cursor: str | None, jobs: list[str], now: float) -> None:
        """The page of this cursor showed these jobs of ours; None is the newest page, which is another each time."""
        if cursor is None or self.is_relaxed:
            return
        jobs = [job for job in jobs if not self._entries[job].is_told]
        if len(jobs) < _WORTH_KEEPING:
            self.lose_page(cursor)
            return
        since = self._entries[jobs[len(jobs) // 2]].since
        gone = self._bookmarks.keep(cursor, jobs, since=since, now=now)
        for job in jobs:
            self._loose.pop(job, None)
        self._set_loose(gone)

    def lose_page(self, cursor: str) -> None:
        """The page of this cursor cannot be read any more."""
        self._set_loose(self._bookmarks.drop(cursor))

    def read_pages(self, count: int, *, ours: int) -> None:
        """A sweep took so many pages, which showed `ours` of our jobs."""
        self._pages += 0.5 * (max(1, count) - self._pages)
        full = min(len(self._entries) or 1, _PAGE_JOBS * max(1, count))
        self._density += 0.5 * (min(1.0, (ours + 1) / full) - self._density)

    def hold(self, now: float, retry_after_s: float | None) -> None:
        """A page asked us to wait before the next."""
        if retry_after_s:
            self._not_before = now + min(retry_after_s, _RETRY_AFTER_MAX_S)

    def look(self, now: float) -> Look:
        """Decide. Call it again after what it said was done, or when `wait_s` has passed, or when a job was added."""
        if not self._entries:
            return Look()
        if now < self._not_before:
            return Look(wait_s=self._not_before - now)
        if self.is_relaxed:
            self._dissolve()
        look = Look(wait_s=self._tick_s())
        if not len(self._bookmarks):
            self._look_at_loose(look, now)
            return look
        if now >= self._bookmarks_at:
            look.bookmarks = self._ripe_pages(now)
        if now >= self._loose_at:
            self._look_at_loose(look, now)
        look.wait_s = max(_TICK_MIN_S, min(self._bookmarks_at, self._loose_at) - now)
        return look

    def _ripe_pages(self, now: float) -> list[str]:
        """The kept pages that are worth reading again, those first that are expected to bring most."""
        expected: list[tuple[float, Bookmark]] = []
        curious = _CURIOUS_PAGES if len(self.learned) < _LEARNED else 0
        oldest = sorted(self._bookmarks, key=lambda page: page.since)[:curious] if curious else []
        for page in self._bookmarks:
            ends = page.expected(now, self.learned.ended_between)
            worth = min(_WORTH_OF_PAGE, _WORTH_OF_ONE * len(page.jobs))
            is_due = now - page.seen >= self._spec.max or now - page.since >= self._timeout_s > page.seen - page.since
            is_due |= page in oldest and self._has_aged(page.since, page.seen, now)
            if is_due or ends * self._trust >= worth:
                expected.append((ends, page))
        expected.sort(key=lambda pair: -pair[0])
        chosen = expected[:_PAGES_AT_ONCE]
        if chosen:
            self._compare(sum(ends for ends, _ in chosen))
            self._not_before = max(self._not_before, now + self._gap_s * len(chosen))
        if len(expected) == len(chosen):
            self._bookmarks_at = now + self._share_s()
        return [page.cursor for _, page in chosen]

    def _look_at_loose(self, look: Look, now: float) -> None:
        chances, expected = self._chances(now)
        self._loose_at = now + self._tick_s()
        if not chances:
            return
        look.chances, look.worth = chances, self._worth()
        singles = [job_id for job_id, chance in chances.items() if chance >= _RIPE]
        pages = max(1.0, min(self._pages, math.ceil(len(self._loose) / _PAGE_JOBS)))
        is_worth_it = sum(chances.values()) * self._density >= look.worth * pages or self._is_curious(now)
        if len(self._loose) > 1 and is_worth_it and (len(singles) > pages or not singles):
            look.pages = True
        elif is_worth_it or singles:
            look.singles = singles or list(chances)
        if look.pages:
            self._swept_at = now
        if look.pages or look.singles:
            for job_id in chances if look.pages else look.singles:
                self._entries[job_id].is_news = False
            asked = len(chances) if look.pages else len(look.singles)
            self._compare(expected * asked / len(chances))
            self._not_before = max(self._not_before, now) + self._gap_s * (pages if look.pages else asked)
            self._loose_at = -math.inf
        else:
            self._density = min(1.0, self._density * 1.01)

    def _set_loose(self, jobs: Iterable[str]) -> None:
        """These jobs are looked at one by one again."""
        for job in jobs:
            self._loose[job] = self._entries[job]
            self._loose_at = -math.inf

    def _dissolve(self) -> None:
        for page in list(self._bookmarks):
            self.lose_page(page.cursor)

    def _chances(self, now: float) -> tuple[dict[str, float], float]:
        """By job, how likely it has ended; and how many ends the durations alone would make us expect."""
        chances: dict[str, float] = {}
        expected = 0.0
        for job_id, entry in self._loose.items():
            if now < entry.not_before:
                continue
            if self.is_relaxed and not entry.is_told and not self._is_overdue(entry, now):
                continue
            chance = self.learned.ended_between(entry.seen - entry.since, now - entry.since)
            expected += chance
            is_due = (
                now - entry.seen >= self._spec.max
                or now >= entry.expected
                or now - entry.since >= self._timeout_s > entry.seen - entry.since
            )
            chances[job_id] = (
                1.0 if is_due or (self.is_relaxed and not entry.is_told) else min(1.0, chance * self._trust)
            )
        return chances, expected

    def _is_overdue(self, entry: _Entry, now: float) -> bool:
        """While callbacks arrive: whether a job's own must have been lost, going by how long jobs take."""
        late_s = self.relaxed_s()
        since_s = min(late_s, self._spec.max) if entry.seen > entry.since else late_s
        is_timed_out = now - entry.since >= self._timeout_s > entry.seen - entry.since
        return is_timed_out or now - entry.seen >= since_s

    def relaxed_s(self) -> float:
        """How old a job gets before it is asked about although callbacks arrive: older than nearly all get."""
        usual_s = self.learned.quantile(0.95)
        return self._spec.max if usual_s is None else self._spec.first + 1.5 * usual_s

    def _is_curious(self, now: float) -> bool:
        """Whether it is worth a sweep just to learn how long such jobs take."""
        if self.is_relaxed or len(self.learned) >= _LEARNED or len(self._loose) < _FULL_PAGE:
            return False
        return self._has_aged(next(iter(self._loose.values())).since, self._swept_at, now)

    def _has_aged(self, since: float, seen: float, now: float) -> bool:
        """Whether so much of a job's age has passed since somebody looked that it may teach something."""
        return now - since >= self._spec.first and now - seen >= _AGED * (now - since)

    def _worth(self) -> float:
        return min(_WORTH, _WORTH_OF_ONE + _WORTH_PER_JOB * (len(self._loose) - 1))

    def _tick_s(self) -> float:
        return max(_TICK_MIN_S, _LOOK_S * len(self._loose), self._share_s())

    def _share_s(self) -> float:
        """A small part of what jobs usually take."""
        usual_s = self.learned.quantile(0.5)
        share_s = self._spec.first / 8 if usual_s is None else _TICK_SHARE * usual_s
        return min(share_s, _TICK_MAX_S)

    def _compare(self, expected: float) -> None:
        """Before the next question: what the last ones brought, against what the durations made us expect."""
        self._trust = min(_TRUST_MAX, (self._found + 1.0) / (self._expected + 1.0))
        self._expected = _MEMORY * self._expected + expected
        self._found *= _MEMORY
