"""Planning: batches become jobs in the ledger, and only then reach the create lane.

Position, books, dead letters of reading and the jobs themselves are one transaction, so a kill at any
instant leaves the ledger saying exactly what was taken from the input.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

import msgspec

from engine.contract.exchange import new_span_id, new_trace_id
from engine.events import BatchRead, JobsPlanned, Waited
from engine.jobs.batcher import Batcher, Cut
from engine.jobs.key import derive_key, digest_keys
from engine.jobs.pack import digest_body
from engine.jobs.records import ORIGINAL_MAX, Records, keep
from engine.jobs.tap import Sighting
from engine.record import BadRecord, DeadLetter, Mark
from engine.runtime.budget import Loan
from engine.runtime.reading import Reader, Readout
from engine.runtime.tools import Tools
from engine.store.ledger import letter_values
from engine.store.rows import JobRow, Planned, RunRow


class Ready(msgspec.Struct, gc=False):
    """A job on its way to the create lane; `body` is None when it must be recalled first, `loan` what it occupies.

    `keys` name its rows, where rows travel each by itself.
    """

    job: JobRow
    body: bytes | None
    loan: Loan | None = None
    keys: Sequence[str] = ()

    def let_go(self) -> None:
        """Nobody needs the body any more."""
        self.body = None
        if self.loan is not None:
            self.loan.give_back()


HandOn = Callable[[Ready], Awaitable[None]]


class Planner:
    """Plans one run's input."""

    def __init__(
        self,
        *,
        pipeline: str,
        run: RunRow,
        reader: Reader,
        batcher: Batcher,
        tools: Tools,
        first_seq: int,
    ) -> None:
        self._pipeline = pipeline
        self._run = run
        self._reader = reader
        self._batcher = batcher
        self._packer = reader.packer
        self._tools = tools
        self._seq = first_seq

    async def plan(self, marks: Mapping[str, Mark], hand_on: HandOn, *, limit: int | None) -> None:
        """Read on from the marks until the input ends, `limit` rows were taken, or a stop was asked for."""
        async with aclosing(self._reader.batches(marks)) as readouts:
            await self._plan(readouts, hand_on, limit)
        if self._is_ending:
            return  # What the batcher still holds was never planned; it is simply read again.
        if (last := self._batcher.flush()) is not None:
            await self._write([last], hand_on)

    async def _plan(self, readouts: AsyncIterator[Readout], hand_on: HandOn, limit: int | None) -> None:
        taken = 0
        started = self._tools.clock.monotonic()
        async for readout in readouts:
            came = self._tools.clock.monotonic()
            if limit is not None:
                readout = _head_of(readout, limit - taken)  # The loan goes with it.
            batch = readout.batch
            rows = len(batch.raws) + len(batch.gone) + len(batch.bad)
            taken += rows
            self._tools.tolerance.take(rows)
            if "read" in self._tools.tap.wanted:
                self._show_read(readout)
            cuts = self._batcher.add(batch, readout.items)
            now = self._tools.clock.monotonic()
            self._tools.observer.notice(
                BatchRead(len(batch.raws), len(batch.bad), len(batch.gone), batch.end - batch.start, now - started)
            )
            self._tell_wait(readout, came - started)
            if cuts:
                await self._write(cuts, hand_on)
            if readout.loan is not None:
                readout.loan.give_back()
            started = self._tools.clock.monotonic()
            if self._is_ending or (limit is not None and taken >= limit):
                return

    def _show_read(self, readout: Readout) -> None:
        batch = readout.batch
        self._tools.tap.offer(
            Sighting(
                stage="read", texts=batch.raws, became=readout.items, keys=batch.keys, input=batch.input,
                lines=batch.lines,
            )
        )  # fmt: skip

    def _tell_wait(self, readout: Readout, waited_s: float) -> None:
        """What was waited for a batch, as far as it was not ready: for its reading and for its transforms."""
        work_s = readout.read_s + readout.made_s
        if waited_s > 0 and work_s > 0:
            read_share = readout.read_s / work_s
            self._tools.observer.notice(Waited("source", min(waited_s * read_share, readout.read_s)))
            self._tools.observer.notice(Waited("transform", min(waited_s * (1 - read_share), readout.made_s)))

    @property
    def _is_ending(self) -> bool:
        return self._tools.stop.is_set or self._tools.tolerance.is_spent

    async def _write(self, cuts: Sequence[Cut], hand_on: HandOn) -> None:
        planned: list[Planned] = []
        bodies: list[Ready] = []
        for cut in cuts:
            body = self._packer.body(cut.items) if cut.items else None
            job = self._job_of(cut, body) if body is not None else None
            planned.append(
                Planned(
                    job=job,
                    marks={name: self._reader.mark(name, *end) for name, end in cut.ends.items()},
                    read=cut.read,
                    filtered=cut.filtered,
                    dead=len(cut.bad),
                    kept=keep(_records_of(cut)) if job is not None and self._reader.keeps else None,
                    slices=cut.slices,
                )
            )
            if job is not None:
                keys = cut.keys if self._packer.keeps_keys else ()
                bodies.append(Ready(job, body, self._tools.budget.take(job.body_bytes), keys))
                if "planned" in self._tools.tap.wanted:
                    self._tools.tap.offer(
                        Sighting(stage="planned", texts=cut.items, keys=cut.keys, job=f"{job.epoch}/{job.seq}")
                    )
        now_ns = self._tools.clock.now_ns()
        letters = [
            letter_values(_letter(bad), run_id=self._run.run_id, epoch=self._run.epoch, now_ns=now_ns)
            for cut in cuts
            for bad in cut.bad
        ]
        await self._tools.ledger.plan(self._run.run_id, self._run.epoch, planned, letters)
        self._count(planned)
        for entry in bodies:
            await hand_on(entry)

    def _job_of(self, cut: Cut, body: bytes) -> JobRow:
        self._seq += 1
        digest = digest_body(body)
        return JobRow(
            epoch=self._run.epoch,
            seq=self._seq,
            run_id=self._run.run_id,
            kind=self._packer.name,
            rows=len(cut.items),
            body_bytes=len(body),
            digest=digest,
            keys_digest=digest_keys(cut.keys),
            key=derive_key(pipeline=self._pipeline, epoch=self._run.epoch, seq=self._seq, attempt=1, digest=digest),
            trace_id=new_trace_id(),
            span_id=new_span_id(),
            slices=cut.slices,
            planned_ns=self._tools.clock.now_ns(),
        )

    def _count(self, planned: Sequence[Planned]) -> None:
        counts = self._tools.counts
        for entry in planned:
            counts.read += entry.read
            counts.filtered += entry.filtered
            counts.dead += entry.dead
            self._tools.tolerance.end(entry.dead + entry.filtered, failed=entry.dead)
        jobs = [entry.job for entry in planned if entry.job is not None]
        if jobs:
            self._tools.observer.notice(JobsPlanned(len(jobs), sum(job.rows for job in jobs)))


