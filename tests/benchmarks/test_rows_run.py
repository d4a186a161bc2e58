"""Every row of the benchmarks runs in its smallest size, audits included; nothing is timed."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import command
from benchmarks.chart import render
from benchmarks.rounds import TINY, Contestant, Failed, absent, interleave
from benchmarks.row import Missing, Reading

OURS_ALONE = {"P12"}


@pytest.mark.parametrize("row_id", command.PROGRAMS)
def test_a_row_runs_and_tells(row_id: str) -> None:
    """The engine's own figures are there, and whoever of the others is not says what it needs."""
    row, measure = command.program(row_id)
    answer = json.loads(json.dumps(command.one(row, measure, TINY)))

    ours = {goal["ours"] for goal in answer["goals"]}
    contestants = answer["contestants"]
    assert answer["id"] == row_id == row.id
    for name, told in contestants.items():
        assert told.get("missing") or (told["rounds"] == 1 and told["figure"] >= 0)
        assert row_id in OURS_ALONE or name not in ours or "missing" not in told or "too short" in told["missing"]
    ET.fromstring(render({"machine": command.machine(), "is_quick": True, "rows": [answer]}))


def test_every_program_of_a_row_says_which_one_it_is() -> None:
    """The twelve rows have twelve programs, each with its own id, goals, and a law."""
    rows = [command.program(row_id)[0] for row_id in command.PROGRAMS]

    assert [row.id for row in rows] == [f"P{number}" for number in range(1, 13)]
    assert all(row.goals for row in rows)


def test_rounds_start_with_another_contestant_each_time() -> None:
    """Whoever is measured first in one round is not in the next, and the absent are named once."""
    played: list[tuple[int, str]] = []
    present = [Contestant(name, "", {}) for name in ("a", "b")]
    gone = Contestant("c", "", {}, modules=("no_such_module_here",))

    def play(one: Contestant, number: int) -> Reading:
        played.append((number, one.name))
        return Reading(1.0)

    series = interleave([*present, gone], 2, play)

    assert played == [(0, "a"), (0, "b"), (1, "b"), (1, "a")]
    assert len(series["a"]) == 2
    assert isinstance(series["c"], Missing)
    assert "engine[bench]" in series["c"].need


def test_a_missing_program_is_named() -> None:
    """A program of the system that is not there is named too."""
    gone = absent(Contestant("x", "", {}, programs=("no-such-program-here",)))

    assert gone is not None
    assert "no-such-program-here" in gone.need


def test_a_failing_row_does_not_take_the_others_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that fails is told, and the rows after it are measured."""
    found = command.program("P9")

    def fail(_: object) -> dict:
        raise Failed("the books do not balance")

    monkeypatch.setattr(command, "program", lambda row_id: (found[0], fail) if row_id == "P1" else found)
    told: list[str] = []
    answers, failures = command.all_rows(["P1", "P9"], TINY, told.append)

    assert [answer["id"] for answer in answers] == ["P9"]
    assert failures == ["P1 failed: the books do not balance"]


def test_results_that_are_kept_are_whole() -> None:
    """The figures kept beside the programs have every row, and the chart kept beside them is drawn from them."""
    folder = Path(command.__file__).parent
    document = json.loads((folder / "results.json").read_text())

    assert [row["id"] for row in document["rows"]] == list(command.PROGRAMS)
    assert (folder / "chart.svg").read_text() == render(document)
