"""One run of one pipeline: the stages as tasks of one group, from the first row to the report.

The stages know their own work; this file connects them, starts them, and knows when all is done.
Groups nest in the order things must end: first the create lane, then the fetch lane, then the watcher.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Sequence

import anyio
import msgspec
from anyio.abc import TaskGroup

from engine.client.client import Client
from engine.contract.exchange import Trace
from engine.contract.jobs import RemoteJob, error_of
from engine.contract.profile import PROFILE
from engine.errors import (
    BrokenAnswer,
    CapExceeded,
    Conflict,
    EngineError,
    Missing,
    RecordError,
    Rejected,
    Unbalanced,
)
from engine.events import ResultFetched, Waited
from engine.jobs import lifecycle
from engine.jobs.cancel import Cancelled, cancel_jobs
from engine.jobs.fetch import Fetcher, Outcome
from engine.jobs.records import letters_of
from engine.jobs.slots import Slots
from engine.jobs.submit import Submitter
from engine.jobs.watch import Settled, Watcher
from engine.record import DeadLetter, Mark
from engine.runtime.causes import failing_as
from engine.runtime.edge import Edge
from engine.runtime.endings import Endings
from engine.runtime.landing import Landing
from engine.runtime.planner import Planner, Ready
from engine.runtime.pulse import show_life
from engine.runtime.reading import Reader
from engine.runtime.spans import fetch_span, wait_span
from engine.runtime.spill import Spill
from engine.runtime.tools import Tools
from engine.store.rows import JobRow, RunRow
from engine.transport.patience import Patience, PatienceEnded

# With a pause after each that doubles from 0.1 s: a bad minute of the network must not cost a job its rows.
_FETCH_TRIES = 8
_RESULTS_MAX = 128  # Jobs whose results wait to be fetched; they are at the platform, and its patience has an end.
_READY_TRIES = 10
_READY_WAIT_MAX_S = 60.0
_STOP_GRACE_S = 3.0
_LOOK_EVERY_S = 0.25
# A stop is to end within seconds, also where the platform does not answer any more.
_ABORT_WITHIN_S = 3.0


class Stages(msgspec.Struct, kw_only=True):
    """Everything a run is made of; `assembly` builds it.

    `slots` has one slot per job at the platform; `create_workers` and `fetch_workers` count tasks, `fetch_bytes` is
    what one result may occupy; `cooldown_s` is the wait before another attempt of a failed job; `patience` is what
    everybody waits with for a platform that is down. `is_aborting`: a stop also cancels what is at the platform.
    """

    client: Client
    planner: Planner
    reader: Reader
    submitter: Submitter
    watcher: Watcher
    fetcher: Fetcher
    landing: Landing
    endings: Endings
    tools: Tools
    slots: Slots
    patience: Patience
    ready: Edge[Ready]
    create_workers: int
    fetch_workers: int
    fetch_bytes: int
    cooldown_s: float
    is_aborting: bool = False


class Run:
    """Runs the stages until every row has ended, or a stop is asked for."""

    def __init__(self, row: RunRow, stages: Stages, *, pipeline: str) -> None:
        self._row = row
        self._stages = stages
        self._pipeline = pipeline
        self._results: Edge[JobRow] = Edge(bytes_max=min(_RESULTS_MAX, stages.slots.limit))
        self._unfinished = 0
        self._is_read = False
        self._quiet = asyncio.Event()
        self._background: TaskGroup | None = None
        self._fetchers: TaskGroup | None = None
        self._watching = anyio.CancelScope()
        self._is_unwatched = asyncio.Event()
        self.unbalanced: list[Unbalanced] = []
        self.nulled: Counter[str] = Counter()
        self.aborted: Cancelled | None = None

    async def run(self, jobs: Sequence[JobRow], marks: dict[str, Mark], *, limit: int | None) -> None:
        """Take up the open jobs, read on from the marks, and return when nothing is left to do.

        Raises:
            RunFailed: a stage failed; the ledger holds everything the next run needs.
        """
        try:
            with failing_as(self._pipeline):
                await self._run(jobs, marks, limit)
        finally:
            self._stages.landing.discard()

    async def _run(self, jobs: Sequence[JobRow], marks: dict[str, Mark], limit: int | None) -> None:
        stages = self._stages
        async with anyio.create_task_group() as background:
            self._background = background
            budget = stages.tools.budget
            for task in (self._watch, stages.landing.flush_by_age, self._heed_stop, budget.watch):
                background.start_soon(task)
            background.start_soon(show_life, stages.tools, self._row.run_id)
            async with anyio.create_task_group() as fetchers:
                self._fetchers = fetchers
                for _ in range(stages.fetch_workers):
                    fetchers.start_soon(self._fetch)
                async with anyio.create_task_group() as creators:
                    for _ in range(stages.create_workers):
                        creators.start_soon(self._create)
                    await self._take_up(jobs)
                    await stages.planner.plan(marks, self._plan, limit=limit)
                    self._is_read = True
                    self._check_done()
                    await self._wait_for_jobs()
                    stages.ready.close()
                if self._is_stopping:
                    self._results.drain()
                self._results.close()
            await stages.landing.flush()
            if self._is_stopping and stages.is_aborting:
                await self._abort()
            background.cancel_scope.cancel()

    async def _wait_for_jobs(self) -> None:
        """Wait until every job has ended; what is waited for is mostly the platform, while it has jobs of ours."""
        while not self._quiet.is_set():
            started, at_platform = self._stages.tools.clock.monotonic(), self._stages.slots.in_use
            with anyio.move_on_after(_LOOK_EVERY_S):
                await self._quiet.wait()
            if at_platform:
                self._stages.tools.observer.notice(Waited("remote", self._stages.tools.clock.monotonic() - started))

    # Stages ----------------------------------------------------------------------------------

    async def _take_up(self, jobs: Sequence[JobRow]) -> None:
        """Put every open job where its state says it belongs."""
        self._unfinished += len(jobs)
        for job in jobs:
            match job.state:
                case lifecycle.SUBMITTED:
                    await self._stages.slots.acquire()
                    self._stages.watcher.add(job)
                case lifecycle.SUCCEEDED:
                    await self._results.put(job, 1)
                case lifecycle.FAILED | lifecycle.CANCELLED:
                    await self._failed(job, await self._look_again(job))
                case _:
                    await self._stages.ready.put(Ready(job, None), 0)

    async def _look_again(self, job: JobRow) -> RemoteJob | None:
        """What the platform says of a job that was found failed; only it knows whether another attempt may help."""
        trace = Trace(job.trace_id, job.span_id)
        try:
            return (await self._stages.client.jobs.get(job.remote_id or "", trace=trace)).answer
        except Missing:
            return None

    async def _plan(self, ready: Ready) -> None:
        self._unfinished += 1
        await self._stages.ready.put(ready, ready.job.body_bytes)

    async def _create(self) -> None:
        stages = self._stages
        while (ready := await stages.ready.take()) is not None:
            started = stages.tools.clock.monotonic()
            await stages.slots.acquire()
            stages.tools.observer.notice(Waited("remote", stages.tools.clock.monotonic() - started))
            if self._is_stopping:
                ready.let_go()
                continue  # It stays planned; the next run submits it.
            if stages.tools.tolerance.is_spent:
                stages.slots.release()
                self._done()  # The same; meanwhile what is at the platform is finished.
                continue
            try:
                await self._submit(ready)
            except (Rejected, Missing, Conflict) as exc:
                stages.slots.release()
                await stages.endings.gave_up(ready.job, stage="create", error=exc)
                self._done()
            except PatienceEnded:
                continue  # The platform is down and we were told to stop; the next run asks with the same key.
            else:
                stages.watcher.add(ready.job, is_new=True)

    async def _submit(self, ready: Ready) -> None:
        try:
            if ready.body is None:
                ready.loan = self._stages.tools.budget.take(ready.job.body_bytes)
                records = await self._stages.reader.recall(ready.job)
                ready.body = self._stages.reader.packer.body(records.items)
            await self._stages.submitter.submit(ready.job, ready.body)
        finally:
            ready.let_go()

    async def _watch(self) -> None:
        try:
            with self._watching:
                await self._stages.watcher.run(self._settled)
        except* PatienceEnded:
            pass
        finally:
            self._is_unwatched.set()

    async def _abort(self) -> None:
        """Cancel what is at the platform; the next run makes it again."""
        stages, tools = self._stages, self._stages.tools
        self._watching.cancel()
        await self._is_unwatched.wait()
        jobs = [job for job in stages.watcher.jobs if job.state == lifecycle.SUBMITTED]
        self.aborted = await cancel_jobs(
            jobs,
            client=stages.client,
            ledger=tools.ledger,
            clock=tools.clock,
            again_as=self._pipeline,
            within_s=_ABORT_WITHIN_S,
        )

    async def _settled(self, ended: Settled) -> None:
        now_ns = self._stages.tools.clock.now_ns()
        for job, remote in ended:
            lifecycle.settle(job, remote.status, now_ns=now_ns, error=_error_text(remote))
            self._stages.tools.observer.notice(wait_span(job))
        await self._stages.tools.ledger.move([job for job, _ in ended])
        for job, remote in ended:
            if job.state == lifecycle.SUCCEEDED:
                # A sink that takes nothing holds back the results, they the slots, and those the source.
                await self._results.put(job, 1)
            else:
                await self._failed(job, remote)
            self._stages.slots.release()

    async def _failed(self, job: JobRow, remote: RemoteJob | None) -> None:
        if not await self._stages.endings.failed(job, remote):
            self._done()
        elif self._background is not None:
            self._background.start_soon(self._attempt_again, job)

    async def _attempt_again(self, job: JobRow) -> None:
        await self._stages.tools.clock.sleep(self._stages.cooldown_s)
        self._stages.ready.put_now(Ready(job, None))

    async def _fetch(self) -> None:
        while (job := await self._results.take()) is not None:
            await self._land(job)
            self._done()

    async def _land(self, job: JobRow) -> None:
        """Fetch a result and land its rows, reading it again where a body broke or the platform is not ready yet."""
        for tries in itertools.count(1):
            try:
                await self._land_once(job)
            except Unbalanced as exc:
                self.unbalanced.append(exc)  # The job stays as it is, so the next run fetches it again.
            except (BrokenAnswer, CapExceeded, RecordError, Missing, Rejected, Conflict) as exc:
                if (wait_s := _again_s(exc, tries)) is not None:
                    await self._stages.tools.clock.sleep(wait_s)
                    continue
                await self._stages.endings.gave_up(job, stage="result", error=exc)
            except PatienceEnded:
                pass  # It stays as it is, too.
            return

    async def _land_once(self, job: JobRow) -> None:
        clock = self._stages.tools.clock
        started = clock.monotonic()
        spill = await Spill.begin(self._stages.landing, self._stages.tools.budget, self._stages.fetch_bytes)
        try:
            outcome = await self._stages.fetcher.fetch(job, spill)
            letters = await self._letters(job, outcome)
            took_s = clock.monotonic() - started
            self._stages.tools.observer.notice(ResultFetched(outcome.accepted, outcome.body_bytes, took_s))
            self._stages.tools.observer.notice(Waited("decode", outcome.decode_s))
            self._stages.tools.observer.notice(
                fetch_span(job, outcome.body_bytes, now_ns=clock.now_ns(), took_s=took_s)
            )
            await spill.land(job, rows=outcome.accepted, letters=letters)
            self._stages.tools.tolerance.end(job.rows, failed=len(letters))
            self.nulled.update(outcome.nulled)
        finally:
            spill.discard()

    async def _letters(self, job: JobRow, outcome: Outcome) -> list[DeadLetter]:
        if not outcome.ended:
            return []
        keys = {row.key for row in outcome.ended}
        return letters_of(job, await self._stages.reader.recall(job, keys), outcome.ended)

    # Being done, being asked to stop, being alive ---------------------------------------------

    @property
    def _is_stopping(self) -> bool:
        return self._stages.tools.stop.is_set

    def _done(self) -> None:
        self._unfinished -= 1
        self._check_done()

    def _check_done(self) -> None:
        if self._is_read and self._unfinished <= 0:
            self._quiet.set()

    async def _heed_stop(self) -> None:
        """On a stop, nobody waits for the platform any more: its jobs are in the ledger."""
        await self._stages.tools.stop.wait()
        self._stages.slots.open()
        self._stages.patience.end()
        self._quiet.set()
        if self._fetchers is not None:
            # Results under way may finish; one that does not is fetched again by the next run.
            self._fetchers.cancel_scope.deadline = anyio.current_time() + _STOP_GRACE_S


def _again_s(exc: EngineError, tries: int) -> float | None:
    """Seconds to wait before a result is asked for again; None when asking again cannot help, or did not."""
    match exc:
        case BrokenAnswer() if tries < _FETCH_TRIES:
            return 0.05 * 2.0**tries
        case Conflict() if tries < _READY_TRIES and exc.facts.get("platform_code") == PROFILE.result_not_ready_code:
            # The job ended, a GET said so; the result only takes a moment more (contract 9.4).
            return min(max(0.05 * 2.0**tries, exc.retry_after_s or 0.0), _READY_WAIT_MAX_S)
        case _:
            return None


def _error_text(remote: RemoteJob) -> str | None:
    error = error_of(remote)
    return None if error is None else f"{error.code}: {error.message}"
