"""PostgreSQL sink: a part is one transaction, so its rows are in the table as a whole or not at all, and once.

Rows are spooled as the text that COPY reads. Finishing a part copies the spool into a temporary table, merges that
into the user's, and writes a row that names the part into `engine_parts`, all in one transaction. A part that is named
there is not applied again, which is how an answer lost at the commit is survived; one that the ledger does not know is
swept before the next run reads, as files are. What a table must look like is `tables`' business.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from engine import failpoints
from engine.codec.fields import parse_fields
from engine.components.postgres import Server, explain
from engine.components.sinks.cells import Cells, is_null, json_text
from engine.components.sinks.directory import PartRecord
from engine.components.sinks.spool import Spool, spooled_name
from engine.components.sinks.tables import Table, look_at
from engine.errors import ConfigError, OutputError, PartialFailure
from engine.pipeline.spec import SinkSpec
from engine.record import RefusedRow

# More refused rows of one part are no bad rows but a wrong table.
_REFUSED_MAX = 1_000
_NULL = "\\N"
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
# What one row causes (PostgreSQL appendix A): a value that does not fit, a constraint, two rows of one key in a merge.
_ROWS_FAULT = re.compile(r"2[123]...|44...")


class PostgresSink:
    """A `ports.Sink` into one table. `owner` is the ledger's name for itself; `key` the member that names a row."""

    def __init__(self, spec: SinkSpec, fields: Mapping[str, str], *, pipeline: str, key: str, owner: str) -> None:
        if spec.url is None or spec.table is None:
            raise ConfigError("a postgres sink needs `url` and `table`")
        kinds = parse_fields(fields)
        self._cells = Cells(tuple(kinds))
        self._texts = [
            _nullable_json if kind.word == "json" and kind.nullable else _TEXTS.get(kind.word, _escaped)
            for kind in kinds.values()
        ]
        self._keys = [(name, list(kinds).index(name)) for name in spec.key if name in kinds]
        self._table = Table(
            name=spec.table,
            columns=tuple(kinds),
            key=spec.key if spec.mode == "upsert" else (),
            part_column=spec.part_column if spec.mode == "append" else None,
            pipeline=pipeline,
            owner=owner,
        )
        self.server = Server(spec.url, '[sink] type = "postgres"', f"engine {pipeline}")
        self.name_column = list(kinds).index(key) + 1 if key in kinds else None

    def encode(self, rows: Sequence[Any]) -> bytes:
        """Rows as COPY reads them, one line each.

        Raises:
            PartialFailure: rows that the server could not even be told of: without a key, or with a NUL in a text.
        """
        cells = self._cells.of(rows)
        failures = {
            index: f"`{name}` is null, and a row is found by it"
            for name, column in self._keys
            for index, row in enumerate(cells)
            if row[column] is None
        }
        columns = [map(text, column) for text, column in zip(self._texts, zip(*cells, strict=True), strict=False)]
        lines = list(map("\t".join, zip(*columns, strict=True)))
        lines.append("")
        text = "\n".join(lines)
        if "\0" in text:
            failures |= dict.fromkeys(_with_nul(lines), "a text holds a NUL, which PostgreSQL cannot store")
        if failures:
            raise PartialFailure(f"{len(failures)} rows do not fit the table", failures=failures)
        return text.encode()

    def begin(self, *, epoch: int, number: int) -> PostgresPart:
        """Open a part; the server hears of it when it is finished."""
        return PostgresPart(self, epoch=epoch, number=number)

    def sweep(self, keep: set[str]) -> int:
        """Forget parts of ours that are not in `keep`, and with mode append their rows; how many parts.

        Creates `engine_parts` where it is not there yet, and looks whether the table is as it must be.
        """
        return self.server.do(lambda connection: self._sweep(connection, keep))

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """There is none: the table is what it is, and `engine_parts` names what is in it."""
        return ""

    async def table(self, connection: Any) -> Table:
        """The table, looked at once per process.

        Raises:
            ConfigError: it is not there, or not as the pipeline needs it.
        """
        if not self._table.is_known:
            self._table = await look_at(connection, self._table, need=self.server.need)
        return self._table

    async def _sweep(self, connection: Any, keep: set[str]) -> int:
        table = await self.table(connection)
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = 0")
            there = await connection.fetch(table.all_parts, table.pipeline, table.relation)
            if any(row["owner"] != table.owner for row in there):
                raise OutputError(
                    f"{self.server.need}: `{table.name}` holds parts of another ledger of the pipeline "
                    f"`{table.pipeline}`, whose rows this one would count again or remove",
                    hint="use that ledger's state_dir, or another pipeline name; if that ledger is gone: DELETE FROM "
                    f"{table.parts} WHERE pipeline = '{table.pipeline}'; its rows then stay as they are",
                )
            doomed = [row["part"] for row in there if spooled_name(row["epoch"], row["number"]) not in keep]
            if doomed and table.remove_rows:
                await connection.execute(table.remove_rows, doomed)
            if doomed:
                await connection.execute(table.forget_parts, doomed)
        return len(doomed)


