"""Shared: the share of a file source that one of several processes reads, each record being in exactly one share.

Whose a record is hangs on its input and on where it ends, never on where reading began or how it was windowed; so
reading on and reading again agree, and marks are places in the whole input. What is another's is passed over as cheaply
as its format allows; what a share means is `record.Share`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import msgspec

from engine.codec.lines import Lines, LineSplitter
from engine.components.sources.csv import CsvSource
from engine.components.sources.files import VALUES_MAX, FileSource
from engine.components.sources.ndjson import NdjsonSource
from engine.components.sources.objects import Objects
from engine.components.sources.streams import InputStream
from engine.pipeline.spec import SourceSpec
from engine.ports import Source
from engine.record import Batch, Mark, Share, Slice


def open_shared(
    spec: SourceSpec, share: Share, *, want_values: bool, values_max: int = VALUES_MAX, objects: Objects | None = None
) -> Source:
    """The share of a file source.

    Raises:
        RecordError: as the source itself.
    """
    kind = _SharedCsv if spec.type == "csv" else _SharedNdjson
    source = kind(spec, want_values=want_values, values_max=values_max)
    source.share = share
    source.objects = objects
    return SharedSource(source, share)


class SharedSource:
    """A `ports.Source` that keeps of another one the records of a share, whatever their format."""

    def __init__(self, source: Source, share: Share) -> None:
        self._source = source
        self._share = share

    @property
    def can_reread(self) -> bool:
        """As the whole source."""
        return self._source.can_reread

    @property
    def can_seek(self) -> bool:
        """As the whole source."""
        return self._source.can_seek

    def read(self, marks: Mapping[str, Mark]) -> Iterator[Batch]:
        """Read on from `marks`; see `ports.Source.read`."""
        for batch in self._source.read(marks):
            yield from share_of(batch, self._share)

    def reread(self, slices: Sequence[Slice]) -> Iterator[Batch]:
        """Read the share's records of these slices again."""
        for batch in self._source.reread(slices):
            yield from share_of(batch, self._share)

    def mark(self, name: str, offset: int, line: int) -> Mark:
        """As of the whole source: everything of the share before `offset` has been taken."""
        return self._source.mark(name, offset, line)

    def close(self) -> None:
        """Stop reading."""
        self._source.close()


class _Place(msgspec.Struct, gc=False):
    """A record of a batch: where it ends, and its index among the good ones, or among the bad ones."""

    end: int
    next_line: int
    good: int = -1
    bad: int = -1


def share_of(batch: Batch, share: Share) -> Iterator[Batch]:
    """A batch without what is in other shares, as consecutive batches that cover its window.

    A record begins where the one before it ends, so no batch may hold records from both sides of a foreign one.
    """
    if (is_ours := _is_ours(batch, share)) is not None:
        start, reach = (batch.start, batch.line), (batch.end, batch.next_line)
        yield batch if is_ours else _piece(batch, (), start, reach)
        return
    places = [_Place(end, batch.line_after(index), good=index) for index, end in enumerate(batch.ends)]
    places += [_Place(bad.end, bad.line + bad.lines, bad=index) for index, bad in enumerate(batch.bad)]
    places.sort(key=lambda place: place.end)
    runs = [(is_in, list(run)) for is_in, run in groupby(places, lambda place: share.has(batch.input, place.end))]
    reaches = [(run[-1].end, run[-1].next_line) for _, run in runs[:-1]] + [(batch.end, batch.next_line)]
    start = (batch.start, batch.line)
    for (is_in, run), reach in zip(runs, reaches, strict=True):
        yield _piece(batch, run if is_in else (), start, reach)
        start = reach


def _is_ours(batch: Batch, share: Share) -> bool | None:
    """Whether all records of a batch are in the share, or none; None where it must be looked at more closely."""
    ends = [*batch.ends[:1], *batch.ends[-1:], *(bad.end for bad in batch.bad)]
    if len({(end - 1) // share.block_bytes for end in ends}) > 1:
        return None
    return not ends or share.has(batch.input, ends[0])


def _piece(batch: Batch, run: Sequence[_Place], start: tuple[int, int], reach: tuple[int, int]) -> Batch:
    """The records of a run, in the window that reaches from the run before it to the next one.

    A source filters nothing, so there is nothing `gone` yet.
    """
    good = [place.good for place in run if place.good >= 0]
    first, stop = (good[0], good[-1] + 1) if good else (0, 0)
    return Batch(
        input=batch.input,
        start=start[0],
        end=reach[0],
        line=start[1],
        next_line=reach[1],
        raws=batch.raws[first:stop],
        ends=batch.ends[first:stop],
        lines=batch.lines[first:stop],
        keys=batch.keys[first:stop],
        values=None if batch.values is None else batch.values[first:stop],
        bad=[batch.bad[place.bad] for place in run if place.bad >= 0],
        after=None if batch.after is None else batch.after[first:stop],
    )


class _InBlocks(FileSource):
    """A file source whose windows end where blocks end, so that most hold lines of one share alone."""

    share: Share

    def _window_max(self, position: int) -> int:
        block_bytes = self.share.block_bytes
        return min(self.window_bytes, block_bytes - position % block_bytes)


class _Passed(Lines, frozen=True, gc=False):
    """A stretch of lines that are in other shares, given out as if it were one blank line."""

    passed: int = 0

    @property
    def next_line(self) -> int:
        """Number of the line that follows."""
        return self.line + self.passed


class _SharedNdjson(_InBlocks, NdjsonSource):
    """Lines that end in a foreign block are counted and not looked at."""

    def _lines(self, stream: InputStream, line: int, end: int | None) -> Iterator[Lines]:
        splitter = LineSplitter(self.spec.line_max, offset=stream.position, line=line)
        told = splitter.place
        for window in self._windows(stream, end):
            if not self.share.has(stream.name, stream.position):
                splitter.skip(window)
                continue
            before = splitter.place
            if lines := splitter.feed(window):
                yield from _passed(told, before)
                yield lines
                told = splitter.place
        if self._stop.is_set():
            return
        if splitter.reach > told[0] and not self.share.has(stream.name, splitter.reach):
            offset, number = splitter.place
            yield from _passed(told, (splitter.reach, number + (splitter.reach > offset)))
            return
        yield from _passed(told, splitter.place)
        if lines := splitter.finish():
            yield lines


class _SharedCsv(_InBlocks, CsvSource):
    """Lines that end in a foreign block are not parsed, where no quote can make rows of them that end elsewhere."""

    def _batch(self, name: str, lines: Lines, *, is_all: bool) -> tuple[Batch | None, Lines | None]:
        if self._is_foreign(name, lines):
            return _empty(name, lines), None
        return super()._batch(name, lines, is_all=is_all)

    def _is_foreign(self, name: str, lines: Lines) -> bool:
        share = self.share
        first, last = lines.ends[0] - 1, lines.ends[-1] - 1
        is_in_one_block = first // share.block_bytes == last // share.block_bytes
        if not is_in_one_block or share.has(name, lines.end):
            return False
        return not lines.cut and not any(b'"' in text for text in lines.texts)


def _passed(start: tuple[int, int], reach: tuple[int, int]) -> Iterator[Lines]:
    """What lies between two places, if anything does."""
    if reach[0] > start[0]:
        yield _Passed(start=start[0], line=start[1], texts=[b""], ends=[reach[0]], passed=reach[1] - start[1])


def _empty(name: str, lines: Lines) -> Batch:
    window = (lines.start, lines.end, lines.line, lines.next_line)
    return Batch(name, *window, raws=[], ends=[], lines=[], keys=[], values=[])
