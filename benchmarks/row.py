"""Row: what one benchmark promises, and what its figures say of the promise. Pure arithmetic; nothing is measured here.

A contestant has one figure for each round. Ratios are taken round by round, because what disturbs a machine disturbs
the neighbours of one round alike; the median of the ratios is judged, and their range is told with it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

OURS = "engine"


class Missing(NamedTuple):
    """A contestant that could not start, and what would let it."""

    need: str


class Reading(NamedTuple):
    """One contestant in one round: the figure its row compares, and what is told beside it."""

    figure: float
    cpu_us_per_unit: float | None = None
    peak_mib: float | None = None


Readings = list[Reading] | Missing


class Goal(NamedTuple):
    """A bound on one ratio.

    With `against` the ratio compares two contestants: `ours` over theirs where it must be at most the bound, and how
    many times better `ours` is where it must be at least that. Without it, `ours` is held to the bound itself.
    """

    text: str
    bound: float
    against: str | None = None
    is_ceiling: bool = True
    ours: str = OURS


class Row(NamedTuple):
    """One row of the table. `peer` and `limit` name the contestants that are shown in those columns."""

    id: str
    title: str
    unit: str
    goals: tuple[Goal, ...]
    peer: str | None = None
    limit: str | None = None
    is_rate: bool = False
    note: str = ""


class Verdict(NamedTuple):
    """What came of one goal; the figures are None where somebody was missing, whom `missing` then names."""

    goal: Goal
    ratio: float | None
    low: float | None
    high: float | None
    missing: str | None

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the bound; None when it could not be measured."""
        if self.ratio is None:
            return None
        return self.ratio <= self.goal.bound if self.goal.is_ceiling else self.ratio >= self.goal.bound


def ratios(row: Row, goal: Goal, series: Mapping[str, Readings]) -> list[float] | Missing:
    """The ratio of each round, or who is missing."""
    ours = series.get(goal.ours, Missing(f"{goal.ours} was not measured"))
    if isinstance(ours, Missing):
        return ours
    if goal.against is None:
        return [reading.figure for reading in ours]
    theirs = series.get(goal.against, Missing(f"{goal.against} was not measured"))
    if isinstance(theirs, Missing):
        return theirs
    pairs = [(our.figure, their.figure) for our, their in zip(ours, theirs, strict=True)]
    if goal.is_ceiling or row.is_rate:
        return [our / their for our, their in pairs]
    return [their / our for our, their in pairs]


def judge(row: Row, goal: Goal, series: Mapping[str, Readings]) -> Verdict:
    """Hold one goal to the figures."""
    found = ratios(row, goal, series)
    if isinstance(found, Missing):
        return Verdict(goal, None, None, None, found.need)
    return Verdict(goal, statistics.median(found), min(found), max(found), None)


def median(readings: Readings | None) -> float | None:
    """The median figure of a contestant that took part."""
    if readings is None or isinstance(readings, Missing):
        return None
    return statistics.median(reading.figure for reading in readings)


def told(row: Row, series: Mapping[str, Readings]) -> dict[str, Any]:
    """A row as the object that `--json` writes; the first goal is the one of the row, the others are under `goals`."""
    verdicts = [judge(row, goal, series) for goal in row.goals]
    first = verdicts[0]
    states = [verdict.met for verdict in verdicts]
    return {
        "id": row.id,
        "title": row.title,
        "unit": row.unit,
        "ours": median(series.get(first.goal.ours)),
        "peer": None if row.peer is None else median(series.get(row.peer)),
        "limit": None if row.limit is None else median(series.get(row.limit)),
        "ratio": first.ratio,
        "range": None if first.ratio is None else [first.low, first.high],
        "goal": first.goal.text,
        # Nothing is met by not being measured, and one goal that is not met is enough.
        "met": False if False in states else None if None in states else True,
        "goals": [_verdict(verdict) for verdict in verdicts],
        "contestants": {name: _contestant(readings) for name, readings in series.items()},
        "note": row.note,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    goal = verdict.goal
    return {
        "goal": goal.text,
        "ours": goal.ours,
        "against": goal.against,
        "bound": goal.bound,
        "is_ceiling": goal.is_ceiling,
        "ratio": verdict.ratio,
        "range": None if verdict.ratio is None else [verdict.low, verdict.high],
        "met": verdict.met,
        "missing": verdict.missing,
    }


def _contestant(readings: Readings) -> dict[str, Any]:
    if isinstance(readings, Missing):
        return {"missing": readings.need}
    return {
        "figure": median(readings),
        "range": [min(one.figure for one in readings), max(one.figure for one in readings)],
        "rounds": len(readings),
        "cpu_us_per_unit": _middle([one.cpu_us_per_unit for one in readings]),
        "peak_mib": _middle([one.peak_mib for one in readings]),
    }


def _middle(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return statistics.median(known) if known else None
