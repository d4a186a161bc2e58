"""Templates: pipelines that `engine init` writes, with a word about each option. Text only; writing it is the verb's.

A template says which options stand there and with which values. What an option means comes from the Struct that
reads it, so the words of a template cannot differ from those of the documents and of the schema.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect

from engine.pipeline.judge import shape_of
from engine.pipeline.spec import PipelineSpec

_WIDTH = 118
_REMARK = 40


class Line(msgspec.Struct, frozen=True):
    """One option: its key, its value as TOML; `is_off` puts it there as a comment. `remark` for keys of the user's."""

    key: str
    value: str
    is_off: bool = False
    remark: str = ""


class Table(msgspec.Struct, frozen=True):
    """A table with its header as it is written, empty for the top level."""

    header: str
    lines: tuple[Line, ...]


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline that works as it is, what it does in a sentence, and the rows it reads."""

    about: str
    tables: tuple[Table, ...]
    data: str


def pipeline_text(template: Template, name: str) -> str:
    """The pipeline file; `{name}` in a value becomes the pipeline's name."""
    blocks = [f"#:schema .engine/schema/pipeline.v1.json\n# {template.about}\n" + _table(template.tables[0])]
    blocks += [_table(table) for table in template.tables[1:]]
    return "\n".join(blocks).replace("{name}", name)


def meaning_of(header: str, key: str) -> str:
    """What the Struct that reads this option says of it; empty for a key of the user's own."""
    info: Any = inspect.type_info(PipelineSpec)
    description = ""
    for part in [*(header.strip("[]").split(".") if header else ()), key]:
        if not isinstance(info, inspect.StructType):
            return ""
        fields = {field.encode_name: field for field in info.fields}
        if part not in fields:
            return ""
        shape = shape_of(fields[part].type)
        description, info = shape.description, shape.kinds[0]
        if isinstance(info, inspect.VarTupleType):
            info = info.item_type
    return description


def _table(table: Table) -> str:
    text = f"{table.header}\n" if table.header else ""
    width = max(len(line.key) + 2 * line.is_off for line in table.lines)
    for line in table.lines:
        key = ("# " if line.is_off else "") + line.key
        option = f"{key:<{width}} = {line.value}"
        remark = line.remark or meaning_of(table.header, line.key)
        if not remark:
            text += f"{option}\n"
        elif "\n" not in option and len(padded := f"{option:<{_REMARK}}  # {remark}") <= _WIDTH:
            text += f"{padded}\n"
        else:
            text += f"# {remark}\n{option}\n"
    return text


_HEAD = Table("", (Line("version", "1"), Line("name", '"{name}"')))
_SOURCE = Table(
    "[source]",
    (
        Line("type", '"csv"'),
        Line("paths", '["{name}.csv"]'),
        Line("key", '"id"'),
        Line("compression", '"auto"', is_off=True),
    ),
)
_FIELDS = Table(
    "[source.fields]",
    (
        Line("id", '"str"', remark="a row that does not fit is a dead letter; the others go on"),
        Line("full_name", '"str"'),
        Line("email", '"str | None"'),
        Line("born", '"int | None"'),
    ),
)
_CLOSE = (
    Table("[dead_letters]", (Line("max", '"10%"'),)),
    Table("[expect]", (Line("min_rows", "1"),)),
)
_DATA = """\
id,full_name,email,born
p-1,Ada Example,ada@example.org,1815
p-2,Bo Example,,1912
p-3,Cy Example,cy@example.org,1906
"""
_ROWS = """[
  { id = "p-1", full_name = "Ada Example", born = 1815 },
  { id = "p-2", full_name = "Bo Example", born = "unknown" },
]"""
_SINK = Table(
    "[sink]",
    (
        Line("type", '"ndjson"'),
        Line("path", '"out/{name}"'),
        Line("compression", '"gzip"', is_off=True),
    ),
)

TEMPLATES: dict[str, Template] = {
    "import.bulk": Template(
        about="Rows of a CSV file become entities at the platform: one job for each batch of rows.",
        tables=(
            _HEAD,
            _SOURCE,
            _FIELDS,
            Table(
                "[job]",
                (
                    Line("kind", '"import.bulk"'),
                    Line("batch", "{ rows = 1_000 }", remark="a job closes after so many rows, or at its largest size"),
                    Line("timeout", '"2h"', is_off=True),
                    Line("jobs_in_flight", "40", is_off=True),
                ),
            ),
            Table(
                "[job.payload]",
                (
                    Line("entity_type", '"person"', remark="members of the job's payload, by their contract names"),
                    Line("mapping", '{ id = "external_id", full_name = "label" }'),
                ),
            ),
            Table(
                "[results.fields]",
                (
                    Line("external_id", '"str"', remark="what lands of each row that the platform accepted"),
                    Line("id", '"str"'),
                    Line("status", '"str"'),
                ),
            ),
            _SINK,
            *_CLOSE,
            Table(
                "[[test]]",
                (
                    Line("name", '"a row that does not fit is a dead letter, and a lost answer doubles nothing"'),
                    Line("rows", _ROWS),
                    Line("faults", '[{ at = "response", route = "jobs.create", drop = true, count = 1 }]'),
                ),
            ),
            Table(
                "[test.expect]",
                (
                    Line("outcome", '"over_budget"', remark="one of two rows is more than [dead_letters] max"),
                    Line("accepted", "1"),
                    Line("jobs", "1"),
                    Line("rows", '[{ external_id = "p-1", status = "created" }]'),
                    Line("dead_letters", '[{ code = "record.type" }]'),
                ),
            ),
        ),
        data=_DATA,
    ),
    "none": Template(
        about="Rows pass from a CSV file to files of JSON lines, without a platform.",
        tables=(
            _HEAD,
            _SOURCE,
            _FIELDS,
            Table(
                "[[transform]]",
                (Line("type", '"filter"'), Line("field", '"born"'), Line("op", '">="'), Line("value", "1900")),
            ),
            Table("[[transform]]", (Line("type", '"rename"'), Line("fields", '{ full_name = "name" }'))),
            _SINK,
            *_CLOSE,
            Table(
                "[[test]]",
                (
                    Line("name", '"who was born before 1900 is left out"'),
                    Line("rows", _ROWS.replace('"unknown"', "1912")),
                ),
            ),
            Table(
                "[test.expect]",
                (
                    Line("accepted", "1"),
                    Line("filtered", "1"),
                    Line("rows", '[{ id = "p-2", name = "Bo Example" }]'),
                ),
            ),
        ),
        data=_DATA,
    ),
}