def _head_of(readout: Readout, rows: int) -> Readout:
    """The first `rows` good records of a batch, with what lies between them."""
    batch = readout.batch
    if len(batch.raws) <= rows:
        return readout
    end = batch.ends[rows - 1] if rows else batch.start
    head = msgspec.structs.replace(
        batch,
        end=end,
        next_line=batch.line_after(rows - 1) if rows else batch.line,
        raws=batch.raws[:rows],
        ends=batch.ends[:rows],
        lines=batch.lines[:rows],
        keys=batch.keys[:rows],
        after=None if batch.after is None else batch.after[:rows],
        bad=[bad for bad in batch.bad if bad.end <= end],
        gone=[gone for gone in batch.gone if gone <= end],
    )
    return Readout(head, readout.items[:rows], readout.loan, readout.read_s, readout.made_s)


def _records_of(cut: Cut) -> Records:
    kept = cut.originals
    return Records(
        items=cut.items,
        raws=kept.raws,
        keys=cut.keys,
        inputs=kept.inputs,
        lines=kept.lines,
        starts=kept.starts,
        ends=kept.ends,
        sizes={
            index: kept.ends[index] - kept.starts[index]
            for index, raw in enumerate(kept.raws)
            if len(raw) == ORIGINAL_MAX
        },
    )


def _letter(bad: BadRecord) -> DeadLetter:
    return DeadLetter(
        bucket="dead",
        stage="transform" if bad.code == "record.transform" else "read",
        code=bad.code,
        reason=bad.reason,
        input=bad.input,
        line=bad.line,
        start=bad.start,
        end=bad.end,
        key=bad.key,
        raw=bad.raw,
    )
