"""CSV source: delimited text with a header, each row an object.

Quoting is RFC 4180's, strictly: a cell may hold line ends, and a row's extent in bytes counts them.
What is malformed becomes a bad record; a quote that never closes costs its own line, not the file.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from engine.codec import payload
from engine.codec.fields import FieldType, parse_fields
from engine.codec.lines import Lines, LineSplitter
from engine.components.sources.cells import cell_reader, column_reader, json_rows
from engine.components.sources.files import VALUES_MAX, FileSource, too_long
from engine.components.sources.streams import InputStream
from engine.errors import InputError
from engine.pipeline.spec import SourceSpec
from engine.record import BadRecord, Batch

_HEADER_PEEK = 64 * 1024
_TEXT = FieldType("str")
# A row over more lines than this is a quote that was never closed.
_ROW_LINES_MAX = 250_000


class _Row(msgspec.Struct, gc=False):
    """A row on lines `[first, stop)` of a window: its cells, or why it is bad; neither on an empty line."""

    first: int
    stop: int
    cells: list[str]
    code: str = ""
    reason: str = ""


class CsvSource(FileSource):
    """Reads rows as objects of text, or of the types that `[source.fields]` declares.

    The first row names the columns unless `header` does. Empty lines are skipped. `raws` are the rows as
    JSON; the `raw` of a bad record is the text as it came.
    """

    keeps_cr = True
    # Every cell becomes an object of its own: a window of short rows takes a hundred times its bytes.
    window_bytes = 64 * 1024

    def __init__(self, spec: SourceSpec, *, want_values: bool, values_max: int = VALUES_MAX) -> None:
        super().__init__(spec, want_values=want_values, values_max=values_max)
        # The module's own limit on cells is one setting per process and small; ours is `line_max`.
        csv.field_size_limit(max(csv.field_size_limit(), spec.line_max))
        self._kinds = parse_fields(spec.fields)
        self._columns: tuple[str, ...] = ()
        self._readers: list[tuple[int, str, Callable[[str], Any]]] = []
        self._absent: dict[str, None] = {}

    # The header ------------------------------------------------------------------------------

    def _begin(self, stream: InputStream) -> None:
        columns = self.spec.header or self._peek_header(stream)
        if columns:
            self._check(stream.name, columns)
        self._columns = tuple(columns)
        self._readers = [
            (columns.index(name), name, cell_reader(kind))
            for name, kind in self._kinds.items()
            if name in columns and (kind.word != "str" or kind.nullable)
        ]
        self._absent = {name: None for name in self._kinds if name not in columns}

    def _peek_header(self, stream: InputStream) -> Sequence[str]:
        """The cells of the first row; none when the input is empty."""
        size = _HEADER_PEEK
        while True:
            start = stream.peek(size)
            is_all = len(start) < size
            splitter = LineSplitter(self.spec.line_max, keep_cr=True)
            lines = [part for part in (splitter.feed(start), is_all and splitter.finish()) if part]
            texts = [text for part in lines for text in part.texts]
            row = next((row for row in self._rows(texts, is_all=is_all) if row.cells or row.code), None)
            if row is not None and row.code:
                raise InputError(f"the header of `{stream.name}` cannot be read: {row.reason}")
            if row is not None or is_all:
                return row.cells if row else []
            if size > self.spec.line_max:
                raise InputError(f"the header of `{stream.name}` is longer than {self.spec.line_max} bytes")
            size *= 4

    def _check(self, name: str, columns: Sequence[str]) -> None:
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise InputError(f"`{name}` has the column `{twice[0]}` twice", input=name)
        needed = [self.spec.key, *(field for field, kind in self._kinds.items() if not kind.nullable)]
        missing = [column for column in needed if column not in columns]
        if missing:
            raise InputError(
                f"`{name}` has no column `{missing[0]}`; it has: {', '.join(columns)[:500]}",
                hint="check the delimiter, and `key` and `fields` of [source]",
                input=name,
            )

    # Rows ------------------------------------------------------------------------------------

    def _batches(self, stream: InputStream, lines: Iterator[Lines]) -> Iterator[Batch]:
        if not self._columns:
            return
        held: Lines | None = None
        # A row that is still open is tried again only when it has doubled, and a quote came: its end
        # cannot be elsewhere, and trying at every window would be quadratic.
        next_try, may_end = 0, False
        for window in lines:
            held = window if held is None else _joined(held, window)
            held_bytes = held.end - held.start
            may_end = may_end or (next_try > 0 and any(b'"' in text for text in window.texts))
            is_full = held_bytes > self.spec.line_max or len(held.texts) > _ROW_LINES_MAX
            if next_try and not is_full and (held_bytes < next_try or not may_end):
                continue
            batch, held = self._batch(stream.name, held, is_all=False)
            next_try, may_end = (2 * (held.end - held.start) if held else 0), False
            if batch is not None:
                yield batch
        # A stopped reader must not take the half row it holds for a whole one.
        if held is not None and not self._stop.is_set():
            batch, _ = self._batch(stream.name, held, is_all=True)
            if batch is not None:
                yield batch

    def _batch(self, name: str, lines: Lines, *, is_all: bool) -> tuple[Batch | None, Lines | None]:
        """A batch of the rows that are complete, and the lines of the one that is not."""
        if (batch := self._whole(name, lines)) is not None:
            return batch, None
        values: list[dict[str, Any]] = []
        keys: list[str] = []
        rows: list[_Row] = []
        bad: list[BadRecord] = []
        is_header = lines.start == 0 and not self.spec.header
        stop = 0
        for row in self._rows(lines.texts, cut=lines.cut, is_all=is_all):
            stop = row.stop
            if row.code == "record.too_long":
                bad.append(too_long(name, lines, row.first, self.spec.line_max))
            elif row.code:
                bad.append(_bad_record(name, lines, row))
            elif is_header and row.cells:
                is_header = False
            elif row.cells and self._take(row, keys, values):
                rows.append(row)
            elif row.cells:
                bad.append(_bad_record(name, lines, row))
        if is_all:
            stop = len(lines.texts)
        if stop == 0:
            return None, lines
        batch = Batch(
            input=name,
            start=lines.start,
            end=lines.ends[stop - 1],
            line=lines.line,
            next_line=lines.line + stop,
            raws=payload.encode_lines(values).split(b"\n")[:-1],
            ends=[lines.ends[row.stop - 1] for row in rows],
            lines=[lines.line + row.first for row in rows],
            keys=keys,
            values=values if self.want_values else None,
            bad=bad,
            gone=[],
            after=[lines.line + row.stop for row in rows],
        )
        return batch, _after(lines, stop)

    def _whole(self, name: str, lines: Lines) -> Batch | None:
        """The batch, if every line is a good row by itself: whole columns are read at once."""
        is_header = lines.start == 0 and not self.spec.header
        texts = lines.texts[is_header:]
        body = b"\n".join(texts)
        if lines.cut or not texts or b'"' in body:
            return None
        try:
            rows = self._cells_of(body, texts)
            if set(map(len, rows)) != {len(self._columns)}:
                return None
            columns: dict[str, Any] = dict(zip(self._columns, zip(*rows, strict=True), strict=True))
            keys = columns[self.spec.key]
            for _, field, _ in self._readers:
                columns[field] = column_reader(self._kinds[field])(columns[field])
        except (csv.Error, ValueError):
            return None
        if "" in keys:
            return None
        if self._kinds.get(self.spec.key, _TEXT).word == "int":
            keys = map(str, columns[self.spec.key])
        columns |= {field: [None] * len(rows) for field in self._absent}
        values: list[dict[str, Any]] | None = None
        if self.want_values:
            # All columns are of one length, as all rows were.
            values = [dict(zip(columns, row, strict=False)) for row in zip(*columns.values(), strict=True)]
        return Batch(
            input=name,
            start=lines.start,
            end=lines.end,
            line=lines.line,
            next_line=lines.next_line,
            raws=json_rows(columns),
            ends=lines.ends[is_header:],
            lines=range(lines.line + is_header, lines.next_line),
            keys=list(keys),
            values=values,
            bad=[],
            gone=[],
        )

    def _cells_of(self, body: bytes, texts: list[bytes]) -> list[list[str]]:
        """The cells of lines without quotes; where nothing else of CSV is in them either, by splitting alone."""
        delimiter = self.spec.delimiter
        if b"\r" in body or len(max(texts, key=len)) > csv.field_size_limit():
            return list(csv.reader(_decoded(texts, is_strict=True)[0], delimiter=delimiter, strict=True))
        return [line.split(delimiter) for line in body.decode().split("\n")]

    def _take(self, row: _Row, keys: list[str], values: list[dict[str, Any]]) -> bool:
        """Turn cells into a value and its key; if they do not fit, write into the row why."""
        columns, cells = self._columns, row.cells
        if len(cells) != len(columns):
            row.code = "record.columns"
            row.reason = f"{len(cells)} cells in a table of {len(columns)} columns"
            return False
        value: dict[str, Any] = dict(zip(columns, cells, strict=True))
        for index, name, read in self._readers:
            try:
                value[name] = read(cells[index])
            except ValueError:
                row.code = "record.type"
                row.reason = f"column `{name}`: expected {self._kinds[name]}, got {cells[index][:100]!r}"
                return False
        key = value[self.spec.key]
        if key is None or key == "":
            row.code, row.reason = "record.key_missing", f"no key: column `{self.spec.key}` is empty"
            return False
        value.update(self._absent)
        keys.append(str(key) if type(key) is int else cells[columns.index(self.spec.key)])
        values.append(value)
        return True

    def _rows(self, texts: list[bytes], *, cut: tuple[int, ...] = (), is_all: bool) -> Iterator[_Row]:
        """The rows on these lines. Over-long lines stand alone, and no row reaches across one."""
        start = 0
        for index in cut:
            yield from self._rows_between(texts, start, index, is_all=True)
            yield _Row(index, index + 1, [], "record.too_long")
            start = index + 1
        yield from self._rows_between(texts, start, len(texts), is_all=is_all)

    def _rows_between(self, texts: list[bytes], start: int, stop: int, *, is_all: bool) -> Iterator[_Row]:
        lines, is_clean = _decoded(texts[start:stop])
        first = 0
        while first < len(lines):
            # A fresh reader, because an error leaves the old one in the middle of a cell.
            reader = csv.reader(islice(lines, first, None), delimiter=self.spec.delimiter, strict=True)
            base = first
            try:
                for cells in reader:
                    row = _Row(start + first, start + base + reader.line_num, cells)
                    first = base + reader.line_num
                    if not is_clean and not _is_utf8(cells):
                        row.code, row.reason = "record.encoding", "not UTF-8"
                    yield row
                return
            except csv.Error as exc:
                last = base + reader.line_num
                if not _is_open(exc):
                    yield _Row(start + first, start + last, [], "record.csv", str(exc))
                elif is_all or len(lines) - first > _ROW_LINES_MAX or sum(map(len, lines[first:])) > self.spec.line_max:
                    # Never closed: only the line it began on is lost, and reading goes on at the next.
                    last = first + 1
                    yield _Row(start + first, start + last, [], "record.csv", "a quote is never closed")
                else:
                    return
                first = max(last, first + 1)


def _decoded(texts: list[bytes], *, is_strict: bool = False) -> tuple[list[str], bool]:
    """Lines as text with their LF, and whether they are UTF-8; what is not is kept recognisable."""
    if not texts:
        return [], True
    body = b"\n".join(texts)
    try:
        text, is_clean = body.decode(), True
    except UnicodeDecodeError:
        if is_strict:
            raise
        text, is_clean = body.decode(errors="surrogateescape"), False
    return [f"{line}\n" for line in text.split("\n")], is_clean


def _is_utf8(cells: list[str]) -> bool:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_open(error: csv.Error) -> bool:
    return "unexpected end of data" in str(error)


def _joined(first: Lines, second: Lines) -> Lines:
    shift = len(first.texts)
    return Lines(
        start=first.start,
        line=first.line,
        texts=first.texts + second.texts,
        ends=first.ends + second.ends,
        cut=first.cut + tuple(index + shift for index in second.cut),
    )


def _after(lines: Lines, stop: int) -> Lines | None:
    if stop == len(lines.texts):
        return None
    return Lines(
        start=lines.ends[stop - 1],
        line=lines.line + stop,
        texts=lines.texts[stop:],
        ends=lines.ends[stop:],
        cut=tuple(index - stop for index in lines.cut if index >= stop),
    )


def _bad_record(name: str, lines: Lines, row: _Row) -> BadRecord:
    start = lines.ends[row.first - 1] if row.first else lines.start
    return BadRecord(
        input=name,
        line=lines.line + row.first,
        start=start,
        end=lines.ends[row.stop - 1],
        raw=b"\n".join(lines.texts[row.first : row.stop]),
        code=row.code,
        reason=row.reason,
        lines=row.stop - row.first,
    )
