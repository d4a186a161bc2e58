"""Judge: holds a parsed TOML against a Struct's type, and finds everything that is wrong in one pass.

Follows references, converts unit strings, and answers plain data that is ready for `msgspec.convert`. A value
that is at fault is left out, so that the rest can still be judged. Knows types only; what options mean
together is `check`'s business.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable
from typing import Any, cast

import msgspec
from msgspec import inspect

from engine.pipeline.findings import Fault, did_you_mean, is_secret_name, nearest, table_name
from engine.pipeline.layers import plain_value
from engine.pipeline.locate import KeyPath
from engine.pipeline.substitute import Surroundings, Trouble, has_reference, substitute
from engine.pipeline.units import UNITS, Unit
from engine.settings import Secret

_NESTING_MAX = 64


class _Absent:
    """Stands for a value that is not there: at fault, optional and unset, or not read."""


ABSENT = _Absent()

_TYPE_NAMES = {
    str: "text", bool: "true or false", int: "an integer", float: "a number", dict: "a table", list: "a list",
    dt.datetime: "a date-time", dt.date: "a date", dt.time: "a time",
}  # fmt: skip


class Shape(msgspec.Struct, frozen=True):
    """A field's type without its wrappers: what may stand there besides nothing, and its unit."""

    kinds: tuple[inspect.Type, ...]
    unit: Unit | None
    description: str


def shape_of(kind: inspect.Type) -> Shape:
    """Take a field's type apart."""
    unit: Unit | None = None
    description = ""
    kinds: list[inspect.Type] = []
    todo = [kind]
    while todo:
        here = todo.pop(0)
        if isinstance(here, inspect.Metadata):
            unit = UNITS.get((here.extra or {}).get("unit", "")) or unit
            description = (here.extra_json_schema or {}).get("description", "") or description
            todo.insert(0, here.type)
        elif isinstance(here, inspect.UnionType):
            todo = [*here.types, *todo]
        elif not isinstance(here, inspect.NoneType):
            kinds.append(here)
    return Shape(tuple(kinds), unit, description)


