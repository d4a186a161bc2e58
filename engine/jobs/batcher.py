"""Cuts a stream of batches into jobs: by rows and by bytes, never by time.

Because only the input decides where a job ends, reading the same input again from the same mark gives
the same jobs, and so the same keys. Pure: it holds records until they fill a job, and sends nothing.

What it holds is bounded in bytes whatever the input is: the items of one job, its originals where they must be
kept, and bad records. The last two end a job too, at a record, so that they cannot pile up beside it.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate

import msgspec

from engine.record import BadRecord, Batch, Slice

# Originals of one job, where the source cannot be asked for them again.
RAWS_MAX = 8 * 1024 * 1024
# Bad records between two job ends; each costs its bytes and about this much more.
BAD_MAX = 4 * 1024 * 1024
_BAD_COST = 512


class Cut(msgspec.Struct, gc=False, kw_only=True):
    """Everything between two job ends: the records that travel, and what was read beside them.

    `items` are what goes into the body, `keys` name them. `originals` hold the records as they were read, where they
    are to be kept. `ends` is, by input, the offset and line reading goes on from.
    """

    items: list[bytes]
    keys: list[str]
    originals: Originals
    slices: tuple[Slice, ...]
    ends: dict[str, tuple[int, int]]
    bad: list[BadRecord]
    filtered: int
    body_bytes: int

    @property
    def read(self) -> int:
        """Records read here, whatever became of them."""
        return len(self.keys) + len(self.bad) + self.filtered


class Originals(msgspec.Struct, gc=False):
    """Records as they were read, and where; parallel lists, empty where the source can be read again."""

    raws: list[bytes] = []
    inputs: list[str] = []
    lines: list[int] = []
    starts: list[int] = []
    ends: list[int] = []


class _Open:
    """A job that is being filled."""

    def __init__(self, *, keeps: bool) -> None:
        self._keeps = keeps
        self.items: list[bytes] = []
        self.keys: list[str] = []
        self.originals = Originals()
        self.raw_bytes = 0
        self.bad: list[BadRecord] = []
        self.bad_bytes = 0
        self.filtered = 0
        self.body_bytes = 0
        self.slices: list[Slice] = []
        self.ends: dict[str, tuple[int, int]] = {}

    def take(
        self, batch: Batch, items: Sequence[bytes], records: tuple[int, int], extent: tuple[int, int, int, int]
    ) -> None:
        """Add records `[first, stop)` of a batch, and everything else read between `start` and `end`."""
        first, stop = records
        start, line, end, next_line = extent
        if end == start:
            return
        taken = items[first:stop]
        self.items.extend(taken)
        self.body_bytes += sum(map(len, taken)) + len(taken)
        self.keys.extend(batch.keys[first:stop])
        if self._keeps:
            self._keep(batch, first, stop)
        for bad in batch.bad:
            if start < bad.end <= end:
                self.bad.append(bad)
                self.bad_bytes += len(bad.raw) + _BAD_COST
        self.filtered += bisect_right(batch.gone, end) - bisect_right(batch.gone, start)
        if self.slices and self.slices[-1].input == batch.input and self.slices[-1].end == start:
            start, line = self.slices[-1].start, self.slices.pop().line
        self.slices.append(Slice(batch.input, start, end, line))
        self.ends[batch.input] = (end, next_line)

    def _keep(self, batch: Batch, first: int, stop: int) -> None:
        kept = self.originals
        raws = batch.raws[first:stop]
        kept.raws.extend(raws)
        kept.inputs.extend([batch.input] * len(raws))
        kept.lines.extend(batch.lines[first:stop])
        kept.starts.extend(batch.ends[index - 1] if index else batch.start for index in range(first, stop))
        kept.ends.extend(batch.ends[first:stop])
        self.raw_bytes += sum(map(len, raws))

    def close(self) -> Cut:
        return Cut(
            items=self.items, keys=self.keys, originals=self.originals, slices=tuple(self.slices), ends=self.ends,
            bad=self.bad, filtered=self.filtered, body_bytes=self.body_bytes,
        )  # fmt: skip


class Batcher:
    """Feed batches in reading order; take the cuts. `keeps`: the originals of a job's records are kept with it."""

    def __init__(self, *, rows_max: int, bytes_max: int, envelope_bytes: int, keeps: bool = False) -> None:
        self._rows_max = rows_max
        self._room = bytes_max - envelope_bytes
        self._keeps = keeps
        self._open = _Open(keeps=keeps)

    def add(self, batch: Batch, items: Sequence[bytes]) -> list[Cut]:
        """Take a batch; `items[i]` travels for `batch.raws[i]`. Answers the jobs that are now full.

        An item larger than a whole job still gets a job of its own; refusing it is the caller's decision.
        """
        walk = _Walk(batch, items)
        if self._keeps or batch.bad:
            self._add_one_by_one(walk)
        else:
            self._add_runs(walk)
        self._open.take(batch, items, (walk.first, len(items)), (*walk.start, batch.end, batch.next_line))
        return walk.cuts

    def _add_runs(self, walk: _Walk) -> None:
        """Cut where rows or bytes are spent, found without looking at every item; the same cuts as one by one."""
        reached = list(accumulate(map(len, walk.items)))
        rows, room, _ = self._left()
        index = passed = 0
        while True:
            # Each item costs its comma too, so up to `stop` they cost `reached + stop`.
            fit = bisect_right(range(index, len(reached)), passed + index + room, key=lambda at: reached[at] + at + 1)
            stop = index + min(max(rows, 0), fit)
            if stop == index and rows == self._rows_max:
                stop += 1
            if stop >= len(reached):
                return
            self._cut(walk, stop)
            rows, room, index = self._rows_max, self._room, stop
            passed = reached[stop - 1] if stop else 0

    def _add_one_by_one(self, walk: _Walk) -> None:
        batch, items = walk.batch, walk.items
        rows, room, raw_room = self._left()
        bad_room = BAD_MAX - self._open.bad_bytes
        for index, item in enumerate(items):
            if batch.ends[index] >= walk.next_bad:
                bad_room = self._pass_bad(walk, index, bad_room)
                if walk.first == index:
                    rows, room, raw_room = self._left()
            cost = len(item) + 1
            raw_cost = len(batch.raws[index]) if self._keeps else 0
            if rows < self._rows_max and (rows <= 0 or cost > room or raw_cost > raw_room):
                self._cut(walk, index)
                rows, room, raw_room, bad_room = self._rows_max, self._room, RAWS_MAX, BAD_MAX
            rows -= 1
            room -= cost
            raw_room -= raw_cost
        if batch.bad:
            self._pass_bad(walk, len(items), bad_room)

    def flush(self) -> Cut | None:
        """Whatever is left, or None when nothing was read since the last cut; the next batch starts a new job."""
        return self._close() if self._open.slices else None

    def _left(self) -> tuple[int, int, int]:
        """Rows, bytes and bytes of originals that still fit into the open job."""
        held = self._open
        return self._rows_max - len(held.items), self._room - held.body_bytes, RAWS_MAX - held.raw_bytes

    def _pass_bad(self, walk: _Walk, index: int, room: int) -> int:
        """Pass the bad records before item `index`, ending the job where they overflow; the room left for more."""
        for bad in walk.bad_before(index):
            room -= len(bad.raw) + _BAD_COST
            if room < 0:
                self._cut(walk, index)
                room = BAD_MAX
        return room

    def _cut(self, walk: _Walk, index: int) -> None:
        """End the job before item `index`, after the last record passed, good or bad."""
        reach = walk.reach(index)
        self._open.take(walk.batch, walk.items, (walk.first, index), (*walk.start, *reach))
        walk.start, walk.first = reach, index
        walk.cuts.append(self._close())

    def _close(self) -> Cut:
        cut = self._open.close()
        self._open = _Open(keeps=self._keeps)
        return cut


