"""Fields: the row types that a pipeline file declares in words, as msgspec Structs.

`[source.fields]` and `[results.fields]` map a field name to a type word: `str`, `int`, `float`, `bool`,
`datetime`, `date`, `json`, `enum(a, b)`, each with ` | None` where it may be null or absent. Knows
nothing of formats; what a CSV cell means as an `int` is its reader's business.
"""

from __future__ import annotations

import datetime as dt
import keyword
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal

import msgspec

from engine.errors import RecordError

# `json` stays the bytes it came as: never decoded, and encoded again by copying.
_WORDS: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "datetime": dt.datetime,
    "date": dt.date,
    "json": msgspec.Raw,
}
ALLOWED = (*_WORDS, "enum(a, b)")

_TYPE = re.compile(r"\s*(?:(?P<word>[a-z]+)|enum\((?P<choices>[^()]*)\))\s*(?P<none>\|\s*None\s*)?")


_OUR_ATTRIBUTE = re.compile(r"field\d+_")
# msgspec writes member names as they are, so it takes none that JSON would have to escape.
_UNWRITABLE = re.compile(r'["\\\x00-\x1f]')


class FieldType(msgspec.Struct, frozen=True):
    """A declared type: its word ("enum" for an enumeration), its choices, and whether it may be null."""

    word: str
    choices: tuple[str, ...] = ()
    nullable: bool = False

    @property
    def annotation(self) -> Any:
        """The type msgspec decodes into."""
        kind = Literal[self.choices] if self.word == "enum" else _WORDS[self.word]
        # Raw takes a null as the bytes `null`, and in a union with None it takes nothing else.
        return kind | None if self.nullable and kind is not msgspec.Raw else kind

    def __str__(self) -> str:
        text = f"enum({', '.join(self.choices)})" if self.word == "enum" else self.word
        return f"{text} | None" if self.nullable else text


@cache
def parse_field_type(text: str) -> FieldType:
    """Read a type word.

    Raises:
        RecordError: not one; the message holds the text and everything allowed.
    """
    found = _TYPE.fullmatch(text)
    if found is not None:
        nullable = found["none"] is not None
        if found["word"] in _WORDS:
            return FieldType(found["word"], nullable=nullable)
        if found["choices"] is not None:
            choices = tuple(choice.strip() for choice in found["choices"].split(","))
            if all(choices) and len(set(choices)) == len(choices):
                return FieldType("enum", choices, nullable)
    raise RecordError(
        f"`{text}` is not a field type",
        hint=f"use one of {', '.join(ALLOWED)}, each with ` | None` where it may be null or absent",
    )


def parse_fields(fields: Mapping[str, str]) -> dict[str, FieldType]:
    """Read all type words, in order.

    Raises:
        RecordError: see `parse_field_type`; the message names the field.
    """
    parsed = {}
    for name, text in fields.items():
        if _UNWRITABLE.search(name):
            raise RecordError(
                f"{name!r} cannot name a field", hint="leave out quotes, backslashes and control characters"
            )
        try:
            parsed[name] = parse_field_type(text)
        except RecordError as exc:
            raise RecordError(f"field `{name}`: {exc.message}", hint=exc.hint) from exc
    return parsed


def struct_of(
    name: str, fields: Mapping[str, str], *, gc: bool = False, is_closed: bool = False
) -> type[msgspec.Struct]:
    """A Struct with these fields, in this order; other members of an object are skipped unread, or refused (closed).

    Nullable fields may be absent. Any text may name a field: see `attributes` for the attribute that
    holds it. With `gc` off the rows are no concern of the cyclic collector; they cannot form cycles.

    Raises:
        RecordError: a type word is not one.
    """
    kinds = parse_fields(fields)
    annotations = {field: kind.annotation for field, kind in kinds.items()}
    optional = frozenset(field for field, kind in kinds.items() if kind.nullable)
    return struct_from(name, annotations, optional=optional, gc=gc, is_closed=is_closed)


def struct_from(
    name: str,
    annotations: Mapping[str, Any],
    *,
    optional: frozenset[str] = frozenset(),
    gc: bool = False,
    is_closed: bool = False,
) -> type[msgspec.Struct]:
    """Like `struct_of`, from ready-made types; `optional` fields default to None."""
    specs: list[Any] = []
    renamed = {}
    for index, (field, annotation) in enumerate(annotations.items()):
        attribute = field if _is_plain(field) else f"field{index}_"
        renamed[attribute] = field
        specs.append((attribute, annotation, None) if field in optional else (attribute, annotation))
    return msgspec.defstruct(name, specs, rename=renamed, kw_only=True, gc=gc, forbid_unknown_fields=is_closed)


@cache
def plain_struct(names: tuple[str, ...]) -> Callable[..., msgspec.Struct] | None:
    """A Struct of members of any kind, made from values in this order: written like a dict, and made much faster.

    None where a name cannot be written by it.
    """
    if any(_UNWRITABLE.search(name) for name in names):
        return None
    specs = [(f"m{index}", Any) for index in range(len(names))]
    rename = {f"m{index}": name for index, name in enumerate(names)}
    return msgspec.defstruct("PlainRow", specs, rename=rename, gc=False)


def attributes(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Field name → attribute name, in order."""
    return dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))


def _is_plain(name: str) -> bool:
    return (
        name.isidentifier()
        and not keyword.iskeyword(name)
        and not name.startswith("_")
        and not _OUR_ATTRIBUTE.fullmatch(name)
    )
