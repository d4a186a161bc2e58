"""Chart: the ratios of a pass as an SVG drawing; the same document gives the same bytes. No library, no measuring.

    python -m benchmarks.chart RESULTS.json CHART.svg

Each goal is a bar on a logarithmic scale of how far it is kept: 1 is the goal itself, to the right is better than
asked, to the left is worse. The thin line is the range over the rounds. What could not be measured is named and has
no bar.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT, _TOP, _STEP = 960, 470, 110, 64, 22
# The scale ends here on both sides; what lies beyond is drawn at the edge.
_DECADES = 1.5
_COLOURS = {True: "#2f7d4f", False: "#b4472f", None: "#8a8a8a"}


def kept(goal: Mapping[str, Any], ratio: float) -> float:
    """How far a goal is kept by a ratio: above 1 is better than asked."""
    if ratio <= 0:
        return 10**_DECADES
    return goal["bound"] / ratio if goal["is_ceiling"] else ratio / goal["bound"]


def render(document: Mapping[str, Any]) -> str:
    """The drawing."""
    goals = [(row["id"], goal) for row in document["rows"] for goal in row["goals"]]
    height = _TOP + _STEP * len(goals) + 40
    middle = _x(1.0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}">',
        "<style>text { font: 12px sans-serif }</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        '<text x="16" y="24" font-size="15">Goals, and how far they are kept</text>',
        f'<text x="16" y="44" fill="#555555">{escape(_about(document))}</text>',
    ]
    for power in (-1, 0, 1):
        x, label = _x(10.0**power), {-1: "10 × short", 0: "goal", 1: "10 × better"}[power]
        parts.append(f'<line x1="{x}" y1="{_TOP - 6}" x2="{x}" y2="{height - 34}" stroke="#cccccc"/>')
        parts.append(f'<text x="{x}" y="{height - 16}" text-anchor="middle" fill="#555555">{label}</text>')
    for number, (row_id, goal) in enumerate(goals):
        parts += _bar(row_id, goal, _TOP + _STEP * number, middle)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(row_id: str, goal: Mapping[str, Any], y: int, middle: float) -> list[str]:
    colour = _COLOURS[goal["met"]]
    text = y + 12
    parts = [
        f'<text x="16" y="{text}">{escape(row_id)}</text>',
        f'<text x="58" y="{text}">{escape(goal["goal"])}</text>',
    ]
    if goal["ratio"] is None:
        parts.append(
            f'<text x="{middle + 6}" y="{text}" fill="{colour}">{escape("missing: " + goal["missing"])[:90]}</text>'
        )
        return parts
    end = _x(kept(goal, goal["ratio"]))
    low, high = sorted(_x(kept(goal, ratio)) for ratio in goal["range"])
    left, width = min(middle, end), round(abs(end - middle), 1)
    parts.append(f'<rect x="{left}" y="{y + 2}" width="{width}" height="12" fill="{colour}"/>')
    parts.append(f'<line x1="{low}" y1="{y + 8}" x2="{high}" y2="{y + 8}" stroke="#222222"/>')
    parts.append(f'<text x="{_WIDTH - 16}" y="{text}" text-anchor="end" fill="{colour}">{goal["ratio"]:.3g}</text>')
    return parts


def _x(value: float) -> float:
    power = max(-_DECADES, min(_DECADES, math.log10(value)))
    return round(_LEFT + (power + _DECADES) / (2 * _DECADES) * (_WIDTH - _LEFT - _RIGHT), 1)


def _about(document: Mapping[str, Any]) -> str:
    machine = document["machine"]
    quick = ", a quick pass: not for quoting" if document["is_quick"] else ""
    return (
        f"Python {machine['python']}, {machine['system']}, {machine['cores']} cores{quick}; medians, lines are ranges"
    )


def main() -> None:
    """Read the JSON, write the drawing."""
    source, target = sys.argv[1:]
    Path(target).write_text(render(json.loads(Path(source).read_text())))


if __name__ == "__main__":
    main()
