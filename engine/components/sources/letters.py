"""Letters source: dead letters read again as records, by the rules the pipeline has now.

A letter is one record of an input of its own, whose offsets are the ids of letters: the id is the offset just past
it, and its line. What somebody edited is JSON; what was read and never parsed is read as the format it came in.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import groupby

import msgspec

from engine.codec.lines import Lines
from engine.codec.payload import check_caps, loads
from engine.components.sources.csv import CsvSource
from engine.components.sources.ndjson import NdjsonSource
from engine.errors import EngineError, RecordError
from engine.pipeline.spec import SourceSpec
from engine.record import BadRecord, Batch, Mark, Slice
from engine.store.letters import Letter, Shelf

NAME = "dead letters"


class LetterSource:
    """A `ports.Source` over the letters that one replay has taken."""

    def __init__(self, spec: SourceSpec, shelf: Shelf, *, want_values: bool) -> None:
        self._shelf = shelf
        self._json = _JsonLetters(spec, want_values=want_values)
        self._csv = _CsvLetters(spec, want_values=want_values) if spec.type == "csv" else None
        self._stop = threading.Event()

    @property
    def can_reread(self) -> bool:
        """Letters stay in the ledger, and none can be edited while a replay has it."""
        return True

    def read(self, marks: Mapping[str, Mark]) -> Iterator[Batch]:
        """Read on from the mark; see `ports.Source.read`."""
        mark = marks.get(NAME)
        return self._batches(mark.offset if mark else 0, None)

    def reread(self, slices: Sequence[Slice]) -> Iterator[Batch]:
        """Read the letters of these slices again."""
        for piece in slices:
            yield from self._batches(piece.start, piece.end)

    def mark(self, name: str, offset: int, line: int) -> Mark:
        """The mark after a letter; ids need no fingerprint."""
        return Mark(offset=offset, line=line, fingerprint="", head=0)

    def close(self) -> None:
        """Stop reading at the next chunk."""
        self._stop.set()

    def _batches(self, after: int, until: int | None) -> Iterator[Batch]:
        for chunk in self._shelf.chunks(after, until):
            if self._stop.is_set():
                return
            for is_json, letters in groupby(chunk, key=self._is_json):
                if is_json or self._csv is None:
                    batch = self._json.batch(after, list(letters))
                    after = batch.end
                    yield batch
                    continue
                for letter in letters:
                    yield self._csv.batch(after, letter)
                    after = letter.id

    def _is_json(self, letter: Letter) -> bool:
        """Whether a letter holds JSON: one of an NDJSON input, an edited one, a row of a table that was read well."""
        return self._csv is None or letter.edited is not None or letter.key != "" or _is_object(letter.text)


class _JsonLetters(NdjsonSource):
    """Letters as lines of JSON."""

    def batch(self, after: int, letters: list[Letter]) -> Batch:
        lines = Lines(
            start=after, line=1, texts=[_one_line(entry.text) for entry in letters], ends=[e.id for e in letters]
        )
        batch = self._whole(NAME, lines) or self._line_by_line(NAME, lines)
        return _placed(batch, after, letters)


class _CsvLetters(CsvSource):
    """Letters as rows of a table, under the header of the file they came from."""

    def __init__(self, spec: SourceSpec, *, want_values: bool) -> None:
        super().__init__(spec, want_values=want_values)
        self._headed: str | None = None

    def batch(self, after: int, letter: Letter) -> Batch:
        try:
            self._head(letter.input)
        except EngineError as exc:
            return _placed(_empty([_bad(letter, f"its header cannot be read again: {exc.message}")]), after, [letter])
        texts = letter.text.split(b"\n")
        # Any start but 0: the first line of a file would be its header.
        lines = Lines(start=1, line=1, texts=texts, ends=[letter.id] * len(texts))
        batch, _ = self._batch(NAME, lines, is_all=True)
        if batch is None or len(batch.raws) + len(batch.bad) != 1:
            # Two records in one place could be taken apart, and one of them lost.
            batch = _empty([_bad(letter, "it is not one row")])
        return _placed(batch, after, [letter])

    def _head(self, name: str) -> None:
        if self._headed == name:
            return
        with closing(self._open(name)) as stream:
            self._begin(stream)
        self._headed = name


def _one_line(text: bytes) -> bytes:
    # A line end inside JSON text is a blank; inside anything else the record is bad with or without it.
    return text.replace(b"\n", b" ")


def _is_object(text: bytes) -> bool:
    if not text.lstrip().startswith(b"{"):
        return False
    try:
        check_caps(text)
        return isinstance(loads(text), dict)
    except RecordError:
        return False


def _empty(bad: list[BadRecord]) -> Batch:
    return Batch(NAME, 0, 0, 0, 0, [], [], [], [], bad=bad)


def _bad(letter: Letter, reason: str) -> BadRecord:
    return BadRecord(NAME, letter.id, letter.id, letter.id, letter.text, "record.letter", reason)


def _placed(batch: Batch, after: int, letters: Sequence[Letter]) -> Batch:
    """The batch with ids for places, in which every letter is a record, good or bad."""
    bad = [msgspec.structs.replace(record, line=record.end) for record in batch.bad]
    if len(batch.raws) + len(bad) != len(letters):
        seen = {*batch.ends, *(record.end for record in bad)}
        bad += [_bad(letter, "it is blank") for letter in letters if letter.id not in seen]
        bad.sort(key=lambda record: record.end)
    return msgspec.structs.replace(
        batch,
        start=after,
        end=letters[-1].id,
        line=after + 1,
        next_line=letters[-1].id + 1,
        lines=list(batch.ends),
        after=None,
        bad=bad,
    )
