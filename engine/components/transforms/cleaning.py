"""Cleaning: the transforms that make values fit for others: cast to types, mask what is private, flatten objects.

Each makes new objects and leaves the given ones alone, so that a batch can be transformed again.
"""

from __future__ import annotations

import datetime as dt
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from engine.codec.fields import FieldType, parse_fields
from engine.codec.payload import encode
from engine.components.transforms.each import Value, each
from engine.settings import Secret

_TAIL = 4
_DEPTH_MAX = 32
_WORDS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


class _Misfit(Exception):
    """Why a row cannot be made to fit."""


class Cast:
    """Makes members of the declared types out of text; a member that is absent stays so."""

    def __init__(self, fields: Mapping[str, str], *, bad: Literal["reject", "null"] = "reject") -> None:
        self._fields = parse_fields(fields)
        self._is_lenient = bad == "null"

    def apply(self, values: list[Value]) -> list[Value | None]:
        """Raises PartialFailure for rows with a value that is not of its type, unless such become null."""
        return each(values, self._cast, name="cast ", failing=_Misfit)

    def _cast(self, row: Value) -> Value:
        made = dict(row)
        for name, kind in self._fields.items():
            if name not in row:
                continue
            try:
                made[name] = _cast(row[name], kind)
            except (ValueError, TypeError, msgspec.ValidationError) as exc:
                if not self._is_lenient:
                    raise _Misfit(f"`{name}` to {kind}: {str(exc)[:200]}") from exc
                made[name] = None
        return made


def _cast(value: Any, kind: FieldType) -> Any:
    if kind.nullable and (value is None or value == ""):
        return None
    text = value.strip() if isinstance(value, str) else value
    match kind.word:
        case "str" if not isinstance(value, str):
            return encode(value).decode()
        case "bool" if isinstance(text, str) and text.lower() in _WORDS:
            return _WORDS[text.lower()]
        case "json":
            return value
        case "datetime" | "date":
            moment = msgspec.convert(text, dt.datetime if kind.word == "datetime" else dt.date, strict=False)
            return moment.isoformat().replace("+00:00", "Z")
    return msgspec.convert(text if kind.word in ("int", "float") else value, kind.annotation, strict=False)


class Mask:
    """Makes private values unreadable: stars, the last four characters, or a digest that needs the key to be made.

    Equal values give equal digests (HMAC-SHA256, 32 hex digits), so that rows can still be joined.
    """

    def __init__(
        self, fields: Sequence[str], *, how: Literal["redact", "hash", "tail"] = "redact", secret: Secret | None = None
    ) -> None:
        self._fields = tuple(fields)
        self._how = how
        self._key = secret.reveal().encode() if secret is not None else b""

    def apply(self, values: list[Value]) -> list[Value | None]:
        """Never fails, never filters; null stays null."""
        masked: list[Value | None] = []
        for row in values:
            made = dict(row)
            for name in self._fields:
                if made.get(name) is not None:
                    made[name] = self._mask(made[name])
            masked.append(made)
        return masked

    def _mask(self, value: Any) -> str:
        text = value if isinstance(value, str) else encode(value).decode()
        match self._how:
            case "hash":
                return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256").hex()[:32]
            case "tail":
                return "*" * max(len(text) - _TAIL, 0) + text[-_TAIL:] if len(text) > _TAIL else "*" * len(text)
            case _:
                return "***"


class Flatten:
    """Makes the members of objects members of the row, `a_b` of `{"a": {"b": 1}}`; lists stay as they are."""

    def __init__(self, fields: Sequence[str] = (), *, separator: str = "_") -> None:
        self._fields = frozenset(fields)
        self._separator = separator

    def apply(self, values: list[Value]) -> list[Value | None]:
        """Raises PartialFailure for rows in which two members would get one name, or that are nested too deeply."""
        return each(values, self._flattened, name="flatten: ", failing=_Misfit)

    def _flattened(self, row: Value) -> Value:
        made: Value = {}
        for name, value in row.items():
            is_meant = not self._fields or name in self._fields
            self._put(made, name, value, depth=0 if is_meant else _DEPTH_MAX + 1)
        return made

    def _put(self, made: Value, name: str, value: Any, *, depth: int) -> None:
        if isinstance(value, dict) and value and depth <= _DEPTH_MAX:
            if depth == _DEPTH_MAX:
                raise _Misfit(f"`{name}` is nested deeper than {_DEPTH_MAX}")
            for inner, member in value.items():
                self._put(made, f"{name}{self._separator}{inner}", member, depth=depth + 1)
            return
        if name in made:
            raise _Misfit(f"two members would be called `{name}`")
        made[name] = value
