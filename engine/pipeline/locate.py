"""Locate: where each key and value of a TOML text stands, by key path.

Used only once something is wrong, and only on text that `tomllib` has accepted: it finds places, it judges
nothing. Array elements and arrays of tables count from 0.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import tomllib

import msgspec

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"[ \t]*")
_TRIVIA = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'|[A-Za-z0-9_-]+')
# A closing triple quote may be preceded by up to two quotes that belong to the text.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{1,2})?|\'\'\'.*?\'\'\'(?:\'{1,2})?|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_BARE = re.compile(r"[^,\]}#\n\r]+")


class Spot(msgspec.Struct, frozen=True, kw_only=True):
    """Where a key and its value begin (from 1), and how many characters of that line each covers."""

    line: int
    column: int
    length: int
    value_line: int
    value_column: int
    value_length: int


def locate(text: str) -> dict[KeyPath, Spot]:
    """The spot of every key path of a valid TOML text; what lies deeper than we can follow is left out."""
    scan = _Scan(text)
    # Positions are a courtesy: a text that defeats this scanner still gets its findings.
    with contextlib.suppress(RecursionError, IndexError, ValueError):
        scan.document()
    return scan.spots


class _Scan:
    """One pass over one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._key_end = 0
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self._counts: dict[KeyPath, int] = {}
        self.spots: dict[KeyPath, Spot] = {}

    def document(self) -> None:
        table: KeyPath = ()
        while self._skip(_TRIVIA) < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        if found := pattern.match(self._text, self._at):
            self._at = found.end()
        return self._at

    def _header(self) -> KeyPath:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        keys = self._keys()
        self._at = self._text.index("]", self._at) + (2 if is_array else 1)
        table = (*self._resolve(keys[:-1]), keys[-1])
        whole = self._spot(start, self._at, start, self._at)
        if is_array:
            self.spots.setdefault(table, whole)
            index = self._counts.get(table, 0)
            self._counts[table] = index + 1
            table += (index,)
        self.spots.setdefault(table, whole)
        return table

    def _resolve(self, keys: list[str]) -> KeyPath:
        """A header names arrays of tables without an index: it means their latest element."""
        table: KeyPath = ()
        for key in keys:
            table += (key,)
            if table in self._counts:
                table += (self._counts[table] - 1,)
        return table

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._skip(_BLANK)
            start = self._at
            self._skip(_KEY)
            self._key_end = self._at
            raw = self._text[start : self._at]
            keys.append(_plain(raw) if raw[:1] in ('"', "'") else raw)
            if self._text[self._skip(_BLANK)] != ".":
                return keys
            self._at += 1

    def _pair(self, table: KeyPath) -> None:
        start = self._at
        keys = self._keys()
        end = self._key_end
        self._at = self._text.index("=", self._at) + 1
        value_start = self._skip(_BLANK)
        path = table + tuple(keys)
        self._value(path)
        spot = self._spot(start, end, value_start, self._at)
        for depth in range(len(table) + 1, len(path)):
            self.spots.setdefault(path[:depth], spot)
        self.spots[path] = spot

    def _value(self, path: KeyPath) -> None:
        start = self._at
        match self._text[self._at]:
            case "[":
                self._array(path)
            case "{":
                self._inline(path)
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_BARE)
                self._at = start + len(self._text[start : self._at].rstrip())
        if self._at == start:
            # Not TOML after all; going on would never end.
            raise ValueError(start)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip(_TRIVIA)] != "]":
            start = self._at
            self._value((*path, index))
            self.spots[(*path, index)] = self._spot(start, self._at, start, self._at)
            index += 1
            if self._text[self._skip(_TRIVIA)] == ",":
                self._at += 1
        self._at += 1

    def _inline(self, path: KeyPath) -> None:
        self._at += 1
        while self._text[self._skip(_TRIVIA)] != "}":
            self._pair(path)
            if self._text[self._skip(_TRIVIA)] == ",":
                self._at += 1
        self._at += 1

    def _place(self, start: int, end: int) -> tuple[int, int, int]:
        line = bisect.bisect_right(self._lines, start)
        first = self._lines[line - 1]
        line_end = self._text.find("\n", start, end)
        return line, start - first + 1, (end if line_end < 0 else line_end) - start

    def _spot(self, start: int, end: int, value_start: int, value_end: int) -> Spot:
        line, column, length = self._place(start, end)
        value_line, value_column, value_length = self._place(value_start, value_end)
        return Spot(
            line=line,
            column=column,
            length=length,
            value_line=value_line,
            value_column=value_column,
            value_length=value_length,
        )


def _plain(raw: str) -> str:
    """A quoted key without its quotes and escapes."""
    return next(iter(tomllib.loads(f"{raw} = 0")))