class Judge:
    """One pass over one file's tables; `faults` fill as it goes, and so does `meant`: keys that are there misspelt.

    `is_read` says whether references at a key path are followed at all: what the chosen profile does not use
    is not looked at. `overridden` are the paths whose text came from the environment or a flag.
    """

    def __init__(self, around: Surroundings, *, overridden: set[KeyPath], is_read: Callable[[KeyPath], bool]) -> None:
        self.faults: list[Fault] = []
        self.meant: set[KeyPath] = set()
        self._slips: dict[KeyPath, str] = {}
        self._around = around
        self._overridden = overridden
        self._is_read = is_read

    def judge(self, kind: type[msgspec.Struct], tables: dict[str, Any]) -> dict[str, Any]:
        """Plain data for `kind`, without whatever was at fault."""
        return self._table(cast(inspect.StructType, inspect.type_info(kind)), tables, ())

    def _fault(self, at: KeyPath, code: str, message: str, hint: str = "") -> _Absent:
        self.faults.append(Fault(at=at, code=code, message=message, hint=hint))
        return ABSENT

    def _table(self, info: inspect.StructType, raw: dict[str, Any], at: KeyPath) -> dict[str, Any]:
        fields = {field.encode_name: field for field in info.fields}
        good: dict[str, Any] = {}
        spelt = self._spelt(raw, at, tuple(fields))
        for name, (key, value) in spelt.items():
            judged = value if value is ABSENT else self._value(shape_of(fields[name].type), value, (*at, key))
            if judged is not ABSENT:
                good[name] = judged
        for name, field in fields.items():
            if field.required and name not in spelt:
                self._missing((*at, name), shape_of(field.type))
        return good

    def _missing(self, at: KeyPath, shape: Shape) -> None:
        is_table = isinstance(shape.kinds[0], inspect.StructType)
        what = f"the table {table_name(at)}" if is_table else f"`{_name(at)}`"
        message = f"{what} is missing" + ("" if is_table else f" in {table_name(at[:-1])}")
        self.faults.append(Fault(at=at, code="config.missing", message=message, hint=shape.description, about="key"))

    def _spelt(self, raw: dict[str, Any], at: KeyPath, known: tuple[str, ...]) -> dict[str, tuple[str, Any]]:
        """What is given for each known key, and under which spelling: a slip is one fault, not also an absence."""
        spelt = {key: (key, value) for key, value in raw.items() if key in known}
        for key, value in raw.items():
            if key in known or (not at and key.startswith("x-")):
                continue
            meant = nearest(key, [name for name in known if name not in raw]) or nearest(key, known)
            self._unknown((*at, key), known, meant)
            if meant is not None:
                whole = _joined(value, raw.get(meant, ABSENT))
                # Of one that cannot be judged only the presence counts: the rest is told once the name is right.
                spelt[meant] = (
                    (meant if meant in raw else key, whole) if whole is not ABSENT or meant not in raw else spelt[meant]
                )
        return spelt

    def _unknown(self, at: KeyPath, known: tuple[str, ...], meant: str | None) -> None:
        if meant is not None:
            self.meant.add((*at[:-1], meant))
            self._slips[at] = meant
        self.faults.append(
            Fault(
                at=at,
                code="config.unknown_key",
                message=f"unknown key `{at[-1]}` in {table_name(at[:-1])}",
                hint=f"did you mean `{meant}`?" if meant else "",
                about="key",
                options=known,
            )
        )

    def _value(self, shape: Shape, raw: Any, at: KeyPath) -> Any:
        text = raw if isinstance(raw, str) else None
        if shape.kinds and isinstance(shape.kinds[0], inspect.CustomType):
            return self._secret(raw, at)
        # Text from outside TOML carries no type of its own: the option's type reads it. Tables and lists are
        # read before references are followed, so that what a reference brings can never add a key.
        is_lax = at in self._overridden
        if is_lax and text is not None:
            raw = _opened(shape, text)
        if isinstance(raw, str) and has_reference(raw):
            raw = self._substituted(raw, at, into_secret=False)
            is_lax = True
        if shape.unit and raw is not ABSENT:
            raw = self._united(shape.unit, raw, at, shown=text)
        if raw is ABSENT:
            return ABSENT
        if is_lax and isinstance(raw, str):
            raw = _loosened(shape, raw)
        return self._typed(shape, raw, at, shown=text)

    def _substituted(self, text: str, at: KeyPath, *, into_secret: bool) -> Any:
        if not self._is_read(tuple(self._slips.get(at[: depth + 1], part) for depth, part in enumerate(at))):
            return ABSENT
        try:
            found = substitute(text, self._around, into_secret=into_secret)
        except Trouble as trouble:
            return self._fault(at, trouble.code, trouble.message, trouble.hint)
        return ABSENT if found is None else found

    def _secret(self, raw: Any, at: KeyPath) -> Any:
        if not isinstance(raw, str):
            return self._fault(at, "config.type", f"`{_name(at)}` needs a reference, not {_kind_name(raw)}")
        if has_reference(raw):
            found = self._substituted(raw, at, into_secret=True)
            return found if found is ABSENT else Secret(found)
        if at in self._overridden:
            return Secret(raw)
        hint = f"use ${{secret:env:{str(at[-1]).upper()}}} or ${{secret:file:PATH}}"
        return self._fault(at, "config.secret", f"`{_name(at)}` stands in the file itself", hint)

    def _united(self, unit: Unit, raw: Any, at: KeyPath, *, shown: str | None) -> Any:
        name = _name(at)
        if isinstance(raw, int | float) and not isinstance(raw, bool):
            hint = f'did you mean "{unit.suggest(raw)}"?' if math.isfinite(raw) else f"write {unit.examples}"
            return self._fault(at, "config.unit", f"`{name}` needs a unit: {raw} is a bare number", hint)
        if not isinstance(raw, str):
            return self._fault(
                at, "config.type", f"`{name}` needs a {unit.noun}, not {_kind_name(raw)}", f"write {unit.examples}"
            )
        try:
            return unit.read(raw)
        except ValueError:
            return self._fault(
                at, "config.unit", f'`{name}`: "{_brief(shown)}" is no {unit.noun}', f"write {unit.examples}"
            )

    def _typed(self, shape: Shape, raw: Any, at: KeyPath, *, shown: str | None) -> Any:
        for kind in shape.kinds:
            if _accepts(kind, raw):
                return self._inside(kind, raw, at, shown)
        if any(isinstance(kind, inspect.LiteralType) for kind in shape.kinds) and isinstance(raw, str):
            return self._choice(shape, raw, at, shown)
        wanted = " or ".join(_wanted(kind) for kind in shape.kinds)
        got = _kind_name(raw) if shown is None else f'"{_brief(shown)}"'
        return self._fault(at, "config.type", f"`{_name(at)}` needs {wanted}, not {got}")

    def _choice(self, shape: Shape, raw: str, at: KeyPath, shown: str | None) -> _Absent:
        words = tuple(
            str(word) for kind in shape.kinds if isinstance(kind, inspect.LiteralType) for word in kind.values
        )
        message = f'`{_name(at)}`: "{_brief(shown)}" is none of its words'
        hint = did_you_mean(raw, words) or f"use one of {', '.join(words)}"
        self.faults.append(Fault(at=at, code="config.choice", message=message, hint=hint, options=words))
        return ABSENT

    def _inside(self, kind: inspect.Type, raw: Any, at: KeyPath, shown: str | None) -> Any:
        match kind:
            case inspect.StructType():
                return self._table(kind, raw, at)
            case inspect.VarTupleType():
                item = shape_of(kind.item_type)
                if kind.min_length and len(raw) < kind.min_length:
                    return self._fault(at, "config.range", f"`{_name(at)}` needs at least {kind.min_length} entry")
                judged = [self._value(item, value, (*at, index)) for index, value in enumerate(raw)]
                return [value for value in judged if value is not ABSENT]
            case inspect.DictType():
                item = shape_of(kind.value_type)
                pairs = [(key, self._value(item, value, (*at, key))) for key, value in raw.items()]
                return {key: value for key, value in pairs if value is not ABSENT}
            case inspect.AnyType():
                return self._free(raw, at)
            case _:
                if broken := _out_of_range(kind, raw):
                    said = f'"{_brief(shown)}"' if shown is not None else str(raw)
                    return self._fault(at, "config.range", f"`{_name(at)}`: {said} {broken}")
                return raw

    def _free(self, raw: Any, at: KeyPath) -> Any:
        """Any value: references inside are followed, and nothing that is called a secret may be text."""
        if len(at) > _NESTING_MAX:
            return self._fault(at, "config.range", f"nested deeper than {_NESTING_MAX}")
        free = Shape((inspect.AnyType(),), None, "")
        match raw:
            case dict():
                pairs = [(key, self._value(free, value, (*at, key))) for key, value in raw.items()]
                return {key: value for key, value in pairs if value is not ABSENT}
            case list():
                judged = [self._value(free, value, (*at, index)) for index, value in enumerate(raw)]
                return [value for value in judged if value is not ABSENT]
            case str() if raw and is_secret_name(str(at[-1])) and at[0] not in ("transform", "test"):
                hint = "secrets belong in config.toml, as ${secret:…}; what is none needs another name"
                return self._fault(at, "config.secret", f"`{_name(at)}` stands in the file itself", hint)
            case _:
                return raw


