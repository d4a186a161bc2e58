"""One run of one pipeline: the stages as tasks of one group, from the first row to the report.

The stages know their own work; this file connects them, starts them, and knows when all is done.
Groups nest in the order things must end: first the create lane, then the fetch lane, then the watcher.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import anyio
import msgspec
from anyio.abc import TaskGroup

from engine.client.client import Client
from engine.contract.exchange import Trace
from engine.contract.jobs import RemoteJob, error_of
from engine.errors import BrokenAnswer, CapExceeded, EngineError, Missing, RecordError, Rejected, RunFailed, Unbalanced
from engine.events import ResultFetched, Waited
from engine.jobs import lifecycle
from engine.jobs.fetch import Fetcher, Outcome
from engine.jobs.records import letters_of
from engine.jobs.slots import Slots
from engine.jobs.submit import Submitter
from engine.jobs.watch import Settled, Watcher
from engine.record import DeadLetter, Mark
from engine.runtime.edge import Edge
from engine.runtime.endings import Endings
from engine.runtime.landing import Landing
from engine.runtime.planner import Planner, Ready
from engine.runtime.reading import Reader
from engine.runtime.spans import fetch_span, wait_span
from engine.runtime.spill import Spill
from engine.runtime.tools import Tools
from engine.store.rows import JobRow, RunRow
from engine.transport.patience import Patience, PatienceEnded

_FETCH_TRIES = 3
_ALIVE_EVERY_S = 2.0


class Stages(msgspec.Struct, kw_only=True):
    """Everything a run is made of; `assembly` builds it.

    `slots` has one slot per job at the platform; `create_workers` and `fetch_workers` count tasks; `cooldown_s` is the
    wait before another attempt of a failed job; `patience` is what everybody waits with for a platform that is down.
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
    cooldown_s: float


class Run:
    """Runs the stages until every row has ended, or a stop is asked for."""

    def __init__(self, row: RunRow, stages: Stages, *, pipeline: str) -> None:
        self._row = row
        self._stages = stages
        self._pipeline = pipeline
        # Counted in jobs. When it is full nobody asks about more jobs, so slots stay taken and nothing new is created:
        # a slow sink is felt all the way back to the source.
        self._results: Edge[JobRow] = Edge(bytes_max=stages.slots.limit)
        self._unfinished = 0
        self._is_read = False
        self._quiet = asyncio.Event()
        self._background: TaskGroup | None = None
        self.unbalanced: list[Unbalanced] = []

    async def run(self, jobs: Sequence[JobRow], marks: dict[str, Mark], *, limit: int | None) -> None:
        """Take up the open jobs, read on from the marks, and return when nothing is left to do.

        Raises:
            RunFailed: a stage failed; the ledger holds everything the next run needs.
        """
        try:
            await self._run(jobs, marks, limit)
        except BaseExceptionGroup as failures:
            causes = list(_engine_errors(failures))
            if not causes:
                raise
            raise RunFailed(causes[0].message, pipeline=self._pipeline, causes=causes) from failures
        finally:
            self._stages.landing.discard()

    async def _run(self, jobs: Sequence[JobRow], marks: dict[str, Mark], limit: int | None) -> None:
        stages = self._stages
        async with anyio.create_task_group() as background:
            self._background = background
            for task in (self._watch, self._stages.landing.flush_by_age, self._show_life, self._heed_stop):
                background.start_soon(task)
            async with anyio.create_task_group() as fetchers:
                for _ in range(stages.fetch_workers):
                    fetchers.start_soon(self._fetch)
                async with anyio.create_task_group() as creators:
                    for _ in range(stages.create_workers):
                        creators.start_soon(self._create)
                    await self._take_up(jobs)
                    await stages.planner.plan(marks, self._plan, limit=limit)
                    self._is_read = True
                    self._check_done()
                    await self._quiet.wait()
                    stages.ready.close()
                if self._is_stopping:
                    self._results.drain()
                self._results.close()
            await stages.landing.flush()
            background.cancel_scope.cancel()

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
                    self._results.put_now(job)
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
                continue  # It stays planned; the next run submits it.
            try:
                await stages.submitter.submit(ready.job, ready.body or await self._body_of(ready.job))
            except Rejected as exc:
                stages.slots.release()
                await stages.endings.gave_up(ready.job, stage="create", error=exc)
                self._done()
            except PatienceEnded:
                continue  # The platform is down and we were told to stop; the next run asks with the same key.
            else:
                stages.watcher.add(ready.job)

    async def _body_of(self, job: JobRow) -> bytes:
        records = await self._stages.reader.recall(job)
        return self._stages.reader.packer.body(records.items)

    async def _watch(self) -> None:
        try:
            await self._stages.watcher.run(self._settled)
        except* PatienceEnded:
            pass

    async def _settled(self, ended: Settled) -> None:
        now_ns = self._stages.tools.clock.now_ns()
        for job, remote in ended:
            lifecycle.settle(job, remote.status, now_ns=now_ns, error=_error_text(remote))
            self._stages.slots.release()
            self._stages.tools.observer.notice(wait_span(job))
        await self._stages.tools.ledger.move([job for job, _ in ended])
        for job, remote in ended:
            if job.state == lifecycle.SUCCEEDED:
                await self._results.put(job, 1)
            else:
                await self._failed(job, remote)

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
        """Fetch a result and land its rows, reading it again where a body broke."""
        for tries in range(1, _FETCH_TRIES + 1):
            try:
                await self._land_once(job)
            except Unbalanced as exc:
                self.unbalanced.append(exc)  # The job stays as it is, so the next run fetches it again.
            except (BrokenAnswer, CapExceeded, RecordError, Missing) as exc:
                if tries < _FETCH_TRIES and isinstance(exc, BrokenAnswer):
                    continue
                await self._stages.endings.gave_up(job, stage="result", error=exc)
            except PatienceEnded:
                pass  # It stays as it is, too.
            return

    async def _land_once(self, job: JobRow) -> None:
        clock = self._stages.tools.clock
        started = clock.monotonic()
        spill = Spill(self._stages.landing)
        try:
            outcome = await self._stages.fetcher.fetch(job, spill.take)
            letters = await self._letters(job, outcome)
            took_s = clock.monotonic() - started
            self._stages.tools.observer.notice(ResultFetched(outcome.accepted, outcome.body_bytes, took_s))
            self._stages.tools.observer.notice(
                fetch_span(job, outcome.body_bytes, now_ns=clock.now_ns(), took_s=took_s)
            )
            await spill.land(job, rows=outcome.accepted, letters=letters)
        finally:
            spill.discard()

    async def _letters(self, job: JobRow, outcome: Outcome) -> list[DeadLetter]:
        if not outcome.ended:
            return []
        return letters_of(job, await self._stages.reader.recall(job), outcome.ended)

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

    async def _show_life(self) -> None:
        tools = self._stages.tools
        while True:
            await tools.ledger.touch_run(self._row.run_id, now_ns=tools.clock.now_ns())
            await tools.clock.sleep(_ALIVE_EVERY_S)


def _error_text(remote: RemoteJob) -> str | None:
    error = error_of(remote)
    return None if error is None else f"{error.code}: {error.message}"


def _engine_errors(failures: BaseExceptionGroup[BaseException]) -> Iterator[EngineError]:
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from _engine_errors(failure)
        elif isinstance(failure, EngineError):
            yield failure
