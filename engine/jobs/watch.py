"""The wait: one table of jobs at the platform, and one task that asks about them when the schedule says so.

List pages answer for up to 200 jobs each. Callbacks move the next question up, and while they arrive the others are
put off. What a terminal job means is the caller's business; a status counts only when a GET said it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

import msgspec

from engine.client.call import Answered
from engine.client.client import Client
from engine.contract.exchange import Trace
from engine.contract.jobs import FAILED, TERMINAL, JobError, JobList, RemoteJob
from engine.contract.problem import retry_after_s
from engine.contract.profile import PROFILE
from engine.errors import Missing, Rejected
from engine.events import JobSettled, Polled, Warned
from engine.jobs.reliance import Reliance
from engine.jobs.schedule import Look, Schedule
from engine.pipeline.spec import JobSpec
from engine.ports import Clock, Observer
from engine.store.rows import JobRow

_PAGE_LIMIT = PROFILE.page_limit_max
# A page that shows fewer of our jobs has reached the old ones: the next would show still fewer.
_WORTH_A_PAGE = 4
# A job that no page showed is asked about alone when its end is at least so likely.
_RIPE = 0.3

# Kept pages that are asked for at once.
_SIDE_BY_SIDE = 16

_EARLY_MAX = 10_000

TIMED_OUT = "timed_out"

Settled = list[tuple[JobRow, RemoteJob]]
_Answer = tuple[RemoteJob, float | None]


class Watcher:
    """Add jobs as they are submitted; `run` tells which have ended, in groups."""

    def __init__(self, *, client: Client, spec: JobSpec, schedule: Schedule, clock: Clock, observer: Observer) -> None:
        self._client = client
        self._kind = spec.kind
        self._timeout_s = spec.timeout
        self._schedule = schedule
        self._clock = clock
        self._observer = observer
        self._watched: dict[str, list[JobRow]] = {}
        self._since: dict[str, float] = {}
        self._reliance: Reliance | None = None
        self._early: dict[str, None] = {}
        self._wake = asyncio.Event()
        self.trace: Trace | None = None
        self.polls = 0

    def __len__(self) -> int:
        return sum(map(len, self._watched.values()))

    @property
    def jobs(self) -> list[JobRow]:
        """The jobs that are watched."""
        return [job for rows in self._watched.values() for job in rows]

    def add(self, job: JobRow, *, is_new: bool = False) -> None:
        """Watch a submitted job. Remote ids need not be unique: one answer then settles several rows.

        One that is new has no age, whatever the wall clock did since it was written down.
        """
        remote_id = job.remote_id or ""
        rows = self._watched.get(remote_id)
        if rows is not None:
            rows.append(job)
            return
        age_s = 0.0 if is_new else max(0.0, (self._clock.now_ns() - (job.submitted_ns or self._clock.now_ns())) / 1e9)
        now = self._clock.monotonic()
        if self._reliance is not None and self._reliance.is_good and not self._watched:
            self._reliance.hear(now)  # Nothing was under way, so the silence so far means nothing.
        self._watched[remote_id] = [job]
        self._since[remote_id] = now - age_s
        self._schedule.add(remote_id, now, age_s=age_s)
        if remote_id in self._early:
            del self._early[remote_id]
            self._schedule.hint(remote_id)
        if len(self._watched) == 1:
            self._wake.set()

    def expect_callbacks(self, *, patience_s: float) -> None:
        """Callbacks will come: poll less, until none came for `patience_s`."""
        self._reliance = Reliance(patience_s, self._clock.monotonic())
        self._schedule.is_relaxed = True

    def nudge(self, remote_id: str, *, trace_id: str | None = None) -> None:
        """A callback says that this job has ended: ask now, whatever it said.

        One that comes before its job was added waits for it; one about a job that is none of ours does no more.
        """
        if self._reliance is not None:
            self._reliance.hear(self._clock.monotonic())
            self._schedule.is_relaxed = True
        rows = self._watched.get(remote_id)
        if rows is None:
            self._early[remote_id] = None
            if len(self._early) > _EARLY_MAX:
                del self._early[next(iter(self._early))]
            return
        if trace_id is not None and all(job.trace_id != trace_id for job in rows):
            said = f"the callback of job {remote_id} names another trace than the job has; the job was asked about"
            self._observer.notice(Warned("callback.other_trace", said))
        self._schedule.hint(remote_id)
        self._wake.set()

    async def run(self, settled: Callable[[Settled], Awaitable[None]]) -> None:
        """Ask for ever; cancelled by its owner. `settled` gets each group once, before the next question."""
        while True:
            self._heed_silence()
            look = self._schedule.look(self._clock.monotonic())
            if not (look.bookmarks or look.pages or look.singles):
                await self._wait(look.wait_s)
                continue
            answers = await self._by_bookmarks(look.bookmarks)
            rest = look.singles
            if look.pages:
                found, rest = await self._by_pages(look)
                answers += found
            answers += await self._one_by_one([remote_id for remote_id in rest if remote_id in self._watched])
            ended = [pair for remote, wait_s in answers for pair in self._note(remote, wait_s)]
            if ended:
                await settled(ended)

    def _heed_silence(self) -> None:
        """When callbacks stop, every job that was put off for them is polled as if there were none."""
        if self._reliance is not None and self._watched and self._reliance.lose(self._clock.monotonic()):
            said = f"no callback for {self._reliance.patience_s:g} s; polling until the next one"
            self._observer.notice(Warned("callback.silence", said))
            self._schedule.is_relaxed = False
            self._schedule.ask_all()

    async def _wait(self, seconds: float | None) -> None:
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    async def _by_pages(self, look: Look) -> tuple[list[_Answer], list[str]]:
        """Answers from list pages, and the jobs no page was worth reading on for."""
        unseen = dict(look.chances)
        answers: list[_Answer] = []
        cursor: str | None = None
        pages = 0
        seen: set[str | None] = {None}
        while True:
            try:
                answered = await self._client.jobs.list(
                    kind=self._kind, limit=_PAGE_LIMIT, cursor=cursor, trace=self.trace
                )
            except (Rejected, Missing):
                if cursor is None:
                    raise
                break  # The cursor is no good, or no longer; the list is only a short cut.
            pages += 1
            ours = self._on_page(answered, cursor)
            for remote in ours:
                unseen.pop(remote.id, None)
            answers += [(remote, None) for remote in ours]
            cursor = answered.answer.next_cursor
            if cursor in seen or len(ours) < _WORTH_A_PAGE or sum(unseen.values()) < look.worth:
                break
            seen.add(cursor)
        self._schedule.read_pages(pages, ours=len(answers))
        return answers, [remote_id for remote_id, chance in unseen.items() if chance >= _RIPE]

    async def _by_bookmarks(self, cursors: Sequence[str]) -> list[_Answer]:
        """Answers from pages that were read before, some at a time."""
        waiting, answers = iter(cursors), list[_Answer]()

        async def read() -> None:
            for cursor in waiting:
                try:
                    answered = await self._client.jobs.list(
                        kind=self._kind, limit=_PAGE_LIMIT, cursor=cursor, trace=self.trace
                    )
                except (Rejected, Missing):
                    self._schedule.lose_page(cursor)
                    continue
                answers.extend([(remote, None) for remote in self._on_page(answered, cursor)])

        async with asyncio.TaskGroup() as group:
            for _ in range(min(_SIDE_BY_SIDE, len(cursors))):
                group.create_task(read())
        return answers

    def _on_page(self, answered: Answered[JobList], cursor: str | None) -> list[RemoteJob]:
        """The jobs of ours that a page shows."""
        now = self._clock.monotonic()
        self.polls += 1
        ours = [remote for remote in answered.answer.jobs if remote.id in self._watched]
        self._observer.notice(Polled(len(ours), by_page=True))
        self._schedule.hold(now, self._retry_after_s(answered.headers))
        self._schedule.read_page(cursor, [remote.id for remote in ours], now)
        return ours

    async def _one_by_one(self, remote_ids: Sequence[str]) -> list[_Answer]:
        if not remote_ids:
            return []
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._ask(remote_id)) for remote_id in remote_ids]
        return [task.result() for task in tasks]

    async def _ask(self, remote_id: str) -> _Answer:
        job = self._watched[remote_id][0]
        try:
            answered = await self._client.jobs.get(remote_id, trace=Trace(job.trace_id, job.span_id))
        except Missing as exc:
            error = msgspec.to_builtins(JobError(code="vanished", message=str(exc.message)))
            return RemoteJob(id=remote_id, kind=job.kind, status=FAILED, error=error), None
        finally:
            self.polls += 1
        self._observer.notice(Polled(1, by_page=False))
        return answered.answer, self._retry_after_s(answered.headers)

    def _retry_after_s(self, headers: Mapping[str, str]) -> float | None:
        return retry_after_s(headers, now_s=self._clock.now_ns() / 1e9)

    def _note(self, remote: RemoteJob, wait_s: float | None) -> Settled:
        rows = self._watched.get(remote.id)
        if rows is None:
            return []
        now = self._clock.monotonic()
        if remote.status not in TERMINAL and now - self._since[remote.id] > self._timeout_s:
            remote = _timed_out(remote, self._timeout_s)
        if remote.status not in TERMINAL:
            self._schedule.still_going(remote.id, now, progress_pct=remote.progress_pct, retry_after_s=wait_s)
            return []
        del self._watched[remote.id], self._since[remote.id]
        age_s = self._schedule.ended(remote.id, now, took_s=_took_s(remote))
        self._observer.notice(JobSettled(remote.kind, remote.status, age_s))
        return [(job, remote) for job in rows]


def _took_s(remote: RemoteJob) -> float | None:
    """How long it took by the platform's own clock, to the second."""
    try:
        created = datetime.fromisoformat(remote.created_at or "")
        completed = datetime.fromisoformat(remote.completed_at or "")
        return max(0.0, (completed - created).total_seconds())
    except (ValueError, TypeError):
        return None


def _timed_out(remote: RemoteJob, timeout_s: float) -> RemoteJob:
    said = f"still {remote.status} after {timeout_s:g} s"
    error = msgspec.to_builtins(JobError(code=TIMED_OUT, message=said))
    return msgspec.structs.replace(remote, status=FAILED, error=error)
