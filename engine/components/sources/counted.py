"""Counted: inputs whose rows have a number and no place in bytes, because they lie in a document or in columns.

A place is the number of rows before it; getting there means passing those rows, so records of open jobs are kept in
the ledger. An input is known by its size, its beginning and its end: such a file is written as a whole, and never
grows. How a file becomes rows is left to the formats.
"""

from __future__ import annotations

import hashlib
import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from engine.codec.lines import Lines
from engine.components.sources.files import VALUES_MAX, find_inputs, stale
from engine.components.sources.ndjson import NdjsonSource
from engine.components.sources.streams import HEAD_BYTES, Body
from engine.errors import InputError
from engine.pipeline.spec import SourceSpec
from engine.record import Batch, Mark, Slice

_TAIL_BYTES = 64 * 1024


class CountedSource(NdjsonSource):
    """A `ports.Source` over files of rows; offsets count rows."""

    def __init__(self, spec: SourceSpec, *, want_values: bool, values_max: int = VALUES_MAX) -> None:
        super().__init__(spec, want_values=want_values, values_max=values_max)
        self._identities: dict[str, str] = {}

    @property
    def can_seek(self) -> bool:
        """A row is reached by passing those before it."""
        return False

    def read(self, marks: Mapping[str, Mark]) -> Iterator[Batch]:
        """Read on from `marks`; see `ports.Source.read`."""
        for name in find_inputs(self.spec.paths, self.objects):
            mark = marks.get(name)
            self._identities[name] = identity = self._identity(name)
            if mark is not None and mark.fingerprint != identity:
                raise stale(name, "its size, its beginning or its end has changed since it was read")
            yield from self._between(name, mark.offset if mark else 0, None)
            if self._stop.is_set():
                return

    def reread(self, slices: Sequence[Slice]) -> Iterator[Batch]:
        """Read these slices again, each by passing what stands before it."""
        for piece in slices:
            yield from self._between(piece.input, piece.start, piece.end)

    def mark(self, name: str, offset: int, line: int) -> Mark:
        """So many rows have been taken of an input."""
        identity = self._identities.get(name) or self._identity(name)
        return Mark(offset=offset, line=line, fingerprint=identity, head=0)

    @abstractmethod
    def _texts_of(self, name: str, body: Body) -> Iterator[list[bytes]]:
        """The rows of an input in their order, as JSON texts on one line each."""

    def _between(self, name: str, start: int, end: int | None) -> Iterator[Batch]:
        at = 0
        with closing(self._whole_body(name, self._stop)) as body:
            for texts in self._texts_of(name, body):
                if self._stop.is_set():
                    return
                first, at = at, at + len(texts)
                lo, hi = max(start - first, 0), len(texts) if end is None else min(len(texts), end - first)
                if lo < hi:
                    yield self._batch(name, first + lo, texts[lo:hi])
                if end is not None and at >= end:
                    return
        if at < (start if end is None else end) and not self._stop.is_set():
            raise stale(name, f"it ends before row {start if end is None else end}, up to which it was read")

    def _batch(self, name: str, start: int, texts: list[bytes]) -> Batch:
        ends = list(range(start + 1, start + len(texts) + 1))
        cut = tuple(index for index, text in enumerate(texts) if len(text) > self.spec.line_max)
        lines = Lines(start=start, line=start + 1, texts=texts, ends=ends, cut=cut)
        return self._whole(name, lines) or self._line_by_line(name, lines)

    def _whole_body(self, name: str, stop: threading.Event) -> Body:
        body = self._body(name, stop)
        if not body.is_regular:
            body.close()
            raise InputError(
                f"`{name}` is no file: {self.spec.type} is read by going to and fro in it",
                hint="write it to a file first",
                input=name,
            )
        return body

    def _identity(self, name: str) -> str:
        # Not to be stopped: half of an identity would be another one.
        with closing(self._whole_body(name, threading.Event())) as body:
            digest = hashlib.sha256(b"%d\n" % body.size)
            digest.update(body.read(HEAD_BYTES))
            body.seek(max(body.size - _TAIL_BYTES, 0))
            left = _TAIL_BYTES
            while left > 0 and (piece := body.read(left)):
                digest.update(piece)
                left -= len(piece)
        return digest.hexdigest()
