"""Computing: the transforms that look at a row through expressions: map, and filter by `where`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.errors import PartialFailure
from engine.expression.compiled import Expression
from engine.expression.values import Failed, truth


class Map:
    """Gives members the values of expressions; all are computed from the row as it came."""

    def __init__(self, expressions: Mapping[str, str]) -> None:
        self._expressions = {name: Expression(text) for name, text in expressions.items()}

    def apply(self, values: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        """Raises PartialFailure for rows for which an expression has no value."""
        results: list[dict[str, Any] | None] = []
        failures: dict[int, str] = {}
        for index, row in enumerate(values):
            made = dict(row)
            for name, expression in self._expressions.items():
                try:
                    made[name] = expression(row)
                except Failed as exc:
                    failures[index] = f"map `{name}`: {exc}"
            results.append(made)
        if failures:
            raise PartialFailure(f"map failed for {len(failures)} records", failures=failures)
        return results


class Where:
    """Keeps rows for which an expression is true; one that is neither true nor false is a failure of its row."""

    def __init__(self, expression: str) -> None:
        self._holds = Expression(expression)

    def apply(self, values: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        """None for each row that does not pass; PartialFailure for those about which nothing can be said."""
        results: list[dict[str, Any] | None] = []
        failures: dict[int, str] = {}
        for index, row in enumerate(values):
            try:
                results.append(row if truth(self._holds(row)) else None)
            except Failed as exc:
                failures[index] = f"filter: {exc}"
                results.append(None)
        if failures:
            raise PartialFailure(f"filter failed for {len(failures)} records", failures=failures)
        return results
