"""The wait: one table of jobs at the platform, one heap of when to ask about them.

A single task asks; when many jobs are due, list pages answer for up to 200 of them each. Callbacks move the
next question up, and while they arrive the others are put off. What a terminal job means is the caller's
business; a status counts only when a GET said it.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from engine.client.client import Client
from engine.contract.exchange import Trace
from engine.contract.jobs import FAILED, TERMINAL, RemoteJob
from engine.errors import Missing
from engine.events import JobSettled, Polled, Warned
from engine.jobs.lanes import Lane
from engine.jobs.schedule import ENOUGH, Reliance, Schedule
from engine.pipeline.spec import JobSpec
from engine.ports import Clock, Observer
from engine.store.rows import JobRow

_PAGE_FROM = 6  # From this many due jobs on, a list page is cheaper than asking one by one.
_PAGE_LIMIT = 200
_WORTH_A_PAGE = 4
_EARLY_MAX = 10_000
_NEVER = float("inf")

TIMED_OUT = "timed_out"

Settled = list[tuple[JobRow, RemoteJob]]


class _Watched(msgspec.Struct, gc=False):
    """`due` is when it is asked about next, and which of its heap entries counts; `is_told`: a callback came."""

    jobs: list[JobRow]
    since: float
    polls: int = 0
    due: float = _NEVER
    is_told: bool = False


class Watcher:
    """Add jobs as they are submitted; `run` tells which have ended, in groups."""

    def __init__(
        self, *, client: Client, spec: JobSpec, schedule: Schedule, lane: Lane, clock: Clock, observer: Observer
    ) -> None:
        self._client = client
        self._kind = spec.kind
        self._timeout_s = spec.timeout
        self._schedule = schedule
        self._lane = lane
        self._clock = clock
        self._observer = observer
        self._watched: dict[str, _Watched] = {}
        self._heap: list[tuple[float, str]] = []
        self._wake = asyncio.Event()
        self._reliance: Reliance | None = None
        self._early: dict[str, None] = {}
        self.trace: Trace | None = None
        self.polls = 0

    def __len__(self) -> int:
        return sum(len(entry.jobs) for entry in self._watched.values())

    def add(self, job: JobRow) -> None:
        """Watch a submitted job. Remote ids need not be unique: one answer then settles several rows."""
        remote_id = job.remote_id or ""
        entry = self._watched.get(remote_id)
        if entry is not None:
            entry.jobs.append(job)
            return
        age_s = max(0.0, (self._clock.now_ns() - (job.submitted_ns or self._clock.now_ns())) / 1e9)
        now = self._clock.monotonic()
        if self._reliance is not None and self._reliance.is_good and not self._watched:
            self._reliance.hear(now)  # Nothing was under way, so the silence so far means nothing.
        is_told = remote_id in self._early
        self._early.pop(remote_id, None)
        self._watched[remote_id] = entry = _Watched([job], now - age_s, is_told=is_told)
        first_s = self._schedule.relaxed_first_s() if self._is_relaxed else self._schedule.first_s()
        self._push(now if is_told else self._before_timeout(entry, now + max(0.0, first_s - age_s)), remote_id)

    def expect_callbacks(self, *, patience_s: float) -> None:
        """Callbacks will come: poll less, until none came for `patience_s`."""
        self._reliance = Reliance(patience_s, self._clock.monotonic())

    def nudge(self, remote_id: str, *, trace_id: str | None = None) -> None:
        """A callback says that this job has ended: ask now, whatever it said.

        One that comes before its job was added waits for it; one about a job that is none of ours does no more.
        """
        now = self._clock.monotonic()
        if self._reliance is not None:
            self._reliance.hear(now)
        entry = self._watched.get(remote_id)
        if entry is None:
            self._early[remote_id] = None
            if len(self._early) > _EARLY_MAX:
                del self._early[next(iter(self._early))]
            return
        if trace_id is not None and all(job.trace_id != trace_id for job in entry.jobs):
            said = f"the callback of job {remote_id} names another trace than the job has; the job was asked about"
            self._observer.notice(Warned("callback.other_trace", said))
        entry.is_told = True
        self._push(now, remote_id)

    async def run(self, settled: Callable[[Settled], Awaitable[None]]) -> None:
        """Ask for ever; cancelled by its owner. `settled` gets each group once, before the next question."""
        while True:
            self._heed_silence()
            due = self._take_due()
            if not due:
                await self._wait()
                continue
            if len(due) >= _PAGE_FROM:
                answers, rest = await self._by_pages(due)
            else:
                answers, rest = [], due
            answers += await self._one_by_one(rest)
            ended = [pair for remote in answers for pair in self._note(remote)]
            if ended:
                await settled(ended)

    @property
    def _is_relaxed(self) -> bool:
        return self._reliance is not None and self._reliance.is_good

    def _heed_silence(self) -> None:
        """When callbacks stop, every job that was put off for them is due."""
        now = self._clock.monotonic()
        if self._reliance is not None and self._watched and self._reliance.lose(now):
            said = f"no callback for {self._reliance.patience_s:g} s; polling until the next one"
            self._observer.notice(Warned("callback.silence", said))
            for remote_id in self._watched:
                self._push(now, remote_id)

    def _push(self, due: float, remote_id: str) -> None:
        self._watched[remote_id].due = due
        heapq.heappush(self._heap, (due, remote_id))
        if self._heap[0][1] == remote_id:
            self._wake.set()

    def _take_due(self) -> list[str]:
        now = self._clock.monotonic()
        taken: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            due, remote_id = heapq.heappop(self._heap)
            entry = self._watched.get(remote_id)
            # An entry of another time was overtaken: by a callback, or by a page that answered for it.
            if entry is not None and entry.due == due:
                entry.due = _NEVER
                taken.append(remote_id)
        return taken

    async def _wait(self) -> None:
        self._wake.clear()
        until = self._heap[0][0] if self._heap else _NEVER
        if self._watched and self._reliance is not None and self._reliance.is_good:
            until = min(until, self._reliance.ends_at())
        if until == _NEVER:
            await self._wake.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - self._clock.monotonic())):
                await self._wake.wait()

    async def _by_pages(self, due: list[str]) -> tuple[list[RemoteJob], list[str]]:
        """Answers from list pages, and the jobs no page was worth reading on for."""
        wanted = set(due)
        answers: list[RemoteJob] = []
        cursor: str | None = None
        while len(wanted) >= _WORTH_A_PAGE:
            async with self._lane:
                page = (
                    await self._client.jobs.list(kind=self._kind, limit=_PAGE_LIMIT, cursor=cursor, trace=self.trace)
                ).answer
            self.polls += 1
            ours = [remote for remote in page.jobs if remote.id in self._watched]
            wanted.difference_update(remote.id for remote in ours)
            answers += ours
            self._observer.notice(Polled(len(ours), by_page=True))
            cursor = page.next_cursor
            if cursor is None or len(ours) < _WORTH_A_PAGE:
                break
        return answers, [remote_id for remote_id in due if remote_id in wanted]

    async def _one_by_one(self, remote_ids: Sequence[str]) -> list[RemoteJob]:
        if not remote_ids:
            return []
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(remote_id)) for remote_id in remote_ids]
        return [task.result() for task in tasks]

    async def _ask(self, remote_id: str) -> RemoteJob:
        job = self._watched[remote_id].jobs[0]
        try:
            async with self._lane:
                answered = await self._client.jobs.get(remote_id, trace=Trace(job.trace_id, job.span_id))
        except Missing as exc:
            error = {"code": "vanished", "message": str(exc.message), "retryable": False}
            return RemoteJob(id=remote_id, kind=job.kind, status=FAILED, error=error)
        finally:
            self.polls += 1
        self._observer.notice(Polled(1, by_page=False))
        return answered.answer

    def _note(self, remote: RemoteJob) -> Settled:
        entry = self._watched.get(remote.id)
        if entry is None:
            return []
        now = self._clock.monotonic()
        if remote.status not in TERMINAL and now - entry.since > self._timeout_s:
            remote = _timed_out(remote, self._timeout_s)
        if remote.status in TERMINAL:
            del self._watched[remote.id]
            if entry.is_told or not self._is_relaxed:
                # A relaxed poll comes late by design: learning from it would put off the next ones even more.
                self._schedule.learned.add(now - entry.since)
                self._heed_first_lesson()
            self._observer.notice(JobSettled(remote.kind, remote.status, now - entry.since))
            return [(job, remote) for job in entry.jobs]
        entry.polls += 1
        # Due again already: a callback came while this question was under way, so the answer may be older than it.
        if entry.due > now:
            self._push(self._before_timeout(entry, now + self._next_s(entry, remote, now)), remote.id)
        return []

    def _heed_first_lesson(self) -> None:
        """Jobs that were put off as far as can be, because nothing was known, are put off as far as is wise."""
        if not self._is_relaxed or len(self._schedule.learned) != ENOUGH:
            return
        wait_s = self._schedule.relaxed_first_s()
        for remote_id, entry in self._watched.items():
            if not entry.polls and entry.since + wait_s < entry.due < _NEVER:
                self._push(entry.since + wait_s, remote_id)

    def _next_s(self, entry: _Watched, remote: RemoteJob, now: float) -> float:
        jitter = random.random()
        if self._is_relaxed and not entry.is_told:
            return self._schedule.relaxed_next_s(jitter=jitter)
        return self._schedule.next_s(
            age_s=now - entry.since, polls=entry.polls, progress_pct=remote.progress_pct, jitter=jitter
        )

    def _before_timeout(self, entry: _Watched, due: float) -> float:
        """A job must be looked at just after its deadline, however relaxed the schedule is."""
        return min(due, max(entry.since + self._timeout_s + 0.01, self._clock.monotonic()))


def _timed_out(remote: RemoteJob, timeout_s: float) -> RemoteJob:
    said = f"still {remote.status} after {timeout_s:g} s"
    error = {"code": TIMED_OUT, "message": said, "retryable": False}
    return msgspec.structs.replace(remote, status=FAILED, error=error)
