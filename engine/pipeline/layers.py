"""Layers: what the environment and `--set` put over a file, before anything is judged.

Precedence is flags, then environment, then the file, then defaults. An overriding value is text; the type of
the option says how it is read. Each keeps its origin, so a finding can name the variable or the flag.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.errors import ConfigError, PlanError
from engine.pipeline.findings import Document, Fault, did_you_mean, holds_credentials, is_secret_name, to_findings
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import PipelineSpec
from engine.pipeline.substitute import has_reference
from engine.settings import Settings

PREFIX = "ENGINE__"


class Layered(msgspec.Struct, kw_only=True):
    """A file's tables with the overrides in them, the origin of each override, and what could not be put."""

    tables: dict[str, Any]
    origins: dict[KeyPath, str]
    faults: list[Fault]


def overlay(tables: dict[str, Any], env: Mapping[str, str], overrides: Mapping[str, str]) -> Layered:
    """Put `ENGINE__A__B` variables, then `a.b` overrides, over a file's tables (which are changed)."""
    layered = Layered(tables=tables, origins={}, faults=[])
    for name, text in sorted(env.items()):
        if name.startswith(PREFIX):
            keys = name.removeprefix(PREFIX).lower().split("__")
            _put(layered, tuple(keys), text, f"environment variable {name}")
    for dotted, text in overrides.items():
        path: KeyPath = tuple(dotted.split("."))
        _put(layered, path, text, f"--set {dotted}")
        is_secret = is_secret_name(str(path[-1])) and "fields" not in path and not has_reference(text)
        if is_secret or holds_credentials(text):
            # The arguments of a process can be read by everybody on the machine.
            hint = f"--set '{dotted}=${{secret:env:NAME}}'"
            layered.faults.append(
                Fault(at=path, code="config.secret", message="a secret stands on the command line", hint=hint)
            )
    return layered


def _put(layered: Layered, path: KeyPath, text: str, origin: str) -> None:
    table: Any = layered.tables
    layered.origins[path] = origin
    for key in path[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            name = ".".join(map(str, path))
            fault = Fault(at=path, code="config.type", message=f"`{name}` cannot be set: `{key}` is no table")
            layered.faults.append(fault)
            return
    table[path[-1]] = text


def plain_value(text: str) -> Any:
    """What an overriding text means where any type may stand: a TOML value if it is one, else itself."""
    try:
        tables = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return tables["value"] if len(tables) == 1 else text


def divide_overrides(pairs: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Split `--set` pairs by their first key: those of `config.toml`, and those of pipeline files.

    Raises:
        PlanError: a first key that neither knows.
    """
    ours, theirs = Settings.__struct_fields__, PipelineSpec.__struct_fields__
    faults = [
        Fault(
            at=(dotted,),
            code="config.unknown_key",
            message=f"`{dotted}` is no setting, and no option of a pipeline",
            hint=did_you_mean(dotted.partition(".")[0], (*ours, *theirs)),
        )
        for dotted in pairs
        if dotted.partition(".")[0] not in (*ours, *theirs)
    ]
    if faults:
        origins: dict[KeyPath, str] = {(dotted,): f"--set {dotted}" for dotted in pairs}
        raise PlanError(to_findings(faults, Document(path="--set", text="", origins=origins)))
    settings = {dotted: text for dotted, text in pairs.items() if dotted.partition(".")[0] in ours}
    return settings, {dotted: text for dotted, text in pairs.items() if dotted not in settings}


def read_pair(text: str) -> tuple[str, str]:
    """Split one `a.b=c`.

    Raises:
        ConfigError: no key, or no `=`.
    """
    dotted, equals, value = text.partition("=")
    if not equals or not all(dotted.strip().split(".")):
        # The text may hold a secret, so it is not repeated.
        raise ConfigError("--set needs KEY=VALUE", hint="for example: --set platform.profile=emulator")
    return dotted.strip(), value
