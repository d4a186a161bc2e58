"""`engine runs show` of a pipeline that runs in several processes: one account, whatever its shares did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.store.together import OneRun, note_together, noted_together
from tests.runtime.process import engine, report_of

_PIPELINE = """\
version = 1
name = "shared"

[source]
type = "ndjson"
paths = ["in-*.ndjson"]
key = "id"

[[transform]]
type = "cast"
fields = { age = "int" }

[sink]
type = "ndjson"
path = "out"

[dead_letters]
max = "50%"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows for two shares: blocks of an input go round, so two files of several blocks keep both busy."""
    (tmp_path / "shared.toml").write_text(_PIPELINE)
    for name in ("a", "b"):
        rows = [{"id": f"{name}{n}", "age": "x" if n == 7 else n, "pad": "·" * 1000} for n in range(200)]
        (tmp_path / f"in-{name}.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def _show(folder: Path, name: str = "shared") -> dict[str, Any]:
    code, out, err = engine(["runs", "show", name, "--json"], cwd=folder)
    assert code == 0, err
    document: dict[str, Any] = json.loads(out)
    return document


def test_shares_are_shown_as_one_run(folder: Path) -> None:
    """Its books are those of the run's own report; later runs are told apart, and so is the run of a single share."""
    run = ["run", "shared.toml", "--processes", "2", "-q", "--json"]
    code, out, err = engine(run, cwd=folder)
    assert code == 0, err
    report, shown = report_of(out), _show(folder)
    books = ("read", "accepted", "rejected", "dead", "filtered", "open", "outcome", "seconds")
    assert {name: shown[name] for name in books} == {name: report[name] for name in books}
    assert (shown["pipeline"], shown["read"], shown["dead"]) == ("shared", 400, 2)
    assert [share["pipeline"] for share in shown["shares"]] == ["shared.1of2", "shared.2of2"]
    assert sum(share["read"] for share in shown["shares"]) == 400
    assert sorted(letter["key"] for letter in shown["dead_letters"]) == ["a7", "b7"]

    code, out, _ = engine(["runs", "show", "shared"], cwd=folder)
    assert (code, out.splitlines()[0]) == (0, "shared  ·  2 shares of one run  ·  epoch 1  ·  done")
    assert _show(folder, shown["shares"][0]["run_id"])["read"] == shown["shares"][0]["read"]

    # A row more is the work of one share; the other has nothing new, and its old run is no part of this one.
    with (folder / "in-a.ndjson").open("a") as file:
        file.write('{"id": "late", "age": 1}\n')
    assert engine(run, cwd=folder)[0] == 0
    later = _show(folder)
    assert (later["read"], len(later["shares"])) == (1, 1)
    assert engine(run, cwd=folder)[0] == 0
    assert _show(folder) == later

    # Without the note the newest run of each share is what can be said.
    (folder / ".engine" / "shared" / "together.json").unlink()
    guessed = _show(folder)
    assert (len(guessed["shares"]), guessed["seconds"], guessed["outcome"]) == (2, None, "done")

    code, out, _ = engine(["runs", "diff", "shared", shown["shares"][0]["run_id"], "--json"], cwd=folder)
    assert code == 0
    assert json.loads(out)["pipeline"] == {"first": "shared", "second": "shared.1of2"}


def test_a_note_that_is_none_is_passed_over(tmp_path: Path) -> None:
    """Absent, damaged, or where no note can be written."""
    assert noted_together(tmp_path) is None
    (tmp_path / "together.json").write_text("{")
    assert noted_together(tmp_path) is None
    note = OneRun(runs={"1of2": "x"}, outcome="done", exit_code=0, seconds=1.0)
    note_together(tmp_path, note)
    assert noted_together(tmp_path) == note
    note_together(tmp_path / "nowhere", note)
