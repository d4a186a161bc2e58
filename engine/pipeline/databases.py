"""What a pipeline says of a database: options that belong together, and those that only a database has.

Pure, like `check`: whether tables and columns exist shows at run time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.contract.kinds import KINDS
from engine.pipeline.findings import Fault, did_you_mean
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import PipelineSpec, ResultsSpec, SinkSpec

# Options of each kind of sink, and what each is when nobody has set it.
_OF_TABLES: dict[str, Any] = {"url": None, "table": None, "mode": "upsert", "key": (), "part_column": "engine_part"}
_OF_PARTS: dict[str, Any] = {"path": "", "compression": "none"}
# PostgreSQL cuts longer names, and two that differ only behind would be one.
_NAME_BYTES_MAX = 63


def landed_key(spec: PipelineSpec) -> str:
    """The member of a row that lands by which the row that was read is found again."""
    return spec.results.match or KINDS[spec.job.kind].match if spec.job else spec.source.key


def check_databases(sink: SinkSpec | None, results: ResultsSpec | None) -> Iterator[Fault]:
    """Options that are missing, contradict each other, or stand where no database is meant."""
    if sink is None:
        return
    if sink.type != "postgres":
        yield from _strangers(sink, _OF_TABLES)
        return
    yield from _strangers(sink, _OF_PARTS)
    if sink.url is None:
        yield _fault(("sink", "url"), "missing", "`url` is missing in [sink]", 'url = "${secret:env:DATABASE_URL}"')
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


def _strangers(sink: SinkSpec, usual: dict[str, Any]) -> Iterator[Fault]:
    for option, value in usual.items():
        if getattr(sink, option) != value:
            yield _fault(("sink", option), "conflict", f"a {sink.type} sink has no `{option}`")


def _fault(at: KeyPath, code: str, message: str, hint: str = "") -> Fault:
    return Fault(at=at, code=f"config.{code}", message=message, hint=hint)
