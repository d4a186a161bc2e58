"""Table: a row's object as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MET = {True: "met", False: "NOT MET", None: "not measured"}


def lines_of(answer: Mapping[str, Any]) -> list[str]:
    """The row's head, its contestants, its goals."""
    lines = [f"{answer['id']}  {answer['title']}  [{answer['unit']}, {answer['seconds']} s]"]
    lines += [f"    {name:<34} {_contestant(told)}" for name, told in answer["contestants"].items()]
    lines += [f"  {_MET[goal['met']]:>12}  {goal['goal']}: {_ratio(goal)}" for goal in answer["goals"]]
    if answer["note"]:
        lines.append(f"                {answer['note']}")
    return lines


def figure(value: float | None) -> str:
    """A figure with three digits that say something."""
    if value is None:
        return "-"
    if value == 0 or 0.1 <= abs(value) < 1000:
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2g}"


def _contestant(told: Mapping[str, Any]) -> str:
    if "missing" in told:
        return f"missing: {told['missing']}"
    low, high = told["range"]
    more = [f"{figure(told['cpu_us_per_unit'])} CPU µs per unit"] if told["cpu_us_per_unit"] else []
    more += [f"peak {figure(told['peak_mib'])} MiB"] if told["peak_mib"] else []
    return f"{figure(told['figure']):>9} [{figure(low)} – {figure(high)}]  {', '.join(more)}"


def _ratio(goal: Mapping[str, Any]) -> str:
    if goal["ratio"] is None:
        return f"missing: {goal['missing']}"
    low, high = goal["range"]
    whose = f"{goal['ours']} against {goal['against']}" if goal["against"] else goal["ours"]
    return f"{figure(goal['ratio'])} [{figure(low)} – {figure(high)}]  ({whose})"
