"""Compared: what is different between a pipeline as it last ran and as it stands in its file now.

The ledger keeps what the file said when it last ran, with references in place of secrets. A change counts more where
it decides what jobs are made of, and that is `runtime.opening`'s to say: it is asked about each change alone.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import msgspec

from engine.codec.payload import encode
from engine.errors import EngineError
from engine.pipeline.parse import load_pipeline
from engine.pipeline.spec import PipelineSpec
from engine.runtime.opening import settings_digest
from engine.settings import Secret
from engine.store.reading import Glance, RunLine

# Tests are played, never run; a name is the same, or we would look into another ledger.
_APART = ("test", "name")
_SHOWN_MAX = 40


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An option with its values, as TOML would show them; `decides`: other jobs are made of the same rows."""

    option: str
    before: str | None
    after: str | None
    decides: bool


class Last(msgspec.Struct, frozen=True, kw_only=True):
    """The last run of the input, and what has changed since; `changes` is None where the old file cannot be read."""

    run: RunLine
    seconds: float | None
    platform: str | None
    changes: list[Change] | None


def last_of(glance: Glance, spec: PipelineSpec) -> Last | None:
    """What the last run was, and what the file says otherwise now; None before the first run."""
    run = next((line for line in glance.runs(limit=20) if line.lands_in is None), None)
    if run is None:
        return None
    return Last(
        run=run,
        seconds=None if run.ended_ns is None else (run.ended_ns - run.started_ns) / 1e9,
        platform=glance.platform,
        changes=_since(glance.text, spec),
    )


def _since(text: str | None, spec: PipelineSpec) -> list[Change] | None:
    if text is None:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        try:
            before = load_pipeline(file.name, env=os.environ)
        except EngineError:
            return None  # What it refers to is gone, or it is of an older engine.
    return list(changes_between(before, spec))


def changes_between(before: PipelineSpec, after: PipelineSpec) -> Iterator[Change]:
    """Each option of which the two say something else."""
    digest = settings_digest(before)
    for path, old, new in _differences(before, after, ()):
        if path[0] not in _APART:
            decides = settings_digest(_with(before, after, path)) != digest
            yield Change(option=".".join(path), before=_shown(old), after=_shown(new), decides=decides)


def _differences(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Paths of fields with the values on both sides, as deep as both sides are Structs of one kind."""
    if isinstance(old, msgspec.Struct) and type(old) is type(new):
        for name in old.__struct_fields__:
            yield from _differences(getattr(old, name), getattr(new, name), (*path, name))
    elif old != new:
        yield path, old, new


def _with(before: Any, after: Any, path: tuple[str, ...]) -> Any:
    """The one with a single field of the other."""
    name, *rest = path
    old, new = getattr(before, name), getattr(after, name)
    return msgspec.structs.replace(before, **{name: _with(old, new, tuple(rest)) if rest else new})


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    text = encode(msgspec.to_builtins(_covered(value))).decode()
    return text if len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 1] + "…"


def _covered(value: Any) -> Any:
    """The value with every secret in it as stars."""
    if isinstance(value, Secret):
        return str(value)
    if isinstance(value, msgspec.Struct):
        named = {name: getattr(value, name) for name in value.__struct_fields__}
        return {name: _covered(member) for name, member in named.items() if member is not None}
    if isinstance(value, dict):
        return {name: _covered(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_covered(member) for member in value]
    return value
