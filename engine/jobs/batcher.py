"""Cuts a stream of batches into jobs: by rows and by bytes, never by time.

Because only the input decides where a job ends, reading the same input again from the same mark gives
the same jobs, and so the same keys. Pure: it holds records until they fill a job, and sends nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.record import BadRecord, Batch, Slice


class Cut(msgspec.Struct, gc=False, kw_only=True):
    """Everything between two job ends: the records that travel, and what was read beside them.

    `items` are what goes into the body; `raws` the records as they were read. `ends` is, by input, the offset and
    line reading goes on from.
    """

    items: list[bytes]
    raws: list[bytes]
    keys: list[str]
    lines: list[int]
    slices: tuple[Slice, ...]
    ends: dict[str, tuple[int, int]]
    bad: list[BadRecord]
    filtered: int
    body_bytes: int

    @property
    def read(self) -> int:
        """Records read here, whatever became of them."""
        return len(self.raws) + len(self.bad) + self.filtered


class _Open:
    """A job that is being filled."""

    def __init__(self) -> None:
        self.items: list[bytes] = []
        self.raws: list[bytes] = []
        self.keys: list[str] = []
        self.lines: list[int] = []
        self.bad: list[BadRecord] = []
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
        self.raws.extend(batch.raws[first:stop])
        self.keys.extend(batch.keys[first:stop])
        self.lines.extend(batch.lines[first:stop])
        self.bad.extend(bad for bad in batch.bad if start < bad.end <= end)
        self.filtered += sum(1 for gone in batch.gone if start < gone <= end)
        if self.slices and self.slices[-1].input == batch.input and self.slices[-1].end == start:
            start, line = self.slices[-1].start, self.slices.pop().line
        self.slices.append(Slice(batch.input, start, end, line))
        self.ends[batch.input] = (end, next_line)

    def close(self) -> Cut:
        return Cut(
            items=self.items, raws=self.raws, keys=self.keys, lines=self.lines, slices=tuple(self.slices),
            ends=self.ends, bad=self.bad, filtered=self.filtered, body_bytes=self.body_bytes,
        )  # fmt: skip


class Batcher:
    """Feed batches in reading order; take the cuts."""

    def __init__(self, *, rows_max: int, bytes_max: int, envelope_bytes: int) -> None:
        self._rows_max = rows_max
        self._room = bytes_max - envelope_bytes
        self._open = _Open()

    def add(self, batch: Batch, items: Sequence[bytes]) -> list[Cut]:
        """Take a batch; `items[i]` travels for `batch.raws[i]`. Answers the jobs that are now full.

        An item larger than a whole job still gets a job of its own; refusing it is the caller's decision.
        """
        cuts: list[Cut] = []
        start, line, first = batch.start, batch.line, 0
        rows, room = self._rows_max - len(self._open.items), self._room - self._open.body_bytes
        for index, item in enumerate(items):
            cost = len(item) + 1
            if rows < self._rows_max and (rows <= 0 or cost > room):
                if index > first:
                    end, next_line = batch.ends[index - 1], batch.line_after(index - 1)
                    self._open.take(batch, items, (first, index), (start, line, end, next_line))
                    start, line, first = end, next_line, index
                cuts.append(self._close())
                rows, room = self._rows_max, self._room
            rows -= 1
            room -= cost
        self._open.take(batch, items, (first, len(items)), (start, line, batch.end, batch.next_line))
        return cuts

    def flush(self) -> Cut | None:
        """Whatever is left, or None when nothing was read since the last cut; the next batch starts a new job."""
        return self._close() if self._open.slices else None

    def _close(self) -> Cut:
        cut = self._open.close()
        self._open = _Open()
        return cut
