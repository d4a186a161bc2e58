"""Landing: accepted rows of many jobs into parts, and the commit that makes them count.

A job's rows enter a part whole or not at all. A part is durable before its jobs are committed, and the
commit is one transaction with their counts and dead letters. A crash in between leaves an orphan that the
next run sweeps, and jobs that are fetched again. A disk without room is waited for, with nothing thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import anyio
import msgspec

from engine.errors import EngineError, OutputError
from engine.events import PartCommitted, Waited
from engine.jobs.lifecycle import commit
from engine.jobs.records import Recall
from engine.jobs.tap import Sighting
from engine.pipeline.spec import PipelineSpec
from engine.ports import Part, PartFile, Sink
from engine.record import DeadLetter
from engine.runtime.refusals import take_out
from engine.runtime.spans import commit_span, job_span
from engine.runtime.tools import Tools
from engine.store.ledger import letter_values
from engine.store.room import lacks_room
from engine.store.rows import JobRow, PartRow, RunRow

T = TypeVar("T")

_BUFFER_BYTES = 2 * 1024 * 1024
# What a letter takes beside its original, here and on its way to the ledger.
_LETTER_COST = 1024
_LETTERS_MAX_BYTES = 8 * 1024 * 1024
_ON_THE_LOOP_BYTES = 1024 * 1024  # What is larger is written on a thread.


class Landed(msgspec.Struct, gc=False, kw_only=True):
    """One job's whole result: encoded rows in order, and the rows that did not make it."""

    job: JobRow
    chunks: list[bytes]
    rows: int
    letters: list[DeadLetter]


class Filling(msgspec.Struct, gc=False, kw_only=True):
    """A part being filled, and the jobs that are in it."""

    part: Part
    number: int
    since: float
    landed: list[Landed]
    letters_bytes: int = 0


