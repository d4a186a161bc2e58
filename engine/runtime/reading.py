"""Drives a source and its transforms on a thread, forward for planning and back for recalling a job's records.

The loop only sees whole batches. A record too large for any job is bad here, before it can be planned.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from engine.errors import StaleCheckpoint
from engine.jobs.pack import Packer
from engine.jobs.records import Records, unkeep
from engine.ports import Source, Transform
from engine.record import BadRecord, Batch, Mark
from engine.runtime.transform import transform
from engine.store.ledger import Ledger
from engine.store.rows import JobRow


class Readout(msgspec.Struct, gc=False):
    """A transformed batch, and for each of its records what travels in a job."""

    batch: Batch
    items: Sequence[bytes]


class Reader:
    """Reads one pipeline's input."""

    def __init__(
        self,
        *,
        open_source: Callable[[], Source],
        transforms: Sequence[Transform],
        key: str,
        packer: Packer,
        item_max: int,
        ledger: Ledger,
    ) -> None:
        self._open_source = open_source
        self._source = open_source()
        self._transforms = transforms
        self._key = key
        self.packer = packer
        self._item_max = item_max
        self._ledger = ledger

    @property
    def can_reread(self) -> bool:
        """Whether `recall` reads the input again, rather than what the ledger kept."""
        return self._source.can_reread

    async def batches(self, marks: Mapping[str, Mark]) -> AsyncIterator[Readout]:
        """Read on from the marks, one batch ahead of whoever takes them."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix="source") as thread:
            source = self._source.read(marks)
            ahead = loop.run_in_executor(thread, self._next, source)
            try:
                while (readout := await ahead) is not None:
                    ahead = loop.run_in_executor(thread, self._next, source)
                    yield readout
            finally:
                self._source.close()

    async def has_news(self, marks: Mapping[str, Mark]) -> bool:
        """Whether the input holds anything past the marks."""

        def look() -> bool:
            return any(batch.raws or batch.bad for batch in self._open_source().read(marks))

        return await asyncio.to_thread(look)

    def mark(self, name: str, offset: int, line: int) -> Mark:
        """The position to store for an input."""
        return self._source.mark(name, offset, line)

    async def recall(self, job: JobRow) -> Records:
        """The records of a planned job, as they were read and as they travel.

        Raises:
            StaleCheckpoint: the input no longer holds them.
        """
        if not self._source.can_reread:
            kept = self._ledger.kept(job)
            if kept is None:
                raise StaleCheckpoint(f"job {job.epoch}/{job.seq}: the ledger does not hold its records any more")
            return unkeep(kept)
        return await asyncio.to_thread(self._recall, job)

    def _next(self, source: Iterator[Batch]) -> Readout | None:
        batch = next(source, None)
        return None if batch is None else self._read_out(batch)

    def _read_out(self, batch: Batch) -> Readout:
        batch, raws = transform(batch, self._transforms, key=self._key)
        items = self.packer.items(raws, batch.keys)
        if items and max(map(len, items)) > self._item_max:
            batch, items = _without_oversized(batch, items, self._item_max)
        return Readout(batch, items)

    def _recall(self, job: JobRow) -> Records:
        records = Records(items=[], raws=[], keys=[], inputs=[], lines=[], starts=[], ends=[])
        # A source of its own: the one that reads on has a place of its own, on another thread.
        for batch in self._open_source().reread(job.slices):
            add_records(records, self._read_out(batch))
        if len(records.keys) != job.rows:
            raise StaleCheckpoint(
                f"job {job.epoch}/{job.seq}: its input had {job.rows} rows and now has {len(records.keys)}",
                hint="restore the input, or run again with --fresh to start a new epoch",
            )
        return records


def add_records(records: Records, readout: Readout) -> None:
    """Append a batch to a job's records."""
    batch = readout.batch
    records.items.extend(readout.items)
    records.raws.extend(batch.raws)
    records.keys.extend(batch.keys)
    records.inputs.extend([batch.input] * len(batch.raws))
    records.lines.extend(batch.lines)
    records.starts.extend([batch.start, *batch.ends[:-1]] if batch.raws else [])
    records.ends.extend(batch.ends)


def _without_oversized(batch: Batch, items: Sequence[bytes], item_max: int) -> tuple[Batch, list[bytes]]:
    fits = [index for index, item in enumerate(items) if len(item) <= item_max]
    over = [index for index, item in enumerate(items) if len(item) > item_max]
    spoiled = [
        BadRecord(
            input=batch.input,
            line=batch.lines[index],
            start=batch.ends[index - 1] if index else batch.start,
            end=batch.ends[index],
            raw=batch.raws[index],
            code="record.too_large",
            reason=f"{len(items[index])} bytes do not fit into a job of at most {item_max}",
        )
        for index in over
    ]
    kept = msgspec.structs.replace(
        batch,
        raws=[batch.raws[index] for index in fits],
        ends=[batch.ends[index] for index in fits],
        lines=[batch.lines[index] for index in fits],
        keys=[batch.keys[index] for index in fits],
        after=[batch.line_after(index) for index in fits],
        bad=sorted([*batch.bad, *spoiled], key=lambda record: record.end),
    )
    return kept, [items[index] for index in fits]
