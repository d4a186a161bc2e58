"""Filter: keeps the records for which a comparison holds, and drops the others on purpose.

A comparison between things that cannot be compared is a failure of that record, never a quiet no.
"""

from __future__ import annotations

import datetime as dt
import operator
import re
from collections.abc import Callable
from typing import Any

from engine.components.transforms.each import Value, each
from engine.errors import ConfigError

# A pattern may take exponential time; the shorter the text, the less it can.
MATCH_CHARS = 10_000

_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class _Incomparable(Exception):
    """Why a record's member cannot be compared with the filter's value."""


class Filter:
    """Keeps records where `field` `op` `value` holds.

    An absent member counts as null. `==`, `!=`, `in` and `not in` take null like any value; orderings and
    `matches` (a search anywhere in the text) refuse it. `exists` asks for a member that is there and not
    null, or with the value false for the contrary. A date or time as value is compared with members that
    hold one as text.
    """

    def __init__(self, field: str, op: str, value: Any) -> None:
        self._field = field
        self._holds = _test(op, value)

    def apply(self, values: list[Value]) -> list[Value | None]:
        """None for each record that does not pass; PartialFailure for those that cannot be compared."""
        return each(values, self._kept, name=f"filter on `{self._field}`: ", failing=_Incomparable)

    def _kept(self, value: Value) -> Value | None:
        return value if self._holds(value.get(self._field)) else None


def _test(op: str, value: Any) -> Callable[[Any], bool]:
    match op:
        case "==":
            return lambda member: _equal(member, value)
        case "!=":
            return lambda member: not _equal(member, value)
        case "in" | "not in":
            if not isinstance(value, list):
                raise ConfigError(f"filter: `{op}` needs a list as value")
            return lambda member: _among(member, value) is (op == "in")
        case "exists":
            wanted = value is not False
            return lambda member: (member is not None) is wanted
        case "matches":
            return _search(value)
        case _ if op in _ORDERINGS:
            compare = _ORDERINGS[op]
            return lambda member: _ordered(compare, member, value)
    raise ConfigError(f"filter: `{op}` is not an operator")


def _equal(member: Any, value: Any) -> bool:
    if member is None or value is None:
        return member is value
    member = _as_comparable(member, value)
    return bool(member == value)


def _among(member: Any, values: list[Any]) -> bool:
    if member is None:
        return None in values
    reasons: list[str] = []
    for value in values:
        try:
            if _equal(member, value):
                return True
        except _Incomparable as exc:
            reasons.append(str(exc))
    if values and len(reasons) == len(values):
        raise _Incomparable(reasons[0])
    return False


def _ordered(compare: Callable[[Any, Any], bool], member: Any, value: Any) -> bool:
    member = _as_comparable(member, value)
    try:
        return compare(member, value)
    except TypeError as exc:
        raise _Incomparable(str(exc)) from exc


def _search(pattern: Any) -> Callable[[Any], bool]:
    try:
        search = re.compile(pattern).search
    except (re.error, TypeError) as exc:
        raise ConfigError(f"filter: `matches` needs a regular expression as value: {exc}") from exc

    def matches(member: Any) -> bool:
        if not isinstance(member, str):
            raise _Incomparable(f"`matches` needs text, got {_kind(member)}")
        if len(member) > MATCH_CHARS:
            raise _Incomparable(f"`matches` reads at most {MATCH_CHARS} characters, got {len(member)}")
        return search(member) is not None

    return matches


def _as_comparable(member: Any, value: Any) -> Any:
    if isinstance(value, dt.date | dt.time) and isinstance(member, str):
        member = _moment(member, type(value))
    if _kind(member) != _kind(value):
        raise _Incomparable(f"cannot compare {_kind(member)} with {_kind(value)}")
    return member


def _moment(text: str, kind: type[Any]) -> Any:
    try:
        return kind.fromisoformat(text)
    except ValueError as exc:
        raise _Incomparable(f"the text is not a {kind.__name__}") from exc


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "text"
        case dict():
            return "object"
        case list():
            return "list"
    return type(value).__name__
