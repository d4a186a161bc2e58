"""Computing: the transforms that look at a row through expressions: map, and filter by `where`."""

from __future__ import annotations

from collections.abc import Mapping

from engine.components.transforms.each import Value, each
from engine.expression.compiled import Expression
from engine.expression.values import Failed, truth


class _NoValue(Exception):
    """Which member has no value for a row, and why."""


class Map:
    """Gives members the values of expressions; all are computed from the row as it came."""

    def __init__(self, expressions: Mapping[str, str]) -> None:
        self._expressions = {name: Expression(text) for name, text in expressions.items()}

    def apply(self, values: list[Value]) -> list[Value | None]:
        """Raises PartialFailure for rows for which an expression has no value."""
        return each(values, self._mapped, name="map ", failing=_NoValue)

    def _mapped(self, row: Value) -> Value:
        made = dict(row)
        for name, expression in self._expressions.items():
            try:
                made[name] = expression(row)
            except Failed as exc:
                raise _NoValue(f"`{name}`: {exc}") from exc
        return made


class Where:
    """Keeps rows for which an expression is true; one that is neither true nor false is a failure of its row."""

    def __init__(self, expression: str) -> None:
        self._holds = Expression(expression)

    def apply(self, values: list[Value]) -> list[Value | None]:
        """None for each row that does not pass; PartialFailure for those about which nothing can be said."""
        return each(values, self._kept, name="filter: ", failing=Failed)

    def _kept(self, row: Value) -> Value | None:
        return row if truth(self._holds(row)) else None
