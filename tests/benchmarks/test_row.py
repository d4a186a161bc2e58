"""Rows of the benchmarks: ratios, verdicts, and the object that `--json` writes."""

import json

import pytest

from benchmarks.row import OURS, Goal, Missing, Reading, Row, judge, ratios, told
from benchmarks.table import lines_of

WRK = Goal("at most 2 times wrk", 2.0, against="wrk")
COST = Row(id="T1", title="t", unit="µs", goals=(WRK,), peer="wrk", limit="wrk")
FASTER = Goal("3 times better", 3.0, against="wrk", is_ceiling=False)


def readings(*figures: float) -> list[Reading]:
    return [Reading(figure) for figure in figures]


@pytest.mark.parametrize(
    ("row", "goal", "expected"),
    [
        (COST, COST.goals[0], [2.0, 3.0]),
        (COST, FASTER, [0.5, 1 / 3]),
        (COST._replace(is_rate=True), FASTER, [2.0, 3.0]),
        (COST._replace(is_rate=True), COST.goals[0], [2.0, 3.0]),
    ],
    ids=[
        "a cost under a ceiling",
        "a cost that must be better",
        "a rate that must be better",
        "a rate under a ceiling",
    ],
)
def test_ratios_are_taken_round_by_round(row: Row, goal: Goal, expected: list[float]) -> None:
    """Each round has a ratio of its own, in the direction its goal asks for."""
    series = {OURS: readings(10.0, 30.0), "wrk": readings(5.0, 10.0)}

    assert ratios(row, goal, series) == pytest.approx(expected)


def test_the_median_is_judged_and_the_range_is_told() -> None:
    """One bad round neither breaks nor keeps a goal, and is seen."""
    verdict = judge(COST, COST.goals[0], {OURS: readings(1.0, 1.5, 9.0), "wrk": readings(1.0, 1.0, 1.0)})

    assert (verdict.ratio, verdict.low, verdict.high, verdict.met) == (1.5, 1.0, 9.0, True)


def test_a_goal_without_a_peer_is_held_to_its_bound() -> None:
    """An absolute goal compares the figure itself."""
    verdict = judge(COST, Goal("at most 150 ms", 150.0), {OURS: readings(151.0)})

    assert (verdict.ratio, verdict.met) == (151.0, False)


def test_who_is_missing_is_named_and_nothing_is_met() -> None:
    """A peer that is not installed leaves its goal unmeasured, and says what to install."""
    answer = told(COST, {OURS: readings(1.0), "wrk": Missing("the program wrk")})

    assert (answer["met"], answer["ratio"], answer["goals"][0]["missing"]) == (None, None, "the program wrk")
    assert answer["contestants"]["wrk"] == {"missing": "the program wrk"}
    assert "missing: the program wrk" in "\n".join(lines_of(answer | {"seconds": 0.1}))


def test_one_goal_that_is_not_met_is_enough() -> None:
    """A row with several goals is met only with all of them."""
    row = COST._replace(goals=(*COST.goals, FASTER))
    answer = told(row, {OURS: readings(1.0), "wrk": readings(2.0)})

    assert [goal["met"] for goal in answer["goals"]] == [True, False]
    assert answer["met"] is False


def test_the_object_of_a_row_has_the_promised_members() -> None:
    """`--json` writes id, ours, peer, limit, ratio, goal, met and the range, as plain JSON."""
    reading = Reading(1.0, cpu_us_per_unit=1.0, peak_mib=40.0)
    answer = json.loads(json.dumps(told(COST, {OURS: [reading], "wrk": readings(2.0)})))

    assert {name: answer[name] for name in ("id", "ours", "peer", "limit", "ratio", "goal", "met", "range")} == {
        "id": "T1", "ours": 1.0, "peer": 2.0, "limit": 2.0, "ratio": 0.5, "goal": "at most 2 times wrk", "met": True,
        "range": [0.5, 0.5],
    }  # fmt: skip
    assert (answer["contestants"][OURS]["cpu_us_per_unit"], answer["contestants"][OURS]["peak_mib"]) == (1.0, 40.0)