class PostgresPart(Spool):
    """A part in the making: what COPY will read."""

    def __init__(self, sink: PostgresSink, *, epoch: int, number: int) -> None:
        super().__init__(epoch=epoch, number=number)
        self._sink = sink
        self._refused: list[RefusedRow] | None = None

    def finish(self) -> PartRecord:
        """Put the rows into the table, in one transaction; may be called again when the server was away."""
        self.pour()
        self._sink.server.do(self._apply)
        return self.record(tuple(self._refused or ()))

    async def _copied(self) -> AsyncIterator[bytes]:
        for block in self.blocks():
            yield block

    async def _apply(self, connection: Any) -> None:
        table = await self._sink.table(connection)
        async with connection.transaction():
            await self._sink.server.configure(connection)
            # A constraint that is checked at the commit would refuse the part and not say which row.
            await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            values = (table.pipeline, table.relation, table.owner, self.epoch, self.number)
            part = await connection.fetchval(table.name_part, *values)
            if part is None:
                await self._recognise(connection, table)
                return
            await connection.execute(table.stage)
            await connection.copy_to_table(
                "engine_rows", schema_name="pg_temp", source=self._copied(), columns=table.staged, format="text"
            )
            refused = await self._merge(connection, table, part)
            await connection.execute(table.count_part, self.rows - len(refused), part)
            # Before the commit: its answer may be lost, and then this is all that tells how the part ended.
            self._refused = refused
            failpoints.reach("sink:commit", failpoints.BEFORE)
        failpoints.reach("sink:commit", failpoints.AFTER)

    async def _recognise(self, connection: Any, table: Table) -> None:
        """The part is there: by us, whose commit got no answer, or by somebody who must not."""
        owner = await connection.fetchval(table.who_wrote, table.pipeline, table.relation, self.epoch, self.number)
        if self._refused is None or owner != table.owner:
            raise OutputError(
                f"{self._sink.server.need}: somebody else has written {self.name} of `{table.pipeline}` meanwhile",
                hint="let one ledger at a time write into the table; then run again",
            )

    async def _merge(self, connection: Any, table: Table, part: int) -> list[RefusedRow]:
        try:
            async with connection.transaction():
                await connection.execute(table.merge(part))
        except Exception as exc:
            if not _is_rows_fault(exc):
                raise
            return await self._merge_by_halves(connection, table, part)
        return []

    async def _merge_by_halves(self, connection: Any, table: Table, part: int) -> list[RefusedRow]:
        """Merge all rows but those that the server refuses; these are found by halving, each try in a savepoint."""
        await connection.execute(table.number_rows)
        refused: dict[int, str] = {}
        ranges = [(1, self.rows)]
        while ranges:
            first, last = ranges.pop()
            try:
                async with connection.transaction():
                    await connection.execute(table.merge_range(part, first, last))
            except Exception as exc:
                if not _is_rows_fault(exc):
                    raise
                if first < last:
                    middle = (first + last) // 2
                    ranges += [(middle + 1, last), (first, middle)]
                    continue
                refused[first] = explain(exc)
                if len(refused) > _REFUSED_MAX or self._sink.name_column is None:
                    raise self._hopeless(table, exc, len(refused)) from exc
        if not refused:
            return []
        names = await connection.fetch(table.keys_of_rows(self._sink.name_column or 1), list(refused))
        return [RefusedRow(row["n"] - 1, row["key"] or "", refused[row["n"]]) for row in names]

    def _hopeless(self, table: Table, exc: Any, count: int) -> OutputError:
        many = f"more than {_REFUSED_MAX} rows" if count > _REFUSED_MAX else "a row"
        hint = (
            "mend the table or the fields, then run again: the run goes on where it is"
            if self._sink.name_column is not None
            else "declare the key of the rows in [results.fields], so that a refused row can become a dead letter"
        )
        return OutputError(f"`{table.name}` refuses {many} of {self.name}: {explain(exc)}", hint=hint)


def _is_rows_fault(exc: Exception) -> bool:
    return _ROWS_FAULT.fullmatch(str(getattr(exc, "sqlstate", None) or "")) is not None


def _with_nul(lines: Sequence[str]) -> list[int]:
    return [index for index, line in enumerate(lines) if "\0" in line]


def _escaped(cell: Any) -> str:
    if cell is None:
        return _NULL
    return cell.translate(_ESCAPED) if _SPECIAL.search(cell) else cell  # type: ignore[no-any-return]


def _nullable_json(cell: Any) -> str:
    return _NULL if cell is None or is_null(cell) else json_text(cell).translate(_ESCAPED)


def _plain(write: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda cell: _NULL if cell is None else write(cell)


_TEXTS: dict[str, Callable[[Any], str]] = {
    "int": _plain(str),
    "float": _plain(repr),
    "bool": _plain(lambda cell: "t" if cell else "f"),
    "datetime": _plain(lambda cell: cell.isoformat()),
    "date": _plain(lambda cell: cell.isoformat()),
    "json": _plain(lambda cell: json_text(cell).translate(_ESCAPED)),
}
