"""Drives a source and its transforms on a thread, forward for planning and back for recalling a job's records.

The loop only sees whole batches. A record too large for any job is bad here, before it can be planned.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Container, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

import msgspec

from engine.errors import ConfigError, StaleCheckpoint
from engine.jobs.pack import Packing
from engine.jobs.records import ORIGINAL_MAX, Records, beginning, unkeep, where_the_rest_is
from engine.ports import Source, Transform
from engine.record import BadRecord, Batch, Mark
from engine.runtime.budget import Loan
from engine.runtime.threads import Hand
from engine.runtime.tools import Tools
from engine.runtime.transform import transform
from engine.store.rows import JobRow

T = TypeVar("T")

# What a batch is expected to weigh before one was read.
_FIRST_LOAN = 2 * 1024 * 1024
# A record costs about this much beside its bytes, and about this many times its bytes while it is a value.
_RECORD_COST = 400
_VALUE_FACTOR = 10
_LOOK_EVERY_S = 0.5


@runtime_checkable
class Watched(Protocol):
    """A transform that runs code of the user's: since when (monotonic seconds), by thread, and for how long at most."""

    call: str
    timeout_s: float
    running: dict[int, float]


class Readout(msgspec.Struct, gc=False):
    """A transformed batch, and for each of its records what travels in a job; `loan` is what both occupy.

    `read_s` is what reading it took, `made_s` what transforming it did.
    """

    batch: Batch
    items: Sequence[bytes]
    loan: Loan | None = None
    read_s: float = 0.0
    made_s: float = 0.0


class Reader:
    """Reads one pipeline's input."""

    def __init__(
        self,
        *,
        open_source: Callable[[], Source],
        transforms: Sequence[Transform],
        key: str,
        packer: Packing,
        item_max: int,
        tools: Tools,
    ) -> None:
        self._open_source = open_source
        self._source = open_source()
        self._transforms = transforms
        self._watched = [step for step in transforms if isinstance(step, Watched)]
        self._key = key
        self.packer = packer
        self._item_max = item_max
        self._tools = tools
        self._hand = Hand("source")
        self._recall_hand = Hand("recall")
        # One at a time: each holds a window of the input, and may hold a record as long as `line_max`.
        self._recalling = asyncio.Lock()

    @property
    def can_reread(self) -> bool:
        """Whether the input can be read again."""
        return self._source.can_reread

    @cached_property
    def keeps(self) -> bool:
        """Whether the ledger keeps the records of open jobs: reading them again is impossible, or takes too long."""
        return not (self._source.can_reread and self._source.can_seek)

    async def batches(self, marks: Mapping[str, Mark]) -> AsyncGenerator[Readout, None]:
        """Read on from the marks, one batch ahead of whoever takes them; he gives back each batch's loan."""
        source = self._source.read(marks)
        ahead = asyncio.ensure_future(self._read_on(source, _FIRST_LOAN))
        try:
            while (readout := await ahead) is not None:
                weight = readout.loan.bytes if readout.loan else 0
                ahead = asyncio.ensure_future(self._read_on(source, max(weight, _FIRST_LOAN)))
                yield readout
        finally:
            self._source.close()
            ahead.cancel()
            await asyncio.wait((ahead,))

    async def has_news(self, marks: Mapping[str, Mark]) -> bool:
        """Whether the input holds anything past the marks."""

        def look() -> bool:
            return any(batch.raws or batch.bad for batch in self._open_source().read(marks))

        return await self._hand.call(look)

    def mark(self, name: str, offset: int, line: int) -> Mark:
        """The position to store for an input."""
        return self._source.mark(name, offset, line)

    async def recall(self, job: JobRow, originals: Container[str] = ()) -> Records:
        """The records of a planned job, as they travel; with the originals of the rows with these keys.

        Raises:
            StaleCheckpoint: the input no longer holds them.
        """
        async with self._recalling:
            if self.keeps and (kept := self._tools.ledger.kept(job)) is not None:
                return unkeep(kept)
            if not self._source.can_reread:
                raise StaleCheckpoint(f"job {job.epoch}/{job.seq}: the ledger does not hold its records any more")
            return await self._patiently(self._recall_hand.call(self._recall, job, originals))

    async def _read_on(self, source: Iterator[Batch], expected: int) -> Readout | None:
        loan = await self._tools.budget.borrow(expected)
        try:
            readout = await self._patiently(self._hand.call(self._next, source))
            if readout is None:
                loan.give_back()
                return None
        except BaseException:
            loan.give_back()
            raise
        loan.resize(self._weight(readout))
        readout.loan = loan
        return readout

    async def _patiently(self, future: asyncio.Future[T]) -> T:
        """Wait for a thread, but not for ever where it runs code of the user's."""
        while self._watched and not future.done():
            await asyncio.wait((future,), timeout=_LOOK_EVERY_S)
            self._refuse_to_hang()
        return await future

    def _refuse_to_hang(self) -> None:
        now = time.monotonic()
        for step in self._watched:
            since = min(step.running.copy().values(), default=now)
            if now - since > step.timeout_s:
                raise ConfigError(
                    f"the transform `{step.call}` has not come back from a batch for over {step.timeout_s:g} s",
                    hint="nothing of that batch was sent; mend the function, or raise `timeout` of the transform",
                    call=step.call,
                )

    def _weight(self, readout: Readout) -> int:
        batch = readout.batch
        records = len(batch.raws) + len(batch.bad)
        raw_bytes = sum(map(len, batch.raws)) + sum(len(bad.raw) for bad in batch.bad)
        return raw_bytes * (_VALUE_FACTOR if self._transforms else 2) + records * _RECORD_COST

    def _next(self, source: Iterator[Batch]) -> Readout | None:
        started = time.monotonic()
        batch = next(source, None)
        if batch is None:
            return None
        was_read = time.monotonic()
        readout = self._read_out(batch)
        readout.read_s, readout.made_s = was_read - started, time.monotonic() - was_read
        return readout

    def _read_out(self, batch: Batch) -> Readout:
        batch, raws = transform(batch, self._transforms, key=self._key)
        items = self.packer.items(raws, batch.keys)
        if items and max(map(len, items)) > self._item_max:
            batch, items = without_oversized(batch, items, self._item_max)
        if self._source.can_reread:
            if batch.bad:
                batch.bad = [_shortened(bad) for bad in batch.bad]
            if self.keeps and any(len(raw) > ORIGINAL_MAX for raw in batch.raws):
                batch.raws = [raw[:ORIGINAL_MAX] for raw in batch.raws]
        return Readout(batch, items)

    def _recall(self, job: JobRow, originals: Container[str]) -> Records:
        records = Records(items=[], raws=[], keys=[], inputs=[], lines=[], starts=[], ends=[], sizes={})
        held = 0
        # A source of its own: the one that reads on has a place of its own, on another thread.
        for batch in self._open_source().reread(job.slices):
            held = add_records(records, self._read_out(batch), originals, held)
        if len(records.keys) != job.rows:
            raise StaleCheckpoint(
                f"job {job.epoch}/{job.seq}: its input had {job.rows} rows and now has {len(records.keys)}",
                hint="restore the input, or run again with --fresh to start a new epoch",
            )
        return records


