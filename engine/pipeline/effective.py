"""Effective: each setting as it holds, and who said so: a flag, the environment, a line of the file, or nobody.

For people to read. A secret is told by being there; a reference that the chosen profile does not use is told as not
read, for nobody looked behind it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import inspect

from engine.codec.payload import encode
from engine.pipeline.judge import shape_of
from engine.pipeline.layers import overlay
from engine.pipeline.locate import KeyPath, locate
from engine.pipeline.substitute import has_reference
from engine.pipeline.units import Unit
from engine.settings import Secret, Settings

Origin = Literal["flag", "env", "file", "default"]

_NOT_SET, _NOT_READ = "not set", "not read by this profile"
_HIDDEN = "***"


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting: its dotted key, its value in words, and where it comes from; `where` is a flag, name or line."""

    key: str
    value: str
    origin: Origin
    where: str


def effective(
    settings: Settings, path: str | None, *, env: Mapping[str, str], overrides: Mapping[str, str]
) -> list[Setting]:
    """The settings that were made of this file, environment and flags, each with its origin."""
    text = Path(path).read_text(encoding="utf-8-sig") if path else ""
    in_file = tomllib.loads(text)
    spots = locate(text)
    layered = overlay(tomllib.loads(text), env, overrides)
    found = []
    for keys, value, unit in _leaves(settings, ()):
        origin, where = _origin(keys, layered.origins)
        raw = _at(layered.tables, keys)
        if not origin and _at(in_file, keys) is not None:
            spot = spots.get(keys)
            origin, where = "file", f"{path}:{spot.line}" if spot else str(path)
        is_unread = value is None and isinstance(raw, str) and has_reference(raw) and not raw.endswith("?}")
        words = _NOT_READ if is_unread else _words(value, unit)
        found.append(Setting(key=".".join(keys), value=words, origin=origin or "default", where=where))
    return found


def _leaves(value: msgspec.Struct, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Unit | None]]:
    """Every option below a table: its key path, its value, its unit."""
    info: Any = inspect.type_info(type(value))
    for field in info.fields:
        member = getattr(value, field.name)
        here = (*path, field.encode_name)
        if isinstance(member, msgspec.Struct):
            yield from _leaves(member, here)
        else:
            yield here, member, shape_of(field.type).unit


def _origin(keys: tuple[str, ...], origins: Mapping[KeyPath, str]) -> tuple[Origin | Literal[""], str]:
    said = origins.get(keys)
    if said is None:
        return "", ""
    # Flags and variables are named as findings name them.
    if said.startswith("--set"):
        return "flag", said
    return "env", said.removeprefix("environment variable ")


def _at(tables: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        if not isinstance(tables, dict):
            return None
        tables = tables.get(key)
    return tables


def _words(value: Any, unit: Unit | None) -> str:
    """A value as it would be written."""
    if value is None:
        return _NOT_SET
    if isinstance(value, Secret):
        return _HIDDEN
    if unit is not None:
        return unit.suggest(value)
    return value if isinstance(value, str) else encode(value).decode()
