"""Reference pages, made from what the code says of itself: commands, options, components, codes, job kinds, routes.

Plain text in, Markdown out; nothing here is written by hand but the headings.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import click

from engine.cli.main import VERBS, cli
from engine.components.catalog import SINKS, SOURCES, TRANSFORMS
from engine.contract.catalog import ROUTES
from engine.contract.profile import PROFILE
from engine.contract.rows import is_asked_per_row, is_write, listing_of
from engine.contract.titles import title_of
from engine.errors import ERRORS, Exit
from engine.expression.values import FUNCTIONS, METHODS
from engine.pipeline.findings import FINDINGS
from engine.pipeline.schema import SCHEMAS


def pages() -> dict[str, str]:
    """Every reference page, by its name."""
    return {
        "commands": _commands(),
        "options": _options_page(),
        "components": _components(),
        "codes": _codes(),
        "routes": _routes(),
    }


def options_of(schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Every option of a schema as (dotted key, description); an array of tables is `name[]`."""
    yield from _options(schema, schema, "")


def _options(schema: dict[str, Any], table: dict[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, option in table["properties"].items():
        inner, key = option, prefix + name
        if "items" in option and "$ref" in option["items"]:
            inner, key = option["items"], key + "[]"
        for choice in (inner, *inner.get("anyOf", ())):
            target = schema["$defs"].get(choice.get("$ref", "").removeprefix("#/$defs/"), {})
            if "properties" in target:
                yield from _options(schema, target, key + ".")
                break
        else:
            yield key, option.get("description", "")


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows)])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _commands() -> str:
    parts = ["# Commands", "Global options stand before the verb: `engine --set platform.timeout=10s run FILE`."]
    context = click.Context(cli, info_name="engine")
    for verb in VERBS:
        command = cli.get_command(context, verb)
        if command is not None:
            parts += _command(command, f"engine {verb}", context)
    return "\n\n".join(parts)


def _command(command: click.Command, name: str, parent: click.Context) -> list[str]:
    context = click.Context(command, info_name=name.rpartition(" ")[2], parent=parent)
    parts = [f"## {name}", inspect.cleandoc(command.help or "")]
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            inner = command.get_command(context, verb)
            if inner is not None:
                parts += _command(inner, f"{name} {verb}", context)
        return parts
    shown = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    rows = [(f"`{', '.join(option.opts)}`", option.help or "") for option in shown]
    return [*parts, f"    {name} {' '.join(command.collect_usage_pieces(context))}", _table(("Option", "Means"), rows)]


def _options_page() -> str:
    parts = ["# Options"]
    for which, title in (("pipeline", "Pipeline files"), ("config", "config.toml")):
        rows = [(f"`{key}`", said) for key, said in options_of(SCHEMAS[which]())]
        parts += [f"## {title}", _table(("Option", "Means"), rows)]
    return "\n\n".join(parts)


def _components() -> str:
    parts = ["# Components"]
    for title, known in (("Sources", SOURCES), ("Transforms", TRANSFORMS), ("Sinks", SINKS)):
        parts += [f"## {title}", _table(("Type", "What it is"), [(f"`{name}`", said) for name, said in known.items()])]
    kinds = [(f"`{kind.name}`", f"`{kind.match}`", str(PROFILE.profile_ids_max)) for kind in PROFILE.kinds.values()]
    parts += ["## Job kinds", _table(("Kind", "Rows are matched by", "Most rows"), kinds)]
    parts += ["## Functions of expressions", ", ".join(f"`{name}(x)`" for name in FUNCTIONS)]
    return "\n\n".join([*parts, "## Methods of expressions", ", ".join(f"`x.{name}(…)`" for name in METHODS)])


def _codes() -> str:
    rows = [
        (f"`{kind.code}`", str(int(kind.exit_code)), kind.retry.value, _first(kind.__doc__), kind.default_hint)
        for kind in ERRORS
    ]
    rows += [
        (f"`{code}`", str(int(Exit.CONFIGURATION)), "never", said.partition("\n")[0], "")
        for code, said in FINDINGS.items()
    ]
    return "\n\n".join(["# Error codes", _table(("Code", "Exit", "Retry", "Means", "Next step"), sorted(rows))])


def _routes() -> str:
    rows = []
    for name, route in ROUTES.items():
        uses = [
            use
            for use, may in (
                ("source", listing_of(route) is not None),
                ("[request]", is_asked_per_row(route)),
                ("sink", is_write(route)),
            )
            if may
        ]
        rows.append(
            (str(route.number), f"`{name}`", f"`{route.method} {route.path}`", title_of(route), ", ".join(uses))
        )
    heads = ("No.", "Name", "Asks", "What", "In pipelines as")
    return "\n\n".join(["# Routes", _table(heads, rows)])


def _first(text: str | None) -> str:
    return inspect.cleandoc(text or "").partition("\n\n")[0]
