"""Row by row: what transforms do that look at each record alone, and keep its failure apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.errors import PartialFailure

Value = dict[str, Any]


def each(
    values: list[Value], work: Callable[[Value], Value | None], *, name: str, failing: type[Exception]
) -> list[Value | None]:
    """What `work` makes of each record; None filters it.

    Raises:
        PartialFailure: for records on which it raised `failing`; the reason begins with the transform's name.
    """
    results: list[Value | None] = []
    failures: dict[int, str] = {}
    for index, value in enumerate(values):
        try:
            results.append(work(value))
        except failing as exc:
            failures[index] = f"{name}{exc}"
            results.append(None)
    if failures:
        raise PartialFailure(f"{len(failures)} records could not be transformed", failures=failures)
    return results
