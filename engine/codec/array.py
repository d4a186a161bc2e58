"""Array: a JSON document that holds one large array, read piece by piece in bounded memory.

The document comes in chunks cut anywhere; out come windows, each a JSON array text of whole elements,
small enough to stay in cache while it is decoded at once. The rest of the document, with that array
emptied, is handed out at the end. Knows nothing of what an element means.

How: the next boundary between elements is guessed (by the bytes that stood at an earlier boundary) and
proved by decoding. If `[` + everything since a true boundary + `]` is valid JSON, the guess is a true
boundary too, because a JSON parser has only one state at each byte. Where no guess is proved, a scanner
counts brackets; it remembers its place, so no byte is scanned twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

import msgspec

from engine.codec import payload
from engine.codec.lines import BOM
from engine.codec.rows import nests_deeper
from engine.errors import BrokenAnswer, CapExceeded, RecordError

T = TypeVar("T")

WINDOW_BYTES = 64 * 1024
MAX_ELEMENT = 64 * 1024 * 1024
# Everything outside the array is kept in memory until the end.
MAX_REST = 16 * 1024 * 1024

_GUESSES = 6
_SEPARATOR_BYTES = 256

# Nothing that a quote or a bracket decides is tried twice, so an unfinished string fails in linear time.
# Groups are atomic, not possessive: before CPython 3.11.5, `(?:...)*+` matches wrongly (gh-106052).
# And counted: the matcher keeps some hundred bytes for every turn of a group until the group ends.
_TURNS = b"{0,4000}"
_INSIDE = rb'(?>(?:[^"\\]++|\\.)' + _TURNS + b")"
_STRING = b'"' + _INSIDE + b'"'
_INSIDE_STRING = re.compile(_INSIDE, re.DOTALL)
# What may be passed over, and the bytes to stop at.
_AT_DEPTH_1 = re.compile(rb'(?>(?:[^"\[\]{},]++|' + _STRING + b")" + _TURNS + b")", re.DOTALL), b",[]{}"
_ELSEWHERE = re.compile(rb'(?>(?:[^"\[\]{}]++|' + _STRING + b")" + _TURNS + b")", re.DOTALL), b"[]{}"
_NAME = re.compile(rb"[ \t\r\n]*+(" + _STRING + rb")[ \t\r\n]*+:", re.DOTALL)
_ELEMENT_START = re.compile(rb"[ \t\r\n]*+(?:\{[ \t\r\n]*+" + _STRING + rb'|[\[{"])?', re.DOTALL)

_BLANKS = b" \t\r\n"
_COMMA, _QUOTE, _CLOSE = b',"]'
_OPENING = b"{["


class _Scanner:
    """Steps from bracket to bracket, and at depth 1 also from comma to comma.

    `pos` is where it goes on, `depth` how many brackets are open there.
    """

    def __init__(self, max_depth: int) -> None:
        self.pos = 0
        self.depth = 0
        self._in_string = False
        self._max_depth = max_depth

    def step(self, data: bytearray) -> int | None:
        """Pass the next bracket or comma and give its byte; None when more data is needed."""
        size = len(data)
        while self.pos < size:
            if self._in_string and not self._leave_string(data):
                return None
            pattern, marks = _AT_DEPTH_1 if self.depth == 1 else _ELSEWHERE
            if found := pattern.match(data, self.pos):
                self.pos = found.end()
            if self.pos == size:
                return None
            byte = data[self.pos]
            if byte in marks:
                self.pos += 1
                if byte in _OPENING:
                    self.depth += 1
                    if self.depth > self._max_depth:
                        raise _too_deep(self._max_depth)
                elif byte != _COMMA:
                    self.depth -= 1
                return byte
            if byte == _QUOTE:  # of a string that is long, or not here in full
                self.pos += 1
                self._in_string = True
        return None

    def drop(self, size: int) -> None:
        """The first `size` bytes went; what is left begins just inside the array."""
        if self.pos >= size:
            self.pos -= size
        else:
            self.pos, self.depth, self._in_string = 0, 1, False

    def _leave_string(self, data: bytearray) -> bool:
        while (found := _INSIDE_STRING.match(data, self.pos)) and found.end() > self.pos:
            self.pos = found.end()
        # What stops the pattern short of a quote is a lone backslash at the end: wait for its second half.
        if self.pos < len(data) and data[self.pos] == _QUOTE:
            self.pos += 1
            self._in_string = False
        return not self._in_string


class _At(Enum):
    HEAD = "before the array"
    ARRAY = "inside the array"
    REST = "past the array"


class ArraySplitter(Generic[T]):
    """Splits the array that is `member` of the document's top-level object.

    `max_element` caps what one element may hold back (bytes), `max_depth` how deep any value is nested.

    `take` makes the value of a window that stands in its place; None where it cannot. A window given to it is not
    proved to be one yet: taking it must prove that it is a valid JSON array, and change nothing where it is not.
    """

    def __init__(
        self,
        member: str,
        *,
        take: Callable[[bytes], T | None] | None = None,
        max_element: int = MAX_ELEMENT,
        max_depth: int = payload.MAX_DEPTH,
    ) -> None:
        self._member = member
        self._take = take
        self._max_element = max_element
        self._max_depth = max_depth
        self._at = _At.HEAD
        self._scan = _Scanner(max_depth)
        self._data = bytearray()
        self._head = b""
        self._fed = 0
        self._name_start = 0
        self._boundary = 0
        self._separator = b""
        self._separator_comma = 0
        self._commas_passed = False
        self._has_looked_ahead = False

    @property
    def held_bytes(self) -> int:
        """What is held back of an element, or of the rest of the document, that is not whole yet."""
        return len(self._head) + len(self._data)

    def feed(self, chunk: bytes) -> list[T | bytes]:
        """The windows that this chunk completes: JSON array texts, none of them empty, in order; or what they became.

        Every window is valid JSON in valid UTF-8, about `WINDOW_BYTES` long or as long as its one element.
        Whether the document as a whole is complete, only `finish` can say: commit nothing before.

        Raises:
            BrokenAnswer: the array is not JSON.
            CapExceeded: nested too deep, an element or the rest of the document too large.
        """
        self._data += chunk
        self._fed += len(chunk)
        windows: list[T | bytes] = []
        if self._at is _At.HEAD:
            self._find_array()
        if self._at is _At.ARRAY:
            self._split(windows)
        if self._at is not _At.ARRAY and len(self._head) + len(self._data) > MAX_REST:
            raise CapExceeded(f"the document holds more than {MAX_REST} bytes outside `{self._member}`")
        return windows

    def finish(self) -> bytes:
        """Say that nothing follows; gives the document with the array emptied.

        Raises:
            BrokenAnswer: the document is cut, followed by garbage, or has the member twice.
            RecordError: the document is whole but has no array under that name.
        """
        if self._at is _At.ARRAY:
            # A whole document ends in a brace, and `feed` has looked behind every one of those.
            raise BrokenAnswer(
                f"the document is cut in or after `{self._member}`, or followed by garbage, after {self._fed} bytes"
            )
        rest = (self._head + bytes(self._data)).removeprefix(BOM)
        payload.check_caps(rest, max_bytes=MAX_REST, max_depth=self._max_depth)
        try:
            document = payload.loads(rest)
        except RecordError as exc:
            raise BrokenAnswer(
                f"the document is cut or followed by garbage, after {self._fed} bytes: {exc.message}"
            ) from exc
        if self._at is _At.HEAD:
            raise RecordError(self._why_missing(document))
        if _names(rest).count(self._member) > 1:
            raise BrokenAnswer(f"the document has `{self._member}` twice")
        return rest

    def _why_missing(self, document: object) -> str:
        if not isinstance(document, dict):
            return f"the document is not an object, so it has no member `{self._member}`"
        if self._member in document:
            return f"the member `{self._member}` is not an array"
        return f"the document has no member `{self._member}`; it has: {', '.join(document)[:500]}"

    # Before the array ------------------------------------------------------------------------

    def _find_array(self) -> None:
        while (byte := self._scan.step(self._data)) is not None:
            pos = self._scan.pos
            if self._scan.depth == 1 and byte in b"{,":
                self._name_start = pos
            elif self._scan.depth == 2 and byte == b"["[0] and self._is_member(pos - 1):
                self._head = bytes(self._data[:pos])
                del self._data[:pos]
                self._scan = _Scanner(self._max_depth)
                self._scan.depth = 1
                self._at = _At.ARRAY
                return

    def _is_member(self, end: int) -> bool:
        found = _NAME.match(self._data, self._name_start, end)
        if found is None or self._data[found.end() : end].strip(_BLANKS):
            return False
        return bool(payload.loads(found.group(1)) == self._member)

    # Inside the array ------------------------------------------------------------------------

    def _split(self, windows: list[T | bytes]) -> None:
        while self._at is _At.ARRAY:
            is_full = len(self._data) >= WINDOW_BYTES
            if not (is_full or self._may_end()):
                return
            # Before a possible end too, so that only the last element is scanned; and again after it was none. But
            # not while an element is scanned that no guess got over: each guess costs a window's decoding.
            can_guess = self._scan.pos == 0 or (is_full and self._has_looked_ahead)
            self._has_looked_ahead = not is_full
            if can_guess and (window := self._guess()) is not None:
                windows.append(window)
            elif not self._scan_on(windows):
                return

    def _may_end(self) -> bool:
        """Whether the document could end here; without this the last elements would wait for ever."""
        tail = self._data[-64:].rstrip(_BLANKS)
        return not tail or tail.endswith(b"}")

    def _guess(self) -> T | bytes | None:
        """The largest window whose end can be guessed and proved."""
        data, separator = self._data, self._separator
        if not separator:
            return None
        at = data.rfind(separator, 0, WINDOW_BYTES)
        if at < 0:
            at = data.find(separator, WINDOW_BYTES - len(separator), 2 * WINDOW_BYTES)
        for _ in range(_GUESSES):
            if at < 0:
                return None
            cut = at + self._separator_comma
            window = self._window(cut)
            if (taken := self._taken(window)) is not None:
                self._pass_comma(cut + 1)
                return taken
            if _is_array(window):
                if nests_deeper(window, self._max_depth + 1):
                    raise _too_deep(self._max_depth)
                self._pass_comma(cut + 1)
                return window
            at = data.rfind(separator, 0, at + len(separator) - 1)
        return None

    def _scan_on(self, windows: list[T | bytes]) -> bool:
        """Scan for a boundary far enough, or for the end of the array; False when more data is needed."""
        scan = self._scan
        while (byte := scan.step(self._data)) is not None:
            if scan.depth == 1 and byte == _COMMA:
                self._boundary = scan.pos
                if scan.pos >= WINDOW_BYTES:
                    self._cut_at_boundary(windows)
                    return True
            elif scan.depth == 0:
                self._end_array(scan.pos - 1, byte, windows)
                return False
        if len(self._data) >= WINDOW_BYTES and self._boundary:
            self._cut_at_boundary(windows)
        if len(self._data) - self._boundary > self._max_element:
            raise CapExceeded(f"an element of `{self._member}` is over the cap of {self._max_element} bytes")
        return False

    def _cut_at_boundary(self, windows: list[T | bytes]) -> None:
        cut = self._boundary - 1
        windows.append(self._proved(self._window(cut)))
        self._learn(cut)
        self._pass_comma(cut + 1)

    def _end_array(self, end: int, byte: int, windows: list[T | bytes]) -> None:
        if byte != _CLOSE:
            raise self._broken()
        if self._data[:end].strip(_BLANKS):
            windows.append(self._proved(self._window(end)))
        elif self._commas_passed:
            raise self._broken()
        del self._data[:end]
        self._at = _At.REST

    def _learn(self, comma: int) -> None:
        """Keep what stands around this comma as the guess for the next boundaries."""
        data = self._data
        found = _ELEMENT_START.match(data, comma + 1)
        end = found.end() if found else comma + 1
        before = len(data[max(0, comma - _SEPARATOR_BYTES) : comma].rstrip(_BLANKS))
        start = max(0, comma - _SEPARATOR_BYTES) + before - 1
        if start < 0 or data[start] not in b'}]"':
            start += 1
        # A first name that has not come in full, or is very long, would make a guess that never fits.
        if end < len(data) and end - start <= _SEPARATOR_BYTES:
            self._separator, self._separator_comma = bytes(data[start:end]), comma - start

    def _window(self, end: int) -> bytes:
        with memoryview(self._data) as view, view[:end] as elements:
            return b"".join((b"[", elements, b"]"))

    def _taken(self, window: bytes) -> T | None:
        if self._take is None or nests_deeper(window, self._max_depth + 1):
            return None
        return self._take(window)

    def _proved(self, window: bytes) -> T | bytes:
        if (taken := self._taken(window)) is not None:
            return taken
        if not _is_array(window):
            raise self._broken()
        return window

    def _pass_comma(self, size: int) -> None:
        del self._data[:size]
        self._scan.drop(size)
        self._boundary = 0
        self._commas_passed = True

    def _broken(self) -> BrokenAnswer:
        near = self._fed - len(self._data)
        return BrokenAnswer(f"`{self._member}` is not valid JSON, somewhere after byte {near}")


def _is_array(window: bytes) -> bool:
    try:
        payload.decoder(list[msgspec.Raw]).decode(window)
        # Skipping over values does not look inside strings; JSON is UTF-8 (RFC 8259 §8.1).
        return window.isascii() or bool(str(window, "utf-8"))
    except RecursionError as exc:
        raise CapExceeded("JSON text is nested deeper than the decoder can follow") from exc
    except ValueError:
        return False


def _names(document: bytes) -> list[str]:
    """The member names of a valid JSON object, repeated ones included."""
    data, scan, names = bytearray(document), _Scanner(len(document)), []
    while (byte := scan.step(data)) is not None:
        if scan.depth == 1 and byte in b"{," and (found := _NAME.match(data, scan.pos)):
            names.append(payload.loads(found.group(1)))
    return names


def _too_deep(max_depth: int) -> CapExceeded:
    return CapExceeded(f"JSON text is nested deeper than {max_depth}")
