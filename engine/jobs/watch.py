"""The wait: one table of jobs at the platform, one heap of when to ask about them.

A single task asks; when many jobs are due, list pages answer for up to 200 of them each. What a terminal
job means is the caller's business; a status counts only when a GET said it.
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
from engine.errors import Missing, Rejected
from engine.events import JobSettled, Polled
from engine.jobs.lanes import Lane
from engine.jobs.schedule import Schedule
from engine.pipeline.spec import JobSpec
from engine.ports import Clock, Observer
from engine.store.rows import JobRow

_PAGE_FROM = 6  # From this many due jobs on, a list page is cheaper than asking one by one.
_PAGE_LIMIT = 200
_WORTH_A_PAGE = 4

TIMED_OUT = "timed_out"

Settled = list[tuple[JobRow, RemoteJob]]


class _Watched(msgspec.Struct, gc=False):
    jobs: list[JobRow]
    since: float
    polls: int = 0


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
        self.trace: Trace | None = None
        self.polls = 0

    def __len__(self) -> int:
        return sum(len(entry.jobs) for entry in self._watched.values())

    def add(self, job: JobRow, *, is_new: bool = False) -> None:
        """Watch a submitted job. Remote ids need not be unique: one answer then settles several rows.

        One that is new has no age, whatever the wall clock did since it was written down.
        """
        remote_id = job.remote_id or ""
        entry = self._watched.get(remote_id)
        if entry is not None:
            entry.jobs.append(job)
            return
        age_s = 0.0 if is_new else max(0.0, (self._clock.now_ns() - (job.submitted_ns or self._clock.now_ns())) / 1e9)
        now = self._clock.monotonic()
        self._watched[remote_id] = _Watched([job], now - age_s)
        self._push(now + max(0.0, self._schedule.first_s() - age_s), remote_id)

    async def run(self, settled: Callable[[Settled], Awaitable[None]]) -> None:
        """Ask for ever; cancelled by its owner. `settled` gets each group once, before the next question."""
        while True:
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

    def _push(self, due: float, remote_id: str) -> None:
        heapq.heappush(self._heap, (due, remote_id))
        if self._heap[0][1] == remote_id:
            self._wake.set()

    def _take_due(self) -> list[str]:
        now = self._clock.monotonic()
        due: dict[str, None] = {}
        while self._heap and self._heap[0][0] <= now:
            _, remote_id = heapq.heappop(self._heap)
            if remote_id in self._watched:
                due[remote_id] = None
        return list(due)

    async def _wait(self) -> None:
        self._wake.clear()
        if not self._heap:
            await self._wake.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._heap[0][0] - self._clock.monotonic())):
                await self._wake.wait()

    async def _by_pages(self, due: list[str]) -> tuple[list[RemoteJob], list[str]]:
        """Answers from list pages, and the jobs no page was worth reading on for."""
        wanted = set(due)
        answers: list[RemoteJob] = []
        cursor: str | None = None
        seen: set[str | None] = {None}
        while len(wanted) >= _WORTH_A_PAGE:
            try:
                async with self._lane:
                    page = (
                        await self._client.jobs.list(
                            kind=self._kind, limit=_PAGE_LIMIT, cursor=cursor, trace=self.trace
                        )
                    ).answer
            except (Rejected, Missing):
                if cursor is None:
                    raise
                break  # The cursor is no good, or no longer; the list is only a short cut.
            self.polls += 1
            ours = [remote for remote in page.jobs if remote.id in self._watched]
            wanted.difference_update(remote.id for remote in ours)
            answers += ours
            self._observer.notice(Polled(len(ours), by_page=True))
            cursor = page.next_cursor
            if cursor in seen or len(ours) < _WORTH_A_PAGE:
                break
            seen.add(cursor)
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
            self._schedule.learned.add(now - entry.since)
            self._observer.notice(JobSettled(remote.kind, remote.status, now - entry.since))
            return [(job, remote) for job in entry.jobs]
        entry.polls += 1
        wait_s = self._schedule.next_s(
            age_s=now - entry.since,
            polls=entry.polls,
            progress_pct=remote.progress_pct,
            jitter=random.random(),
        )
        self._push(now + wait_s, remote.id)
        return []


def _timed_out(remote: RemoteJob, timeout_s: float) -> RemoteJob:
    said = f"still {remote.status} after {timeout_s:g} s"
    error = {"code": TIMED_OUT, "message": said, "retryable": False}
    return msgspec.structs.replace(remote, status=FAILED, error=error)