def _joined(value: Any, other: Any) -> Any:
    """One table, or array of tables, of its two pieces: `[sorce]` is cut off from a `[source.fields]` below it."""
    more = {} if other is ABSENT else other
    if not isinstance(more, dict):
        return ABSENT
    if isinstance(value, dict):
        return {**value, **more}
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        # What stands in a table below an array of tables belongs to its last entry.
        return [*value[:-1], {**value[-1], **more}]
    return ABSENT


def _name(at: KeyPath) -> str:
    """The last key, with the index where an element of a list is meant."""
    index = ""
    for part in reversed(at):
        if isinstance(part, str):
            return part + index
        index = f"[{part}]{index}"
    return index


def _accepts(kind: inspect.Type, raw: Any) -> bool:
    match kind:
        case inspect.AnyType():
            return True
        case inspect.StrType():
            return isinstance(raw, str)
        case inspect.BoolType():
            return isinstance(raw, bool)
        case inspect.IntType():
            return (isinstance(raw, int) and not isinstance(raw, bool)) or (
                isinstance(raw, float) and raw.is_integer() and abs(raw) < 2**53
            )
        case inspect.FloatType():
            return isinstance(raw, int | float) and not isinstance(raw, bool) and math.isfinite(raw)
        case inspect.LiteralType():
            return raw in kind.values
        case inspect.VarTupleType():
            return isinstance(raw, list)
        case _:
            return isinstance(raw, dict)


def _wanted(kind: inspect.Type) -> str:
    match kind:
        case inspect.StrType():
            return "text"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "an integer"
        case inspect.FloatType():
            return "a number"
        case inspect.VarTupleType():
            return "a list"
        case inspect.LiteralType():
            return "one of " + ", ".join(str(word) for word in kind.values)
        case _:
            return "a table"


def _kind_name(raw: Any) -> str:
    return _TYPE_NAMES.get(type(raw), type(raw).__name__)


def _brief(text: str | None) -> str:
    """A value as a message may show it: as it was written, never what a reference brought."""
    shown = "".join(mark if mark.isprintable() else "?" for mark in text or "")
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _out_of_range(kind: inspect.Type, raw: Any) -> str:
    """Why a value of the right type is still not allowed; empty when it is."""
    match kind:
        case inspect.IntType() | inspect.FloatType():
            for is_bad, bound in (
                (kind.ge is not None and raw < kind.ge, f"at least {kind.ge}"),
                (kind.gt is not None and raw <= kind.gt, f"more than {kind.gt}"),
                (kind.le is not None and raw > kind.le, f"at most {kind.le}"),
            ):
                if is_bad:
                    return f"is out of range; it must be {bound}"
        case inspect.StrType():
            if kind.pattern and not re.search(kind.pattern, raw):
                return f"does not match {kind.pattern}"
            if not (kind.min_length or 0) <= len(raw) <= (kind.max_length or math.inf):
                return "is too short" if len(raw) < (kind.min_length or 0) else "is too long"
    return ""


def _opened(shape: Shape, text: str) -> Any:
    """An overriding text as the table, list or free value it stands for, where one of those is wanted."""
    for kind in shape.kinds:
        match kind:
            case inspect.VarTupleType():
                value = plain_value(text)
                return value if isinstance(value, list | dict) else [part.strip() for part in text.split(",")]
            case inspect.AnyType() | inspect.DictType() | inspect.StructType():
                return plain_value(text)
    return text


def _loosened(shape: Shape, text: str) -> Any:
    """Text from outside TOML as the scalar the option wants; unreadable text stays text, and is then at fault."""
    for kind in shape.kinds:
        match kind:
            case inspect.BoolType():
                return {"true": True, "false": False, "1": True, "0": False}.get(text.lower(), text)
            case inspect.IntType() | inspect.FloatType():
                value = plain_value(text)
                return value if isinstance(value, int | float) and not isinstance(value, bool) else text
    return text
