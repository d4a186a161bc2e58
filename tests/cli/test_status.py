"""How pipelines stand, what is different between two runs, and what a shell completes."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from engine.cli.main import VERBS
from engine.cli.status import standing_of
from engine.errors import Exit
from engine.store.reading import Glance


@pytest.fixture
def ran(spawn, folder):
    """Run the pipeline to its end with these words before and after; answers the run's JSON line."""

    def run(*after: str, before: tuple[str, ...] = ()) -> dict:
        out, told = spawn(*before, "run", "people.toml", "--json", "-q", *after).communicate(timeout=100)
        assert out, told
        return json.loads(out)

    return run


def _standing(engine, *words) -> dict:
    return json.loads(engine("status", "people", "--json", *words).stdout)


def test_no_ledger_is_said(engine) -> None:
    """Where nothing ever ran, that is what is said, with what to type."""
    answer = engine("status")

    assert (answer.exit_code, "run a pipeline first" in answer.stderr) == (Exit.USAGE, True)


def test_a_run_is_seen_while_it_runs_and_after_it_was_stopped_and_ended(engine, spawn, folder, ran) -> None:
    """Beside a working engine the state is `running`; then `stopped` with open jobs and the next step; then `done`."""
    process = spawn("--set", "platform.emulator.latency=10m", "run", "people.toml", "--json")
    for line in process.stderr:
        if "resume" in line:
            break
    while "submitted" not in engine("jobs", "ls", "people").stdout:
        assert process.poll() is None

    running = _standing(engine)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    stopped, told = _standing(engine), engine("status").stdout

    assert (running["state"], running["open_jobs"]["submitted"] >= 1) == ("running", True)
    assert running["idle_s"] < 15
    assert (stopped["state"], stopped["idle_s"], stopped["run"]["open"] > 0) == ("stopped", None, True)
    assert "people: continue with  engine run " in told

    ran("--fresh")
    done = _standing(engine)
    assert (done["state"], done["run"]["accepted"]) == ("done", 25)


def test_a_killed_run_is_unfinished(engine, spawn, folder) -> None:
    """Of a process that was killed there is no sign of life, and nobody holds it for running for ever."""
    process = spawn("--set", "platform.emulator.latency=10m", "run", "people.toml")
    for line in process.stderr:
        if "resume" in line:
            break
    process.kill()
    process.communicate(timeout=60)

    with Glance(folder / ".engine" / "people") as glance:
        alive_ns = glance.alive_ns(glance.runs(limit=1)[0].run_id)
        assert alive_ns is not None
        assert standing_of(glance, now_ns=alive_ns + 5_000_000_000).state == "running"
        assert standing_of(glance, now_ns=alive_ns + 60_000_000_000).state == "unfinished"


def test_dead_letters_and_jobs_are_counted(engine, folder, ran) -> None:
    """Letters that wait are counted; the table shows them at a glance."""
    with (folder / "people.ndjson").open("a") as rows:
        rows.write("no json\n")
    ran()

    assert _standing(engine)["dead_letters"] == 1
    head, line = engine("status", "people.toml").stdout.splitlines()
    assert head.split()[:3] == ["PIPELINE", "STATE", "STARTED"]
    assert line.split()[:2] == ["people", "over_budget"] or line.split()[:2] == ["people", "done"]


def test_two_runs_are_compared(engine, folder, ran) -> None:
    """What is different is shown with its change, dead letters by code; what is alike is not."""
    first = ran()
    with (folder / "people.ndjson").open("a") as rows:
        rows.write('{"external_id": "p99"}\nno json\n')
    second = ran("--fresh")

    told = json.loads(engine("runs", "diff", first["run_id"], second["run_id"], "--json").stdout)
    lines = engine("runs", "diff", first["run_id"], "people").stdout.splitlines()

    assert told["read"] == {"first": 25, "second": 27}
    assert told["dead letters record.json"] == {"first": None, "second": 1}
    assert not {"pipeline", "filtered", "open"} & set(told)
    assert next(line.split() for line in lines if line.startswith("read")) == ["read", "25", "27", "+2"]
    assert engine("runs", "diff", "people", "people", "--json").stdout.strip() == "{}"


def test_a_run_that_is_not_there_cannot_be_compared(engine, ran) -> None:
    """A name that is no run is said, with exit 2."""
    ran()

    assert engine("runs", "diff", "people", "nobody").exit_code == Exit.USAGE


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed_and_is_one(engine, shell, tmp_path) -> None:
    """The script asks this program by the variable it listens to; a shell that is installed can read it."""
    script = engine("completion", shell).stdout

    assert f"_ENGINE_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        assert subprocess.run([shell, "-n", str(tmp_path / "script")], check=False).returncode == 0


@pytest.mark.parametrize(
    ("typed", "offered"), [("", set(VERBS)), ("pl", {"plan"}), ("runs d", {"diff"}), ("check --f", {"--format"})]
)
def test_what_is_completed_is_what_there_is(typed, offered) -> None:
    """Verbs, verbs of a group and options are offered by what was typed."""
    words = ["engine", *typed.split(" ")]
    asked = {"_ENGINE_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    answer = subprocess.run(
        [sys.executable, "-m", "engine"], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )

    assert {line.partition(",")[2] for line in answer.stdout.splitlines()} == offered
