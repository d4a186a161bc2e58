"""Transforms: which options each type takes, and what they must look like. Pure, like `check`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.pipeline.findings import Fault
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import TransformSpec

# Options by type: required ones, then those that may be there as well.
OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "select": (("fields",), ()),
    "rename": (("fields",), ()),
    "set": (("values",), ()),
    "filter": (("field", "op"), ("value",)),
    "python": (("call",), ("timeout",)),
    "plugin": (("use",), ("options", "timeout")),
}
_ALL = ("fields", "values", "field", "op", "value", "call", "timeout", "use", "options")
_CALL = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def check_transform(transform: TransformSpec, at: KeyPath) -> Iterator[Fault]:
    """What is wrong with one `[[transform]]`."""
    required, allowed = OPTIONS[transform.type]
    for name in _ALL:
        is_given = getattr(transform, name) is not None
        if is_given and name not in (*required, *allowed):
            message = f"a {transform.type} transform takes no `{name}`"
            hint = f"it takes {', '.join(required + allowed)}"
            yield _fault((*at, name), "conflict", message, hint)
        elif not is_given and name in required:
            yield _fault((*at, name), "missing", f"a {transform.type} transform needs `{name}`")
    match transform.type:
        case "select" | "rename":
            yield from _fields(transform, at)
        case "set" if transform.values == {}:
            yield _fault((*at, "values"), "range", "`values` sets nothing")
        case "filter":
            yield from _filter(transform, at)
        case "python" if transform.call is not None and not _CALL.fullmatch(transform.call):
            hint = 'for example: call = "acme.clean:rows"'
            yield _fault((*at, "call"), "range", '`call` is not of the form "module:function"', hint)


def _fault(at: KeyPath, code: str, message: str, hint: str = "") -> Fault:
    return Fault(at=at, code=f"config.{code}", message=message, hint=hint)


def _fields(transform: TransformSpec, at: KeyPath) -> Iterator[Fault]:
    fields = transform.fields
    if fields is None:
        return
    if transform.type == "select" and not isinstance(fields, tuple):
        hint = 'for example: fields = ["id", "name"]'
        yield _fault((*at, "fields"), "type", "`fields` of select is a list of names", hint)
    elif transform.type == "rename" and not isinstance(fields, dict):
        hint = 'for example: fields = { old = "new" }'
        yield _fault((*at, "fields"), "type", "`fields` of rename is a table", hint)
    elif not fields:
        yield _fault((*at, "fields"), "range", "`fields` names nothing")
    elif isinstance(fields, dict) and len(set(fields.values())) != len(fields):
        yield _fault((*at, "fields"), "conflict", "two fields would get the same name")


def _filter(transform: TransformSpec, at: KeyPath) -> Iterator[Fault]:
    op, value = transform.op, transform.value
    if op is None:
        return
    if op == "exists":
        if value is not None:
            yield _fault((*at, "value"), "conflict", "`exists` compares with no `value`")
    elif value is None:
        yield _fault((*at, "value"), "missing", f"`{op}` needs a `value`")
    elif op in ("in", "not in") and not isinstance(value, list):
        yield _fault((*at, "value"), "type", f"`{op}` needs a list")
    elif op == "matches":
        yield from _pattern(value, (*at, "value"))
    elif op in ("<", "<=", ">", ">=") and isinstance(value, bool | list | dict):
        yield _fault(at=(*at, "value"), code="type", message=f"`{op}` needs a number or text")


def _pattern(value: object, at: KeyPath) -> Iterator[Fault]:
    if not isinstance(value, str):
        yield _fault(at, "type", "`matches` needs a regular expression as text")
        return
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as exc:
        yield _fault(at, "range", f"not a regular expression: {exc}")
