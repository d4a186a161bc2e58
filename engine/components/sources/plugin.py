"""Plug-in source: rows that a function of another distribution yields, each with the place after it.

A place is text that only the function understands; it is kept with the position, and given back to go on from. Rows of
open jobs are kept in the ledger, so the function is never asked for a row again that was taken.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from typing import Any

import msgspec

from engine.codec.lines import Lines
from engine.codec.payload import encode
from engine.components.plugins import Pull, RowSource
from engine.components.sources.files import VALUES_MAX
from engine.components.sources.once import OnceSource
from engine.errors import EngineError, InputError
from engine.pipeline.spec import SourceSpec
from engine.record import Batch, Mark

_WINDOW_ROWS = 1_000
_WINDOW_BYTES = 256 * 1024
# A row that came is not held back for longer, once another one comes.
_WINDOW_S = 1.0
_PLACE_CHARS_MAX = 8192


class _Window(msgspec.Struct):
    """Rows that were yielded, the offset after each, and the place after each."""

    start: int
    texts: list[bytes]
    ends: list[int]
    places: list[str]


class PluginSource(OnceSource):
    """A `ports.Source` over one function; offsets count the bytes of rows as JSON lines."""

    def __init__(
        self, spec: SourceSpec, function: RowSource, *, want_values: bool, values_max: int = VALUES_MAX
    ) -> None:
        super().__init__(spec, want_values=want_values, values_max=values_max)
        self._function = function
        self._name = f"plugin {spec.use}"
        self._known: deque[_Window] = deque()

    def read(self, marks: Mapping[str, Mark]) -> Iterator[Batch]:
        """Read on from the mark, until the function ends.

        Raises:
            InputError: the function raised, or yielded something that is no row and place.
        """
        mark = marks.get(self._name)
        pull = Pull(options=self.spec.options, after=mark.fingerprint if mark else None, stop=self._stop)
        offset, line = (mark.offset, mark.line) if mark else (0, 1)
        rows = self._rows(pull)
        with closing(rows):
            for window in self._pieces(rows, offset):
                self._known.append(window)
                cut = tuple(i for i, text in enumerate(window.texts) if len(text) > self.spec.line_max)
                lines = Lines(start=window.start, line=line, texts=window.texts, ends=window.ends, cut=cut)
                line = lines.next_line
                yield self._whole(self._name, lines) or self._line_by_line(self._name, lines)

    def mark(self, name: str, offset: int, line: int) -> Mark:
        """The mark after a row: its place."""
        while len(self._known) > 1 and self._known[0].ends[-1] < offset:
            self._known.popleft()
        known = self._known[0]
        place = known.places[bisect_left(known.ends, offset)]
        return Mark(offset=offset, line=line, fingerprint=place, head=0)

    def _pieces(self, rows: Iterator[tuple[bytes, str]], offset: int) -> Iterator[_Window]:
        window, since = _Window(offset, [], [], []), time.monotonic()
        for text, place in rows:
            if self._stop.is_set():
                # What is pending was not handed out: it is for the next run.
                return
            if not window.texts:
                since = time.monotonic()
            offset += len(text) + 1
            window.texts.append(text)
            window.ends.append(offset)
            window.places.append(place)
            is_full = len(window.texts) >= _WINDOW_ROWS or offset - window.start >= _WINDOW_BYTES
            if is_full or time.monotonic() - since >= _WINDOW_S:
                yield window
                window = _Window(offset, [], [], [])
        if window.texts and not self._stop.is_set():
            yield window

    def _rows(self, pull: Pull) -> Generator[tuple[bytes, str], None, None]:
        try:
            for item in self._function(pull):
                yield self._taken(item)
        except EngineError:
            raise
        except Exception as exc:
            raise InputError(f"{self._name} failed: {type(exc).__name__}: {exc}", input=self._name) from exc

    def _taken(self, item: Any) -> tuple[bytes, str]:
        match item:
            case (dict() as row, str() as place):
                text = encode(row)
            case (bytes() as text, str() as place):
                text = text.replace(b"\n", b" ").replace(b"\r", b" ")
            case _:
                raise InputError(f"{self._name} yields {type(item).__name__}, not a row and the place after it")
        if len(place) > _PLACE_CHARS_MAX:
            raise InputError(f"{self._name} yields a place of {len(place)} characters; {_PLACE_CHARS_MAX} are enough")
        return text, place
