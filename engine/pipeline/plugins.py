"""What a pipeline says of plug-ins: which one, and its options; and that nothing else has these.

Pure, like `check`: whether one is installed shows at run time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.pipeline.findings import Fault
from engine.pipeline.spec import SinkSpec, SourceSpec

_FILES_OF: dict[str, dict[str, Any]] = {
    "source": {"paths": (), "compression": "auto"},
    "sink": {"path": "", "compression": "none"},
}


def check_plugins(source: SourceSpec | None, sink: SinkSpec | None) -> Iterator[Fault]:
    """A plug-in that is not named, and options of one where none is meant."""
    for name, table in (("source", source), ("sink", sink)):
        if table is not None:
            yield from _table(table, name)


def _table(table: SourceSpec | SinkSpec, name: str) -> Iterator[Fault]:
    if table.type == "plugin":
        if not table.use:
            hint = f'use = "name", an installed entry point of engine.{name}s'
            yield _fault(name, "use", "missing", f"`use` is missing in [{name}]: which plug-in is meant?", hint)
        for option, usual in _FILES_OF[name].items():
            if getattr(table, option) != usual:
                yield _fault(name, option, "conflict", f"a plugin {name} has no `{option}`; its own are in `options`")
        return
    if table.use is not None:
        yield _fault(name, "use", "conflict", f"a {table.type} {name} is built in, so it has no `use`")
    if table.options:
        yield _fault(name, "options", "conflict", f"a {table.type} {name} has no `options`")


def _fault(table: str, option: str, code: str, message: str, hint: str = "") -> Fault:
    return Fault(at=(table, option), code=f"config.{code}", message=message, hint=hint)
