"""What a pipeline says of a database: options that belong together, and those that only a database has.

Pure, like `check`: whether tables and columns exist shows at run time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.contract.profile import PROFILE
from engine.pipeline.findings import Fault, did_you_mean
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import PipelineSpec, ResultsSpec, SinkSpec, SourceSpec

# Options of each kind of source and sink, and what each is when nobody has set it.
_OF_FILES: dict[str, Any] = {"paths": (), "compression": "auto"}
_OF_QUERIES: dict[str, Any] = {"url": None, "table": None, "query": None, "cursor": (), "timeout": 300.0}
_OF_TABLES: dict[str, Any] = {"url": None, "table": None, "mode": "upsert", "key": (), "part_column": "engine_part"}
_OF_PARTS: dict[str, Any] = {"path": "", "compression": "none"}
_URL_HINT = 'url = "${secret:env:DATABASE_URL}"'
# PostgreSQL cuts longer names, and two that differ only behind would be one.
_NAME_BYTES_MAX = 63


def landed_key(spec: PipelineSpec) -> str:
    """The member of a row that lands by which the row that was read is found again."""
    return spec.results.match or PROFILE.kinds[spec.job.kind].match if spec.job else spec.source.key


def check_databases(source: SourceSpec | None, sink: SinkSpec | None, results: ResultsSpec | None) -> Iterator[Fault]:
    """Options that are missing, contradict each other, or stand where no database is meant."""
    if source is not None:
        yield from _source(source)
    if sink is not None:
        yield from _sink(sink, results)


def _source(source: SourceSpec) -> Iterator[Fault]:
    if source.type != "postgres":
        yield from _strangers(source, "source", _OF_QUERIES)
        return
    # Delimiter and header have been told of where formats are.
    yield from _strangers(source, "source", _OF_FILES)
    if source.url is None:
        yield _fault(("source", "url"), "missing", "`url` is missing in [source]", _URL_HINT)
    if (source.table is None) == (source.query is None):
        hint = 'table = "schema.name", or query = "SELECT …"'
        yield _fault(("source", "table"), "missing", "[source] needs one of `table` and `query`", hint)
    if source.table is not None:
        yield from _table(source.table, ("source", "table"))
    if not source.cursor:
        hint = 'cursor = ["updated_at", "id"]'
        message = "`cursor` is missing in [source]: the columns by which reading goes on"
        yield _fault(("source", "cursor"), "missing", message, hint)
    if len(set(source.cursor)) != len(source.cursor):
        yield _fault(("source", "cursor"), "conflict", "a column stands twice in `cursor`")


def _sink(sink: SinkSpec, results: ResultsSpec | None) -> Iterator[Fault]:
    if sink.type != "postgres":
        yield from _strangers(sink, "sink", _OF_TABLES)
        return
    yield from _strangers(sink, "sink", _OF_PARTS)
    if sink.url is None:
        yield _fault(("sink", "url"), "missing", "`url` is missing in [sink]", _URL_HINT)
    yield from _table(sink.table, ("sink", "table"))
    columns = tuple(results.fields) if results else ()
    if results and not columns:
        message = "a postgres sink needs [results.fields]: the columns and their types"
        yield _fault(("sink", "type"), "missing", message, 'for example: id = "str"')
    yield from _mode(sink, columns)
    for name in columns:
        yield from _name(name, ("results", "fields", name))


def _mode(sink: SinkSpec, columns: tuple[str, ...]) -> Iterator[Fault]:
    if sink.mode == "append":
        if sink.key:
            message = "mode append replaces nothing, so it has no `key`"
            yield _fault(("sink", "key"), "conflict", message, 'leave it out, or use mode = "upsert"')
        if sink.part_column in columns:
            yield _fault(("sink", "part_column"), "conflict", "this column is the engine's own; no field may fill it")
        yield from _name(sink.part_column, ("sink", "part_column"))
        return
    if not sink.key:
        hint = 'key = ["id"], or mode = "append"'
        yield _fault(("sink", "key"), "missing", "`key` is missing in [sink]: mode upsert finds rows by it", hint)
    if sink.part_column != _OF_TABLES["part_column"]:
        yield _fault(("sink", "part_column"), "conflict", "only mode append writes the part of a row into a column")
    for name in sink.key:
        if columns and name not in columns:
            hint = did_you_mean(name, columns)
            yield _fault(("sink", "key"), "conflict", f"key `{name}` is not in [results.fields]", hint)


def _table(table: str | None, at: KeyPath) -> Iterator[Fault]:
    if table is None:
        yield _fault(at, "missing", f"`{at[-1]}` is missing in [{at[0]}]", 'table = "schema.name"')
        return
    names = table.split(".")
    if len(names) > 2 or not all(names):
        yield _fault(at, "range", f"`{table}` names no table", "write NAME or SCHEMA.NAME")
    for name in names:
        yield from _name(name, at)


def _name(name: str, at: KeyPath) -> Iterator[Fault]:
    if "\0" in name or len(name.encode("utf-8", "surrogatepass")) > _NAME_BYTES_MAX:
        yield _fault(at, "range", f"a name in PostgreSQL has at most {_NAME_BYTES_MAX} bytes, and no NUL")


def _strangers(table: SourceSpec | SinkSpec, name: str, usual: dict[str, Any]) -> Iterator[Fault]:
    for option, value in usual.items():
        if getattr(table, option) != value:
            yield _fault((name, option), "conflict", f"a {table.type} {name} has no `{option}`")


def _fault(at: KeyPath, code: str, message: str, hint: str = "") -> Fault:
    return Fault(at=at, code=f"config.{code}", message=message, hint=hint)