class _Walk:
    """A batch being walked through: where the open job began in it, and which bad records were passed.

    A place is an offset and the line that begins there.
    """

    __slots__ = ("_bad_reach", "_passed", "batch", "cuts", "first", "items", "next_bad", "start")

    def __init__(self, batch: Batch, items: Sequence[bytes]) -> None:
        self.batch, self.items = batch, items
        self.cuts: list[Cut] = []
        self.start = self._bad_reach = (batch.start, batch.line)
        self.first = self._passed = 0
        self.next_bad = batch.bad[0].end if batch.bad else sys.maxsize

    def bad_before(self, index: int) -> Iterator[BadRecord]:
        """The bad records not passed yet that lie before item `index`."""
        batch = self.batch
        end = batch.ends[index] if index < len(self.items) else batch.end
        while self.next_bad <= end:
            bad = batch.bad[self._passed]
            self._passed += 1
            self.next_bad = batch.bad[self._passed].end if self._passed < len(batch.bad) else sys.maxsize
            self._bad_reach = (bad.end, bad.line + bad.lines)
            yield bad

    def reach(self, index: int) -> tuple[int, int]:
        """Where the last record passed ends, when item `index` is next."""
        good = (self.batch.ends[index - 1], self.batch.line_after(index - 1)) if index else self.start
        return max(good, self._bad_reach, self.start)
