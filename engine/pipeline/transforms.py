"""Transforms: which options each type takes, and what they must look like. Pure, like `check`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.codec.fields import parse_fields
from engine.errors import RecordError
from engine.expression.compiled import check
from engine.pipeline.findings import Fault
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import TransformSpec

# Options by type: required ones, then those that may be there as well.
OPTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "select": (("fields",), ()),
    "rename": (("fields",), ()),
    "set": (("values",), ()),
    "map": (("values",), ()),
    "filter": (("field", "op"), ("value",)),
    "cast": (("fields",), ("bad",)),
    "mask": (("fields",), ("how", "secret")),
    "flatten": ((), ("fields", "separator")),
    "python": (("call",), ("timeout",)),
    "plugin": (("use",), ("options", "timeout")),
}
# A filter says what it keeps in one of two ways.
_WHERE: tuple[tuple[str, ...], tuple[str, ...]] = (("where",), ())
_ALL = (
    "fields", "values", "field", "op", "value", "where", "bad", "how", "secret", "separator", "call", "timeout",
    "use", "options",
)  # fmt: skip
_CALL = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


def check_transform(transform: TransformSpec, at: KeyPath) -> Iterator[Fault]:
    """What is wrong with one `[[transform]]`."""
    required, allowed = (
        _WHERE if transform.where is not None and transform.type == "filter" else OPTIONS[transform.type]
    )
    for name in _ALL:
        is_given = getattr(transform, name) is not None
        if is_given and name not in (*required, *allowed):
            message = f"a {transform.type} transform takes no `{name}`"
            hint = f"it takes {', '.join(required + allowed)}"
            yield _fault((*at, name), "conflict", message, hint)
        elif not is_given and name in required:
            yield _fault((*at, name), "missing", f"a {transform.type} transform needs `{name}`")
    match transform.type:
        case "select" | "rename" | "cast" | "mask" | "flatten":
            yield from _fields(transform, at)
            yield from _cast_and_mask(transform, at)
        case "map":
            yield from _map(transform, at)
        case "filter" if transform.where is not None:
            yield from _expression(transform.where, (*at, "where"))
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
    is_table = transform.type in ("rename", "cast")
    if not is_table and not isinstance(fields, tuple):
        hint = 'for example: fields = ["id", "name"]'
        yield _fault((*at, "fields"), "type", f"`fields` of {transform.type} is a list of names", hint)
    elif is_table and not isinstance(fields, dict):
        hint = 'for example: fields = { old = "new" }' if transform.type == "rename" else 'fields = { age = "int" }'
        yield _fault((*at, "fields"), "type", f"`fields` of {transform.type} is a table", hint)
    elif not fields:
        yield _fault((*at, "fields"), "range", "`fields` names nothing")
    elif isinstance(fields, dict) and transform.type == "rename" and len(set(fields.values())) != len(fields):
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


def _cast_and_mask(transform: TransformSpec, at: KeyPath) -> Iterator[Fault]:
    if transform.type == "cast" and isinstance(transform.fields, dict):
        for name, text in transform.fields.items():
            try:
                parse_fields({name: text})
            except RecordError as exc:
                yield _fault((*at, "fields", name), "choice", exc.message, exc.hint)
    if transform.type == "mask" and (transform.how == "hash") is not (transform.secret is not None):
        if transform.secret is None:
            message = "`hash` without a `secret` could be undone by trying: short values are soon found"
            yield _fault((*at, "secret"), "missing", message, 'secret = "${secret:env:MASK_KEY}"')
        else:
            yield _fault((*at, "secret"), "conflict", "only `hash` takes a `secret`")


def _map(transform: TransformSpec, at: KeyPath) -> Iterator[Fault]:
    if transform.values == {}:
        yield _fault((*at, "values"), "range", "`values` makes nothing")
    for name, text in (transform.values or {}).items():
        if not isinstance(text, str):
            hint = "a constant is for `set`; text inside an expression has quotes of its own: \"'text'\""
            yield _fault((*at, "values", name), "type", "an expression is text", hint)
        else:
            yield from _expression(text, (*at, "values", name))


def _expression(text: str, at: KeyPath) -> Iterator[Fault]:
    if (wrong := check(text)) is not None:
        column = wrong.facts.get("at", 0) + 1
        yield _fault(at, "range", f"not an expression: {wrong.message} (at character {column})", wrong.hint)
