"""`engine tap`: rows of a run at work, seen from another process, without what a secret or a mask hides."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from engine.jobs.tap import STAGES, Onlooker, Sighting, Tap
from engine.runtime.showing import Show
from engine.runtime.tapping import NAME
from engine.telemetry.redact import Redactor
from tests.runtime.process import engine, finish, start

_KEY = "a-key-that-nobody-may-see"
_PIPELINE = """\
version = 1
name = "watched"

[source]
type = "ndjson"
paths = ["-"]
key = "id"

[[transform]]
type = "rename"
fields = { mail = "email" }

[[transform]]
type = "mask"
fields = ["email"]
how = "hash"
secret = "${secret:env:MASK_KEY}"

[job]
kind = "import.bulk"

[job.payload]
mapping = { id = "external_id", name = "label" }

[sink]
type = "ndjson"
path = "out"
"""


def _answers(path: Path) -> bool:
    """Whether somebody listens there already; between the file and its rights nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What four onlookers saw of one run, by stage: its input is a pipe, and rows come once all of them look."""
    folder = tmp_path_factory.mktemp("tapped")
    (folder / "watched.toml").write_text(_PIPELINE)
    run = start(["run", "watched.toml"], cwd=folder, stdin=subprocess.PIPE, MASK_KEY=_KEY)
    assert run.stdin is not None
    while not _answers(folder / ".engine" / "watched" / NAME):
        assert run.poll() is None
    assert (folder / ".engine" / "watched" / NAME).stat().st_mode & 0o777 == 0o600
    looks = {stage: start(["tap", stage, "watched", "--limit", "3", "--json"], cwd=folder) for stage in STAGES}
    looks["where"] = start(["tap", "planned", "--where", "name == 'N7'", "--limit", "0"], cwd=folder)
    for look in looks.values():
        assert look.stderr is not None
        assert look.stderr.readline() == "looking at watched\n"
    rows = [{"id": f"r{n}", "mail": f"r{n}@example.org", "name": f"N{n}", "note": _KEY} for n in range(20)]
    run.stdin.write("".join(json.dumps(row) + "\n" for row in rows))
    run.stdin.close()
    run.stdin = None
    ended = {name: finish(look) for name, look in looks.items()}
    assert finish(run)[0] == 0
    assert not (folder / ".engine" / "watched" / NAME).exists()
    assert {code for code, _, _ in ended.values()} == {0}
    assert not [name for name, (_, out, _) in ended.items() if _KEY in out or "@example.org" in out]
    found: dict[str, Any] = {stage: [json.loads(line) for line in ended[stage][1].splitlines()] for stage in STAGES}
    return {**found, "where": ended["where"][1].splitlines()}


def test_rows_are_seen_at_each_stage(seen: dict[str, list[dict[str, Any]]]) -> None:
    """As many as were asked for, each with its place: the line of the input, the job, the part."""
    assert {stage: len(seen[stage]) for stage in STAGES} == dict.fromkeys(STAGES, 3)
    assert len({line["line"] for line in seen["read"]}) == 3
    assert {line["job"] for line in [*seen["planned"], *seen["results"]]} == {"1/1"}
    assert seen["planned"][0]["row"]["name"].startswith("N")
    assert seen["results"][0]["row"]["status"] == "created"
    assert seen["landed"][0]["part"] == 1
    assert seen["landed"][0]["row"]["external_id"].startswith("r")


def test_what_is_masked_is_masked_before_it_is_read_too(seen: dict[str, list[dict[str, Any]]]) -> None:
    """The field had another name when it was read; a secret of the configuration is found in any field."""
    row = seen["read"][0]["row"]
    assert (row["mail"], row["note"]) == ("***", "***")
    assert row["name"].startswith("N")
    assert len(seen["planned"][0]["row"]["email"]) == 32


def test_rows_are_chosen_by_an_expression(seen: dict[str, list[Any]]) -> None:
    """One row of twenty is what was looked for; without a limit the end of the run ends it."""
    [line] = seen["where"]
    assert line.startswith("watched  job 1/1  {")
    assert '"name": "N7"' in line


def test_nobody_at_work_is_said(tmp_path: Path) -> None:
    """Without a run, and with the socket that a killed one left: exit 2, and where to look."""
    (tmp_path / ".engine" / "gone").mkdir(parents=True)
    assert engine(["tap", "read"], cwd=tmp_path)[0] == 2
    (tmp_path / ".engine" / "gone" / NAME).touch()
    code, out, err = engine(["tap", "read", "gone"], cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "no run of gone works" in err


def test_an_expression_that_is_none_is_refused(tmp_path: Path) -> None:
    """Before anybody is asked."""
    code, _, err = engine(["tap", "read", "--where", "id =="], cwd=tmp_path)
    assert code == 2
    assert "--where" in err


@pytest.mark.anyio
async def test_a_slow_onlooker_costs_the_run_nothing() -> None:
    """What he does not take is dropped and counted, and what is held for him is bounded."""
    tap, slow = Tap(), Onlooker("read", 4)
    assert "read" not in tap.wanted
    assert tap.admit(slow)
    assert tap.wanted == {"read"}
    for _ in range(1000):
        tap.offer(Sighting(stage="read", texts=[b'{"id":1}'] * 100))
        tap.offer(Sighting(stage="planned", texts=[b"{}"]))
    tap.offer(Sighting(stage="read", texts=[b"x" * 5_000_000], is_window=True))
    taken = 0
    tap.end()
    while (sighting := await slow.take()) is not None:
        taken += 1
        assert len(sighting.texts) == 4
    assert taken + slow.dropped == 1001
    assert taken < 100
    tap.dismiss(slow)
    assert not tap.wanted


def test_only_so_many_look_on() -> None:
    """A ninth onlooker is turned away."""
    tap = Tap()
    assert [tap.admit(Onlooker("read", 1)) for _ in range(9)] == [True] * 8 + [False]


@pytest.mark.parametrize("window", [b'[{"a":1},{"a":2}]', b'{"a":1}\n{"a":2}\n'])
def test_a_window_is_shown_row_by_row(window: bytes) -> None:
    """An array of rows, or a row a line."""
    show = Show("p", Redactor(), hides=True)
    lines = show.lines(Sighting(stage="results", texts=(window,), is_window=True), rows=9, dropped=2).splitlines()
    assert [json.loads(line)["row"]["a"] for line in lines] == [1, 2]
    assert json.loads(lines[0])["dropped"] == 2


def test_what_is_no_json_is_text() -> None:
    """A line of a CSV part, bytes that are not UTF-8, and the beginning of a row that is very long."""
    show = Show("p", Redactor(["hush-hush"]), hides=False)
    texts = [b"1,Ada", b"\xff", b"[" * 100_000, b'"' + b"a" * 20_000 + b'hush-hush"']
    lines = show.lines(Sighting(stage="landed", texts=texts), rows=9, dropped=0).splitlines()
    rows = [json.loads(line)["row"] for line in lines]
    assert rows[:2] == ["1,Ada", "\ufffd"]
    assert all(len(row) < 17_000 for row in rows)
    assert "hush" not in str(rows)
