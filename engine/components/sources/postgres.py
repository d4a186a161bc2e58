"""PostgreSQL source: the rows of a table or a query in the order of a cursor, page after page.

The server makes each row a JSON object, so a row is read as a line of JSON is. A place is the cursor of the row taken
last, and the next page is what comes after it: no OFFSET, so a place costs the same wherever it lies. What was taken
may have been changed since, so rows that are still open are kept in the ledger and never asked for again. A row whose
cursor is not greater than that of one already taken is not seen: the cursor must grow.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from engine.codec.lines import HEAD_BYTES, Lines
from engine.codec.payload import decode, encode
from engine.components.postgres import Server, quoted, table_of
from engine.components.sources.files import VALUES_MAX
from engine.components.sources.once import OnceSource
from engine.errors import ConfigError, InputError, OutputError, StaleCheckpoint
from engine.pipeline.spec import SourceSpec
from engine.record import Batch, Mark

_PAGE_ROWS = 10_000
_PAGE_BYTES = 2 * 1024 * 1024
# Rows asked for at once: one at first, more while they are small.
_STEP_ROWS = 500
_STEP_BYTES = 256 * 1024
# Pauses before another try while the server is away; after the last the run ends, resumable.
_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
_TIMED_OUT, _READ_ONLY = "57014", "25006"


class _Place(msgspec.Struct, frozen=True):
    """What a mark holds: the cursor of the row taken last, as text."""

    after: tuple[str, ...]


class _Page(msgspec.Struct, frozen=True):
    """Rows that were read: their texts, what each has in bytes, and the cursor of each."""

    texts: list[bytes]
    sizes: list[int]
    cursors: list[tuple[str, ...]]
    is_last: bool


class _Known(msgspec.Struct, frozen=True):
    """A page that was handed out: where its rows end, and their cursors."""

    ends: list[int]
    cursors: list[tuple[str, ...]]


class PostgresSource(OnceSource):
    """A `ports.Source` over one table or query. Offsets count the bytes of rows as JSON lines."""

    def __init__(self, spec: SourceSpec, *, want_values: bool, values_max: int = VALUES_MAX) -> None:
        super().__init__(spec, want_values=want_values, values_max=values_max)
        if spec.url is None:
            raise ConfigError("a postgres source needs `url`")
        settings = {
            "statement_timeout": str(round(spec.timeout * 1000)),
            # A cursor travels as text: it must mean the same to whoever reads it next.
            "timezone": "UTC",
            "datestyle": "ISO",
            "bytea_output": "hex",
        }
        self._server = Server(spec.url, '[source] type = "postgres"', "engine", settings)
        self._name = spec.table or "query " + hashlib.sha256((spec.query or "").encode()).hexdigest()[:12]
        # The line end keeps a comment at the end of a query from taking what follows with it.
        self._rows = table_of(spec.table) if spec.table else f"({(spec.query or '').strip().rstrip(';')}\n)"
        self._cursor = ", ".join(spec.cursor)
        self._types: tuple[str, ...] = ()
        self._known: deque[_Known] = deque()

    def read(self, marks: Mapping[str, Mark]) -> Iterator[Batch]:
        """Read on from the mark, until no row comes after it.

        Raises:
            InputError: the server is away or refuses, or the cursor does not tell rows apart. ConfigError: the table,
            a column or a right is missing.
        """
        mark = marks.get(self._name)
        after = decode(mark.fingerprint.encode(), _Place).after if mark else None
        if after is not None and len(after) != len(self.spec.cursor):
            raise StaleCheckpoint(
                f"{self._name}: the place that was reached has {len(after)} columns, `cursor` has another number",
                hint="bring the old `cursor` back, or run with --fresh to read everything from the start",
                input=self._name,
            )
        offset, line = (mark.offset, mark.line) if mark else (0, 1)
        while (page := self._page(after)) is not None:
            if page.texts:
                lines = _lines(page, offset, line, self.spec.line_max)
                self._known.append(_Known(lines.ends, page.cursors))
                offset, line, after = lines.end, lines.next_line, page.cursors[-1]
                yield self._whole(self._name, lines) or self._line_by_line(self._name, lines)
            if page.is_last:
                return

    def mark(self, name: str, offset: int, line: int) -> Mark:
        """The mark after a row: its cursor."""
        while len(self._known) > 1 and self._known[0].ends[-1] < offset:
            self._known.popleft()
        known = self._known[0]
        place = _Place(known.cursors[bisect_left(known.ends, offset)])
        return Mark(offset=offset, line=line, fingerprint=encode(place).decode(), head=0)

    def _page(self, after: tuple[str, ...] | None) -> _Page | None:
        """The page after a cursor; None when the source was closed meanwhile."""
        pauses = iter(_PAUSES_S)
        while not self._stop.is_set():
            try:
                return self._server.do(lambda connection: self._ask(connection, after), stop=self._stop)
            except OutputError as exc:
                if exc.facts.get("sqlstate") == _TIMED_OUT:
                    said = f"{self._name}: a page took longer than `timeout`, {self.spec.timeout:g} s"
                    hint = f"an index on ({self._cursor}) finds it at once; or raise `timeout`"
                    raise InputError(said, hint=hint, input=self._name) from exc
                is_away = exc.facts.get("is_away") and exc.facts.get("sqlstate") != _READ_ONLY
                pause = next(pauses, None) if is_away else None
                if pause is None:
                    raise InputError(exc.message, hint=exc.hint, input=self._name) from exc
                self._stop.wait(pause)
        return None

    async def _ask(self, connection: Any, after: tuple[str, ...] | None) -> _Page:
        page = _Page([], [], [], is_last=False)
        async with connection.transaction(readonly=True):
            await self._server.configure(connection)
            if not self._types:
                self._types = await self._look(connection)
            rows = await connection.cursor(self._statement(after), *(after or ()))
            step = 1
            while len(page.texts) < 2 or (sum(page.sizes) < _PAGE_BYTES and len(page.texts) < _PAGE_ROWS):
                some = await rows.fetch(step)
                for row in some:
                    self._add(page, row, after)
                if len(some) < step and len(page.texts) < _PAGE_ROWS:
                    return msgspec.structs.replace(page, is_last=True)
                step = max(1, min(_STEP_ROWS, step * 2, _STEP_BYTES // max(page.sizes[-step:])))
        # The row behind a page's end is the first of the next: of two with one cursor, none is passed over unseen.
        return _Page(page.texts[:-1], page.sizes[:-1], page.cursors[:-1], is_last=False)

    def _add(self, page: _Page, row: Any, after: tuple[str, ...] | None) -> None:
        size, text, *cursor = row
        before = page.cursors[-1] if page.cursors else after
        if tuple(cursor) == before:
            raise InputError(
                f"{self._name}: two rows have the same cursor ({self._cursor}), so one could be passed over",
                hint='end `cursor` with a column that tells every two rows apart, as in cursor = ["updated_at", "id"]',
                input=self._name,
            )
        page.texts.append(text.encode().replace(b"\n", b" ").replace(b"\r", b" "))
        page.sizes.append(size)
        page.cursors.append(tuple(cursor))

    def _statement(self, after: tuple[str, ...] | None) -> str:
        columns = [f"q.{quoted(name)}" for name in self.spec.cursor]
        order, texts = ", ".join(columns), ", ".join(f"{column}::text" for column in columns)
        where = ""
        if after is not None:
            values = [f"${index}::text::{kind}" for index, kind in enumerate(self._types, start=1)]
            where = f"WHERE ({order}) > ({', '.join(values)})"
        names = ", ".join(f"k{index}" for index in range(len(columns)))
        inner = (
            f"SELECT row_to_json(q)::text, {texts} FROM {self._rows} AS q {where} ORDER BY {order} LIMIT {_PAGE_ROWS}"
        )
        limit = f"octet_length(doc) <= {self.spec.line_max:d}"
        return (
            f"SELECT octet_length(doc), CASE WHEN {limit} THEN doc ELSE left(doc, {HEAD_BYTES // 4}) END, {names} "
            f"FROM ({inner}) AS rows (doc, {names})"
        )

    async def _look(self, connection: Any) -> tuple[str, ...]:
        """The types of the cursor's columns, which must be there and never null."""
        statement = await connection.prepare(f"SELECT * FROM {self._rows} AS q LIMIT 0")
        there = {column.name: column.type.oid for column in statement.get_attributes()}
        for name in (*self.spec.cursor, self.spec.key):
            if name not in there:
                hint = f"there are {', '.join(there)}"
                raise ConfigError(f"{self._server.need}: {self._name} has no column `{name}`", hint=hint)
        kinds = [await connection.fetchval("SELECT format_type($1, -1)", there[name]) for name in self.spec.cursor]
        await self._refuse_nulls(connection)
        return tuple(kinds)

    async def _refuse_nulls(self, connection: Any) -> None:
        """A row without a cursor comes after nothing and before nothing: it would never be read."""
        sure: set[str] = set()
        if self.spec.table:
            sure = {
                row["attname"]
                for row in await connection.fetch(
                    "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnotnull", self._rows
                )
            }
        unsure = [f"q.{quoted(name)} IS NULL" for name in self.spec.cursor if name not in sure]
        if unsure and await connection.fetchval(
            f"SELECT EXISTS (SELECT 1 FROM {self._rows} AS q WHERE {' OR '.join(unsure)})"
        ):
            raise InputError(
                f"{self._name}: the cursor ({self._cursor}) of a row is null, so it would never be reached",
                hint="use columns that are never null, or leave such rows out by a query",
                input=self._name,
            )


def _lines(page: _Page, offset: int, line: int, line_max: int) -> Lines:
    ends = []
    for size in page.sizes:
        offset += size + 1
        ends.append(offset)
    cut = tuple(index for index, size in enumerate(page.sizes) if size > line_max)
    return Lines(start=ends[0] - page.sizes[0] - 1, line=line, texts=page.texts, ends=ends, cut=cut)
