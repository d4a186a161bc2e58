"""Rows of a result that come as lines: windows of good ones, and what is wrong with the others.

A line that cannot be read costs itself alone: it is counted, and told with its number, because the row it stood for
can only be found out by what is missing in the end. Knows nothing of what a row means.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from engine.codec.lines import Lines, LineSplitter
from engine.codec.payload import MAX_DEPTH, check_caps, decoder, is_utf8
from engine.errors import RecordError

T = TypeVar("T")

# A result with more bad lines than this is not one with bad lines but damaged.
BAD_LINES_MAX = 1000
_raws = decoder(list[msgspec.Raw])


class BadLine(msgspec.Struct, frozen=True, gc=False):
    """A line, counted from 1, and why it is no row."""

    number: int
    reason: str


class RowLines(Generic[T]):
    """Turns pieces of an NDJSON body into JSON array texts of whole rows.

    Or into what `take` makes of whole lines, each ended by a LF: how many they are, and a value; None where it cannot
    take all of them at once.
    """

    def __init__(self, line_max: int, take: Callable[[bytes], tuple[int, T] | None]) -> None:
        self._splitter = LineSplitter(line_max)
        self._take = take
        self._line_max = line_max
        self.bad: list[BadLine] = []
        self.rows = 0

    @property
    def held_bytes(self) -> int:
        """What is held back of a line that is not whole yet."""
        return self._splitter.held_bytes

    def feed(self, piece: bytes) -> T | bytes | None:
        """The rows that end in this piece, taken or as one JSON array text; None when none does."""
        splitter = self._splitter
        if splitter.is_cutting:
            return self._window(splitter.feed(piece))
        body = splitter.join(piece)
        if body is None:
            return None
        # Not longer altogether than one line may be, so no line is.
        taken = self._take(body) if len(body) <= self._line_max else None
        if taken is None:
            return self._window(splitter.split(body))
        rows, value = taken
        splitter.passed(body, rows)
        self.rows += rows
        return value

    def finish(self) -> bytes | None:
        """The last row, when the body ended without a line end."""
        return self._window(self._splitter.finish())

    def _window(self, lines: Lines | None) -> bytes | None:
        if lines is None:
            return None
        texts = [text for text in lines.texts if text.strip(b" \t")]
        if not lines.cut and (window := _array_of(texts)) is not None:
            self.rows += len(texts)
            return window or None
        good: list[bytes] = []
        for index, text in enumerate(lines.texts):
            if not text.strip(b" \t"):
                continue
            if (why := self._fault(lines, index)) is None:
                good.append(text)
            elif len(self.bad) < BAD_LINES_MAX:
                self.bad.append(BadLine(lines.line + index, why))
            else:
                raise RecordError(f"more than {BAD_LINES_MAX} lines of the result cannot be read; the last: {why}")
        self.rows += len(good)
        return b"[" + b",".join(good) + b"]" if good else None

    def _fault(self, lines: Lines, index: int) -> str | None:
        text = lines.texts[index]
        if index in lines.cut:
            start, end = lines.extent(index)
            return f"it has {end - start} bytes, over the cap of {self._line_max}"
        if not is_utf8(text):
            return "it is not UTF-8"
        try:
            check_caps(text, max_bytes=self._line_max)
            found = _raws.decode(b"[" + text + b"]")
        except RecordError as exc:
            return exc.message
        except (msgspec.DecodeError, RecursionError, ValueError) as exc:
            return f"it is not valid JSON: {exc}"
        if len(found) != 1:
            return "it holds more than one value"
        return None if text.lstrip(b" \t").startswith(b"{") else "it is no JSON object"


def _array_of(texts: list[bytes]) -> bytes | None:
    """Rows as one JSON array text, empty when there are none; None when some line is not one whole, shallow row."""
    if not texts:
        return b""
    window = b"[" + b",".join(texts) + b"]"
    if not is_utf8(window):
        return None
    try:
        rows = _raws.decode(window)
    except (msgspec.DecodeError, RecursionError, ValueError):
        return None
    # Deep texts need many brackets; most windows have one pair a row, and are let through by counting.
    brackets = window.count(b"{") + window.count(b"[")
    if brackets > len(texts) + MAX_DEPTH:
        try:
            for text in texts:
                check_caps(text)
        except RecordError:
            return None
    # Two rows on a line, or one over two lines, keep the text valid but not the count or the first bytes.
    is_one_each = len(rows) == len(texts) and all(text.lstrip(b" \t").startswith(b"{") for text in texts)
    return window if is_one_each else None
