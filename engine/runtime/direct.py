"""A run without jobs: rows pass from source to sink as they are, or each by a request of its own.

The same ledger, books and parts as with jobs. A batch is planned, asked where there is a route to ask, landed and
committed. Killed in between, it is asked again with the same keys; where a route takes no key, a batch is one row, and
a row that may have been taken becomes a dead letter that says so: it is not sent a second time unasked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import anyio
import msgspec

from engine.client.client import Client
from engine.client.provenance import Provenance
from engine.codec.payload import loads
from engine.contract.catalog import route_of
from engine.contract.profile import PROFILE
from engine.contract.provenance import ML_DSA, VerifyKeys
from engine.contract.rows import is_repeatable, key_member
from engine.errors import BrokenProof, Unbalanced
from engine.events import Waited, Warned
from engine.jobs.asking import UNKNOWN, Asker
from engine.jobs.cancel import Cancelled
from engine.jobs.lanes import Lanes
from engine.jobs.lifecycle import PLANNED, SUBMITTING, answer, is_inside_window, send
from engine.jobs.pack import Lines, Packing
from engine.jobs.passing import Passing
from engine.jobs.records import EVERY, Ended, letters_of, letters_of_all
from engine.jobs.tap import Sighting
from engine.pipeline.spec import PipelineSpec
from engine.record import DeadLetter, Mark
from engine.runtime.causes import failing_as
from engine.runtime.edge import Edge
from engine.runtime.landing import Landed, Landing
from engine.runtime.planner import Planner, Ready
from engine.runtime.pulse import show_life
from engine.runtime.reading import Reader
from engine.runtime.tools import Tools
from engine.store.rows import JobRow, RunRow
from engine.transport.patience import Patience, PatienceEnded

_STOP_GRACE_S = 3.0
# Rows that pass are cut as the default of jobs is; of rows that are asked for, a kill repeats so many per worker.
_PASSING, _PASSING_ROWS, _PASSING_BYTES = "rows", 10_000, 4 * 1024 * 1024
_ASKED_ROWS = 100
_KEYLESS = (
    "the route takes no idempotency key: rows travel one by one, and one whose answer is lost is not sent again but "
    "becomes a dead letter, because it may have been taken"
)
_LOST = "a request for it left, and the run was ended before an answer came; look at the platform before you replay it"


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """How rows are asked for: by whom, whether twice is the same as once, and for how long a key makes it so.

    `window_s` is None where repeating never harms; `keeps_answers` is False where the route itself is the sink.
    """

    asker: Asker
    is_repeatable: bool
    window_s: float | None
    keeps_answers: bool


class DirectStages(msgspec.Struct, kw_only=True):
    """Everything a run without jobs is made of. `asking` is None where rows pass as they are."""

    planner: Planner
    reader: Reader
    landing: Landing
    passing: Passing
    tools: Tools
    ready: Edge[Ready]
    workers: int
    asking: Asking | None = None
    patience: Patience | None = None


def lines_of(spec: PipelineSpec) -> tuple[Packing, int]:
    """How rows without jobs are put together, and the most bytes of a batch."""
    is_asked = spec.row_route is not None
    return Lines(spec.row_route or _PASSING), PROFILE.body_max if is_asked else min(_PASSING_BYTES, spec.memory // 16)


def rows_max(spec: PipelineSpec) -> int:
    """Rows in a batch: what a kill makes us ask again, and one where that must not be."""
    if spec.row_route is None:
        return _PASSING_ROWS
    return _ASKED_ROWS if is_repeatable(route_of(spec.row_route)) else 1


def asking_of(spec: PipelineSpec, client: Client, lanes: Lanes) -> Asking | None:
    """How the rows of a pipeline are asked for; None where they pass as they are. They take the lane of creates."""
    if spec.row_route is None:
        return None
    route, request = route_of(spec.row_route), spec.request
    lanes.take_in(route.name, lanes.create)
    prove = partial(_prove, _Keys(client)) if request is not None and request.verify else None
    into = request.into if request else None
    asker = Asker(client, route, key=spec.source.key, width=lanes.create.ceiling, into=into, prove=prove)
    return Asking(
        asker=asker,
        is_repeatable=is_repeatable(route),
        window_s=None if key_member(route) is None else PROFILE.idempotency_window_s,
        keeps_answers=request is not None,
    )


class _Keys:
    """The published keys that transcripts are proven with, asked for once."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asked: asyncio.Task[VerifyKeys] | None = None

    async def get(self) -> VerifyKeys:
        """The keys."""
        if self._asked is None:
            self._asked = asyncio.ensure_future(self._ask())
        return await asyncio.shield(self._asked)

    async def _ask(self) -> VerifyKeys:
        return (await self._client.provenance.keys()).answer


async def _prove(keys: _Keys, text: bytes) -> None:
    """Prove a transcript.

    Raises:
        BrokenProof: it does not hold, or its signatures cannot be checked with the published keys.
    """
    published = await keys.get()
    verdict = await asyncio.to_thread(Provenance.prove, loads(text), keys=published)
    if verdict.failures:
        first = verdict.failures[0]
        at = "the root" if first.index is None else f"record {first.index}"
        raise BrokenProof(f"the transcript does not hold: {first.reason} at {at}")
    if not verdict.is_proven:
        raise BrokenProof(
            f"the {verdict.algorithm} signatures of the transcript cannot be checked with published keys",
            hint=f'ask for algorithm = "{ML_DSA}"',
        )