def add_records(records: Records, readout: Readout, originals: Container[str], held_bytes: int) -> int:
    """Append a batch to a job's records, with the originals asked for; how many bytes of those are held now."""
    batch = readout.batch
    for key, raw in zip(batch.keys, batch.raws, strict=True):
        kept = beginning(raw, held_bytes) if key in originals else b""
        held_bytes += len(kept)
        if kept and len(kept) < len(raw):
            records.sizes[len(records.raws)] = len(raw)
        records.raws.append(kept)
    records.items.extend(readout.items)
    records.keys.extend(batch.keys)
    records.inputs.extend([batch.input] * len(batch.raws))
    records.lines.extend(batch.lines)
    records.starts.extend([batch.start, *batch.ends[:-1]] if batch.raws else [])
    records.ends.extend(batch.ends)
    return held_bytes


def _shortened(bad: BadRecord) -> BadRecord:
    """A bad record without the part of its bytes that can be read again where they came from."""
    if len(bad.raw) <= ORIGINAL_MAX:
        return bad
    note = where_the_rest_is(ORIGINAL_MAX, len(bad.raw), place=(bad.input, bad.start, bad.end))
    return msgspec.structs.replace(bad, raw=bad.raw[:ORIGINAL_MAX], reason=bad.reason + note)


def without_oversized(batch: Batch, items: Sequence[bytes], item_max: int) -> tuple[Batch, list[bytes]]:
    """The batch with every record bad that fits into no job, and the items that are left."""
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
            lines=batch.line_after(index) - batch.lines[index],
            key=batch.keys[index],
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
