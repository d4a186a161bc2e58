"""CSV sink: rows as quoted text with a header, safe to open in a spreadsheet.

Quoting follows RFC 4180. Lines end with LF, not with that RFC's CRLF: readers of CSV take both, while
the line tools of a shell would find a CR in every last column.
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Mapping, Sequence
from io import StringIO
from operator import itemgetter
from typing import Any

from engine.codec.fields import parse_fields
from engine.components.sinks.cells import Cells, is_null, json_text
from engine.components.sinks.directory import Directory
from engine.components.sinks.parts import FilePart
from engine.pipeline.spec import SinkSpec

# What a spreadsheet takes for a formula (CWE-1236, OWASP ASVS 1.2.10), full-width forms included.
_RISKY = tuple("=+-@\t\r\0＝＋－＠")  # noqa: RUF001 - the look-alikes are the point

_RISKY_STARTS = frozenset(_RISKY)
_NUMBERS, _TEXT = {int, float}, {str}
_start = itemgetter(slice(1))


class CsvSink:
    """Writes the declared fields as columns: null as nothing, nested values as JSON text.

    With `formula_guard`, a text cell that begins like a formula gets a `'` in front; numbers do not.
    """

    def __init__(self, spec: SinkSpec, fields: Mapping[str, str], directory: Directory) -> None:
        self._spec = spec
        self._directory = directory
        kinds = parse_fields(fields)
        self._columns = tuple(kinds)
        self._may_be_null = [kind.word == "json" and kind.nullable for kind in kinds.values()]
        self._cells = Cells(self._columns)
        self._header = _written([self._columns])

    def encode(self, rows: Sequence[Any]) -> bytes:
        """Rows as lines, each with its line end."""
        if not rows:
            return b""
        columns = zip(*self._cells.of(rows), strict=True)
        return _written(list(zip(*map(self._column, columns, self._may_be_null), strict=True)))

    def _column(self, cells: Sequence[Any], may_be_null: object) -> Sequence[Any]:
        """The cells of a column as a CSV writer takes them: looked at together, one by one only where that tells."""
        kinds = set(map(type, cells))
        if kinds <= _NUMBERS:
            return cells
        if kinds == _TEXT and not (self._spec.formula_guard and _RISKY_STARTS.intersection(map(_start, cells))):
            return cells
        text = self._guarded if self._spec.formula_guard else str
        if may_be_null:
            cells = [None if is_null(cell) else cell for cell in cells]
        return [_cell(cell, text) for cell in cells]

    def begin(self, *, epoch: int, number: int) -> FilePart:
        """Open a part; the header is its first line."""
        compression = self._spec.compression
        name = self._directory.name_of(epoch=epoch, number=number, suffix="csv", compression=compression)
        return FilePart(self._directory, name, compression=compression, header=self._header)

    def sweep(self, keep: set[str]) -> int:
        """See `ports.Sink.sweep`."""
        return self._directory.sweep(keep)

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """See `ports.Sink.write_manifest`."""
        return self._directory.write_manifest(document)

    @staticmethod
    def _guarded(text: str) -> str:
        return f"'{text}" if text.startswith(_RISKY) else text


def _cell(value: Any, text: Any) -> Any:
    match value:
        case None:
            return ""
        case str():
            return text(value)
        case bool():
            return "true" if value else "false"
        case int() | float():
            return value
        case dt.date():
            return value.isoformat()
    return json_text(value)


class _Lines(list[str]):
    """What a CSV writer writes, a line at a time."""

    def write(self, line: str) -> None:
        self.append(line[:-2])


def _written(rows: Sequence[Sequence[Any]]) -> bytes:
    written = StringIO(newline="")
    csv.writer(written, lineterminator="\r\n").writerows(rows)
    text = written.getvalue()
    if text.count("\r") == len(rows):
        return text.replace("\r\n", "\n").encode()
    lines = _Lines()
    # A writer told to end lines with LF would leave a CR inside a cell unquoted, and readers would end
    # the line there; so it is told CRLF, and the line ends are put in afterwards.
    csv.writer(lines, lineterminator="\r\n").writerows(rows)
    lines.append("")
    return "\n".join(lines).encode()
