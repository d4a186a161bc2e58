"""The chart of the benchmarks: well-formed, complete, and the same bytes for the same document."""

import xml.etree.ElementTree as ET

from benchmarks.chart import kept, render
from benchmarks.row import OURS, Goal, Missing, Reading, Row, told

SVG = "{http://www.w3.org/2000/svg}"
GOALS = (
    Goal("at most 2 times <wrk> & more", 2.0, against="wrk"),
    Goal("20 times better", 20.0, against="gone", is_ceiling=False),
)
ROW = Row(id="T1", title="t", unit="µs", goals=GOALS)


def document() -> dict:
    answer = told(ROW, {OURS: [Reading(1.0), Reading(3.0)], "wrk": [Reading(1.0)] * 2, "gone": Missing("a <package>")})
    machine = {"python": "3.11", "system": "Linux", "cores": 2}
    return {"machine": machine, "is_quick": True, "rows": [answer]}


def test_the_drawing_is_well_formed_and_names_every_goal() -> None:
    """An XML reader takes it, and finds each goal, each ratio, and who is missing."""
    root = ET.fromstring(render(document()))

    texts = [node.text or "" for node in root.iter(f"{SVG}text")]
    assert {goal.text for goal in GOALS} <= set(texts)
    assert "missing: a <package>" in texts
    assert len(list(root.iter(f"{SVG}rect"))) == 2


def test_the_same_document_gives_the_same_bytes() -> None:
    """Nothing of the moment or the machine it is drawn on is in it."""
    assert render(document()) == render(document())


def test_a_bar_shows_how_far_a_goal_is_kept() -> None:
    """1 is the goal itself, whichever way it points."""
    assert kept({"bound": 2.0, "is_ceiling": True}, 4.0) == 0.5
    assert kept({"bound": 3.0, "is_ceiling": False}, 6.0) == 2.0