class Direct:
    """Runs the stages until every row has ended, or a stop is asked for."""

    def __init__(self, row: RunRow, stages: DirectStages, *, pipeline: str) -> None:
        self._row = row
        self._stages = stages
        self._pipeline = pipeline
        self._working: anyio.CancelScope | None = None
        self.unbalanced: list[Unbalanced] = []
        self.nulled: dict[str, int] = {}  # Answers of routes are of the contract's types.
        self.aborted: Cancelled | None = None

    async def run(self, jobs: Sequence[JobRow], marks: dict[str, Mark], *, limit: int | None) -> None:
        """Take up the open batches, read on from the marks, and return when nothing is left to do.

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
        if stages.asking is not None and not stages.asking.is_repeatable:
            stages.tools.observer.notice(Warned("request.keyless", _KEYLESS))
        async with anyio.create_task_group() as background:
            for task in (stages.landing.flush_by_age, self._heed_stop, stages.tools.budget.watch):
                background.start_soon(task)
            background.start_soon(show_life, stages.tools, self._row.run_id)
            async with anyio.create_task_group() as workers:
                self._working = workers.cancel_scope
                for _ in range(stages.workers):
                    workers.start_soon(self._work)
                for job in jobs:
                    await stages.ready.put(Ready(job, None), 0)
                await stages.planner.plan(marks, self._plan, limit=limit)
                stages.ready.close()
            await stages.landing.flush()
            background.cancel_scope.cancel()

    async def _plan(self, ready: Ready) -> None:
        await self._stages.ready.put(ready, ready.job.body_bytes)

    async def _work(self) -> None:
        tools = self._stages.tools
        while (ready := await self._stages.ready.take()) is not None:
            try:
                if not (tools.stop.is_set or tools.tolerance.is_spent):
                    await self._land(ready)
            except* PatienceEnded:
                pass  # The platform is down and we were told to stop; the next run asks again.
            finally:
                ready.let_go()

    async def _land(self, ready: Ready) -> None:
        job, asking = ready.job, self._stages.asking
        if asking is not None and job.state == SUBMITTING and self._may_double(job, asking):
            await self._give_up(job)
            return
        items, keys = await self._rows(ready)
        ended: list[Ended] = []
        if asking is not None:
            if job.state == PLANNED:
                send(job, now_ns=self._now_ns)
                await self._stages.tools.ledger.move([job])
            started = self._stages.tools.clock.monotonic()
            asked = await asking.asker.ask(job, items, keys)
            self._stages.tools.observer.notice(Waited("remote", self._stages.tools.clock.monotonic() - started))
            items, keys, ended = asked.texts, asked.keys, asked.ended
            if "results" in self._stages.tools.tap.wanted:
                self._stages.tools.tap.offer(
                    Sighting(stage="results", texts=items, keys=keys, job=f"{job.epoch}/{job.seq}")
                )
        chunk, rows = b"", len(items)
        if asking is None or asking.keeps_answers:
            taken = self._stages.passing.encode(items, keys)
            chunk, rows, ended = taken.chunk, taken.accepted, ended + taken.ended
        answer(job, now_ns=self._now_ns)
        await self._commit(job, chunk, rows, await self._letters(job, ended))

    def _may_double(self, job: JobRow, asking: Asking) -> bool:
        """Whether asking again could do twice what was asked for before the run was ended."""
        if not asking.is_repeatable:
            return True
        window_s = asking.window_s
        return window_s is not None and not is_inside_window(job, now_ns=self._now_ns, window_s=window_s)

    async def _give_up(self, job: JobRow) -> None:
        records = await self._stages.reader.recall(job, EVERY)
        letters = letters_of_all(job, records, stage="request", code=UNKNOWN, reason=f"it may have been taken: {_LOST}")
        answer(job, now_ns=self._now_ns)
        await self._commit(job, b"", 0, letters)

    async def _rows(self, ready: Ready) -> tuple[Sequence[bytes], Sequence[str]]:
        if ready.body is not None and ready.keys:
            return ready.body.split(b"\n"), ready.keys
        ready.loan = self._stages.tools.budget.take(ready.job.body_bytes)
        records = await self._stages.reader.recall(ready.job)
        return records.items, records.keys

    async def _letters(self, job: JobRow, ended: list[Ended]) -> list[DeadLetter]:
        if not ended:
            return []
        return letters_of(job, await self._stages.reader.recall(job, {row.key for row in ended}), ended)

    async def _commit(self, job: JobRow, chunk: bytes, rows: int, letters: list[DeadLetter]) -> None:
        chunks = [chunk] if chunk else []
        await self._stages.landing.add(Landed(job=job, chunks=chunks, rows=rows, letters=letters))
        self._stages.tools.tolerance.end(job.rows, failed=len(letters))

    @property
    def _now_ns(self) -> int:
        return self._stages.tools.clock.now_ns()

    async def _heed_stop(self) -> None:
        """On a stop, batches under way may finish; one that does not is asked again by the next run."""
        await self._stages.tools.stop.wait()
        if self._stages.patience is not None:
            self._stages.patience.end()
        self._stages.ready.drain()
        if self._working is not None:
            self._working.deadline = anyio.current_time() + _STOP_GRACE_S
