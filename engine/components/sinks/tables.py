"""Tables: what a table of PostgreSQL must look like to take parts, and the statements that put them there.

Names are quoted and values are bound, wherever they come from. No connection is opened here; one is asked.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine.components.postgres import quoted, table_of
from engine.errors import ConfigError

_PARTS = """
CREATE TABLE IF NOT EXISTS {parts} (
  part bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  pipeline text NOT NULL, relation text NOT NULL, owner text NOT NULL,
  epoch bigint NOT NULL, number bigint NOT NULL, rows bigint, written timestamptz NOT NULL DEFAULT now(),
  UNIQUE (pipeline, relation, epoch, number)
)"""
# -1: a cast to a type without its length keeps the whole value, so that what is too long is refused and not cut.
_COLUMNS = """
SELECT attname AS name, format_type(atttypid, -1) AS kind, attgenerated <> '' AS is_made,
       attnotnull AND NOT atthasdef AND attidentity = '' AND attgenerated = '' AS is_wanted
FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped"""
_UNIQUE = """
SELECT array_agg(attname::text) AS names
FROM pg_index JOIN pg_attribute
  ON attrelid = indrelid AND attnum = ANY (array(SELECT key FROM unnest(indkey) AS key LIMIT indnkeyatts))
WHERE indrelid = $1 AND indisunique AND indisvalid AND indimmediate AND indpred IS NULL AND indexprs IS NULL
GROUP BY indexrelid"""
_OURS = "pipeline = $1 AND relation = $2"


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table and the columns we fill. `key` finds the row to be replaced (none: rows are appended).

    `part_column` gets the number of the part. `types`, `schema` and `relation` are known once it was looked at.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    part_column: str | None
    pipeline: str
    owner: str
    types: tuple[str, ...] = ()
    schema: str = ""
    relation: str = ""

    @property
    def is_known(self) -> bool:
        """Whether it was looked at."""
        return bool(self.relation)

    @property
    def parts(self) -> str:
        """The table of parts, beside it."""
        return f"{quoted(self.schema)}.engine_parts"

    @property
    def all_parts(self) -> str:
        """Every part of ours."""
        return f"SELECT part, owner, epoch, number FROM {self.parts} WHERE {_OURS}"

    @property
    def who_wrote(self) -> str:
        """The owner of one part."""
        return f"SELECT owner FROM {self.parts} WHERE {_OURS} AND epoch = $3 AND number = $4"

    @property
    def name_part(self) -> str:
        """Name a part, and get its number; nothing where it has been named."""
        return (
            f"INSERT INTO {self.parts} (pipeline, relation, owner, epoch, number) VALUES ($1, $2, $3, $4, $5) "
            "ON CONFLICT DO NOTHING RETURNING part"
        )

    @property
    def count_part(self) -> str:
        """How many rows it has brought."""
        return f"UPDATE {self.parts} SET rows = $1 WHERE part = $2"

    @property
    def forget_parts(self) -> str:
        """Drop the names of parts."""
        return f"DELETE FROM {self.parts} WHERE part = ANY ($1)"

    @property
    def remove_rows(self) -> str:
        """Remove the rows of parts; nothing where rows are replaced: these come again."""
        if self.part_column is None:
            return ""
        return f"DELETE FROM {table_of(self.name)} WHERE {quoted(self.part_column)} = ANY ($1)"

    @property
    def staged(self) -> list[str]:
        """The columns of the temporary table."""
        return [f"c{index}" for index in range(1, len(self.columns) + 1)]

    @property
    def stage(self) -> str:
        """The temporary table: rows as text, so that the server can say of each whether it fits."""
        columns = ", ".join(f"{name} text" for name in self.staged)
        return f"CREATE TEMPORARY TABLE engine_rows ({columns}) ON COMMIT DROP"

    @property
    def number_rows(self) -> str:
        """Number the staged rows as they came."""
        return (
            "ALTER TABLE pg_temp.engine_rows ADD COLUMN n bigint GENERATED ALWAYS AS IDENTITY; "
            "CREATE UNIQUE INDEX ON pg_temp.engine_rows (n)"
        )

    def merge(self, part: int) -> str:
        """All staged rows into the table; two of one key are refused."""
        return f"{self._insert} SELECT {self._cast(part)} FROM pg_temp.engine_rows {self._replacing}"

    def merge_range(self, part: int, first: int, last: int) -> str:
        """Staged rows by their numbers; of those with one key, the last."""
        distinct, order = "", ""
        if self.key:
            keys = ", ".join(self._casts[self.columns.index(name)] for name in self.key)
            distinct, order = f"DISTINCT ON ({keys})", f"ORDER BY {keys}, n DESC"
        return (
            f"{self._insert} SELECT {distinct} {self._cast(part)} FROM pg_temp.engine_rows "
            f"WHERE n BETWEEN {first:d} AND {last:d} {order} {self._replacing}"
        )

    def keys_of_rows(self, column: int) -> str:
        """What rows are called, by their numbers."""
        return f"SELECT n, c{column:d} AS key FROM pg_temp.engine_rows WHERE n = ANY ($1) ORDER BY n"

    @property
    def _insert(self) -> str:
        names = [*self.columns, *((self.part_column,) if self.part_column else ())]
        return f"INSERT INTO {table_of(self.name)} ({', '.join(map(quoted, names))})"

    @property
    def _casts(self) -> list[str]:
        return [f"{name}::{kind}" for name, kind in zip(self.staged, self.types, strict=True)]

    def _cast(self, part: int) -> str:
        return ", ".join([*self._casts, *((f"{part:d}",) if self.part_column else ())])

    @property
    def _replacing(self) -> str:
        if not self.key:
            return ""
        others = [quoted(name) for name in self.columns if name not in self.key]
        change = "UPDATE SET " + ", ".join(f"{name} = EXCLUDED.{name}" for name in others) if others else "NOTHING"
        return f"ON CONFLICT ({', '.join(map(quoted, self.key))}) DO {change}"


async def look_at(connection: Any, table: Table, *, need: str) -> Table:
    """Look whether the table can take parts, and create `engine_parts` beside it where it is not there yet.

    Raises:
        ConfigError: the table or a column is missing, a column can never be filled, or nothing makes the key unique.
    """
    found = await connection.fetchrow(
        "SELECT oid, nspname AS schema, relname AS relation FROM pg_class JOIN (SELECT oid AS space, nspname FROM "
        "pg_namespace) AS spaces ON space = relnamespace WHERE oid = to_regclass($1)",
        table_of(table.name),
    )
    if found is None:
        raise ConfigError(f"{need}: there is no table `{table.name}`", hint="create it, or mend `table`")
    columns = {row["name"]: row for row in await connection.fetch(_COLUMNS, found["oid"])}
    _check_columns(table, columns, need)
    if table.key:
        unique = [set(row["names"]) for row in await connection.fetch(_UNIQUE, found["oid"])]
        if set(table.key) not in unique:
            named = ", ".join(map(quoted, table.key))
            raise ConfigError(
                f"{need}: nothing makes the key ({', '.join(table.key)}) of `{table.name}` unique",
                hint=f"CREATE UNIQUE INDEX ON {table_of(table.name)} ({named})",
            )
    types = tuple(columns[name]["kind"] for name in table.columns)
    known = msgspec.structs.replace(
        table, types=types, schema=found["schema"], relation=f"{found['schema']}.{found['relation']}"
    )
    await _make_parts(connection, known, need)
    return known


def _check_columns(table: Table, columns: dict[str, Any], need: str) -> None:
    missing = [name for name in table.columns if name not in columns]
    if missing:
        raise ConfigError(
            f"{need}: `{table.name}` has no column {', '.join(f'`{name}`' for name in missing)}",
            hint=f"its columns are {', '.join(columns)}; add what is missing, or leave it out of [results.fields]",
        )
    if table.part_column is not None and columns.get(table.part_column, {"kind": None})["kind"] != "bigint":
        raise ConfigError(
            f"{need}: mode append needs a column `{table.part_column}` of type bigint in `{table.name}`, by which the "
            "rows of a part can be found again",
            hint=f"ALTER TABLE {table_of(table.name)} ADD COLUMN {quoted(table.part_column)} bigint",
        )
    made = [name for name in table.columns if columns[name]["is_made"]]
    if made:
        raise ConfigError(f"{need}: the server itself makes `{made[0]}`", hint="leave it out of [results.fields]")
    filled = {*table.columns, table.part_column}
    empty = [name for name, column in columns.items() if column["is_wanted"] and name not in filled]
    if empty:
        raise ConfigError(
            f"{need}: `{empty[0]}` of `{table.name}` must not be null, and no row would fill it",
            hint="declare it in [results.fields], or give it a default",
        )


async def _make_parts(connection: Any, table: Table, need: str) -> None:
    if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table.parts):
        return
    statement = _PARTS.format(parts=table.parts)
    try:
        # Of two processes that create it at once, one is told that it is there: by another code than "exists".
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('engine_parts'))")
            await connection.execute(statement)
    except Exception as exc:
        if getattr(exc, "sqlstate", None) != "42501":
            raise
        raise ConfigError(
            f"{need}: the user may not create {table.parts}, where finished parts are written down",
            hint="let an administrator create it:" + " ".join(statement.split("\n")),
        ) from exc