class Landing:
    """Owns the parts of a run. Calls may overlap; they take turns."""

    def __init__(
        self, *, sink: Sink, spec: PipelineSpec, run: RunRow, recall: Recall, tools: Tools, parts: list[PartRow]
    ) -> None:
        self._sink = sink
        self._rotate = spec.sink.rotate
        # Only columns are made at the end, a row group at a time; other parts are written as they come.
        self._finish_bytes = 3 * spec.sink.row_group if spec.sink.type == "parquet" else _BUFFER_BYTES
        self._run = run
        self._pipeline = spec.name
        # How to name rows that the sink refuses at the end of a part.
        self._recall = recall
        self._tools = tools
        self._parts = [part for part in parts if part.epoch == run.output_epoch]
        self._next = max((part.number for part in self._parts), default=0) + 1
        self._filling: Filling | None = None
        self._turn = asyncio.Lock()
        self.manifest: str | None = None

    @property
    def parts(self) -> int:
        """Durable parts of this epoch."""
        return len(self._parts)

    async def add(self, landed: Landed) -> None:
        """Take a job whose result fits in memory; commits when the part is full."""
        async with self._turn:
            filling = self._filling or await self._begin()
            self._filling = filling
            await self.append(filling, b"".join(landed.chunks), landed.rows)
            landed.chunks = []  # The part has them, and the job is remembered until it is committed.
            _enter(filling, landed)
            if self._is_full(filling):
                await self._commit()

    async def begin_alone(self) -> Filling:
        """Open a part for one job whose result is too large to hold."""
        async with self._turn:
            return await self._begin()

    async def append(self, filling: Filling, chunk: bytes, rows: int) -> None:
        """Add encoded rows to a part; what its disk has no room for is kept by the part, and waits."""
        if "landed" in self._tools.tap.wanted:
            self._tools.tap.offer(Sighting(stage="landed", texts=(chunk,), is_window=True, part=filling.number))
        given = iter(((chunk, rows),))

        def act() -> None:
            filling.part.append(*next(given, (b"", 0)))

        if len(chunk) > _ON_THE_LOOP_BYTES:
            await self._patiently(act)
            return
        try:
            act()
        except OutputError as exc:
            if not lacks_room(exc):
                raise
            await self._patiently(act)

    async def add_alone(self, filling: Filling, landed: Landed) -> None:
        """Commit a job that has a part of its own."""
        _enter(filling, landed)
        async with self._turn:
            await self._finish(filling)

    async def flush(self) -> None:
        """Commit what there is."""
        async with self._turn:
            await self._commit()

    async def flush_by_age(self) -> None:
        """Commit parts that have been open long enough, for ever; cancelled by its owner."""
        while True:
            await self._tools.clock.sleep(self._rotate.age / 4)
            filling = self._filling
            if filling and filling.landed and self._tools.clock.monotonic() - filling.since >= self._rotate.age:
                await self.flush()

    def discard(self) -> None:
        """Forget what was not committed; its jobs are fetched again by the next run."""
        if self._filling is not None:
            self._filling.part.discard()
            self._filling = None

    async def write_manifest(self) -> None:
        """Replace the manifest by what the ledger holds for this epoch."""
        document = manifest_of(self._pipeline, self._run.output_epoch, self._parts)
        self.manifest = await self._patiently(partial(self._sink.write_manifest, document))

    async def _patiently(self, act: Callable[[], T]) -> T:
        """Write on a thread, waiting for room where there is none."""
        room, started = self._tools.ledger.room, self._tools.clock.monotonic()
        work = asyncio.get_running_loop().run_in_executor(None, room.patiently, "the sink's disk", act)
        try:
            done = await asyncio.shield(work)
            self._tools.observer.notice(Waited("sink", self._tools.clock.monotonic() - started))
            return done
        except asyncio.CancelledError:
            # The thread has the part's file in hand: whoever discards the part must find it idle.
            room.give_up()
            with anyio.CancelScope(shield=True):
                await asyncio.gather(work, return_exceptions=True)
            raise

    async def _begin(self) -> Filling:
        number, self._next = self._next, self._next + 1
        part = await self._patiently(partial(self._sink.begin, epoch=self._run.output_epoch, number=number))
        return Filling(part=part, number=number, since=self._tools.clock.monotonic(), landed=[])

    def _is_full(self, filling: Filling) -> bool:
        part = filling.part
        return (
            part.rows >= self._rotate.rows
            or part.body_bytes >= self._rotate.bytes
            or filling.letters_bytes >= _LETTERS_MAX_BYTES
        )

    async def _commit(self) -> None:
        filling, self._filling = self._filling, None
        if filling is None:
            return
        if not filling.landed:
            filling.part.discard()
            self._next = filling.number
            return
        await self._finish(filling)

    async def _finish(self, filling: Filling) -> None:
        started = self._tools.clock.monotonic()
        row: PartRow | None = None
        if filling.part.rows:
            loan = self._tools.budget.take(self._finish_bytes)
            try:
                file = await self._patiently(filling.part.finish)
                if file.refused:
                    await take_out(file.refused, filling.landed, self._recall)
                    self._tools.tolerance.end(0, failed=len(file.refused))
                row = self._row(filling.number, file)
            except EngineError:
                filling.part.discard()
                raise
            finally:
                loan.give_back()
        else:
            filling.part.discard()
        now_ns = self._tools.clock.now_ns()
        letters: list[tuple[Any, ...]] = []
        for entry in filling.landed:
            commit(entry.job, part=None if row is None else row.number, now_ns=now_ns)
            letters += [
                letter_values(letter, run_id=self._run.run_id, epoch=self._run.epoch, now_ns=now_ns)
                for letter in entry.letters
            ]
        await self._tools.ledger.end_jobs([entry.job for entry in filling.landed], part=row, letters=letters)
        self._note(filling, row, self._tools.clock.monotonic() - started)
        if row is not None:
            self._parts.append(row)
            await self.write_manifest()

    def _row(self, number: int, file: PartFile) -> PartRow:
        return PartRow(
            epoch=self._run.output_epoch,
            number=number,
            run_id=self._run.run_id,
            name=file.name,
            rows=file.rows,
            body_bytes=file.body_bytes,
            sha256=file.sha256,
            created_ns=self._tools.clock.now_ns(),
        )

    def _note(self, filling: Filling, row: PartRow | None, took_s: float) -> None:
        counts, observer = self._tools.counts, self._tools.observer
        for entry in filling.landed:
            counts.accepted += entry.job.accepted
            counts.rejected += entry.job.rejected
            counts.dead += entry.job.dead
            observer.notice(commit_span(entry.job, took_s=took_s))
            observer.notice(job_span(entry.job, self._run))
        name, rows, body_bytes = (row.name, row.rows, row.body_bytes) if row else ("", 0, 0)
        observer.notice(PartCommitted(name, rows, body_bytes, len(filling.landed), took_s))


def _enter(filling: Filling, landed: Landed) -> None:
    job = landed.job
    job.accepted = landed.rows
    job.rejected = sum(1 for letter in landed.letters if letter.bucket == "rejected")
    job.dead = len(landed.letters) - job.rejected
    filling.landed.append(landed)
    filling.letters_bytes += sum(len(letter.raw) + _LETTER_COST for letter in landed.letters)


def manifest_of(pipeline: str, epoch: int, parts: list[PartRow]) -> Mapping[str, Any]:
    """The manifest's document: the parts a reader should read, and what each must hold."""
    return {
        "version": 1,
        "pipeline": pipeline,
        "epoch": epoch,
        "rows": sum(part.rows for part in parts),
        "parts": [
            {"name": part.name, "rows": part.rows, "bytes": part.body_bytes, "sha256": part.sha256} for part in parts
        ],
    }
