"""Rounds as processes: killed exactly where it hurts, resumed, and audited against an undisturbed run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.chaos.mischief import choose
from engine.chaos.plan import Kill, Place
from engine.chaos.scratch import small_disk
from engine.failpoints import Failpoint
from tests.chaos.conftest import IMPORT, ROOT, PlayRound
from tests.runtime.process import engine, environment, manifest_in, report_of, rows_in, standing_emulator


def _at(*texts: str) -> list[Kill]:
    return [Place(Failpoint(*text.rsplit(" ", 1), 1)) for text in texts]


def test_f01_killed_before_the_first_checkpoint(play_round: PlayRound) -> None:
    """Killed before the first jobs are planned durably, and right after: the run starts, or goes on, from there."""
    tally = play_round(*_at("ledger:planned before", "ledger:planned after"))
    assert (tally.kills, tally.findings) == (2, [])


def test_f03_killed_before_the_job_id_is_stored(play_round: PlayRound) -> None:
    """The platform has answered 201 and the ledger does not know it: the same keys find the same jobs."""
    tally = play_round(*_at("ledger:submitting after", "ledger:submitted before"))
    assert (tally.kills, tally.findings) == (2, [])


def test_f04_killed_while_polling(play_round: PlayRound) -> None:
    """Killed with jobs at the platform, and when the first of them has ended: nothing is created again."""
    tally = play_round(*_at("ledger:submitted after", "ledger:succeeded before", "ledger:succeeded after"))
    assert (tally.kills, tally.findings) == (3, [])


def test_f06_killed_between_the_sink_and_the_commit(play_round: PlayRound) -> None:
    """Killed around each step that makes a part durable, and before it counts: the part is written again, once."""
    steps = [f"sink:{step} {side}" for step in ("fsync", "rename", "dirsync") for side in ("before", "after")]
    tally = play_round(*_at(*steps, "ledger:committed before"))
    assert (tally.kills, tally.findings) == (7, [])


def test_killed_around_the_manifest(play_round: PlayRound) -> None:
    """Killed after the commit and around each step of the manifest: it ends as what the ledger says."""
    steps = [f"manifest:{step} {side}" for step in ("fsync", "rename", "dirsync") for side in ("before", "after")]
    tally = play_round(*_at("ledger:committed after", *steps))
    assert (tally.kills, tally.findings) == (7, [])


def test_f25_killed_between_a_failure_and_the_next_attempt(play_round: PlayRound) -> None:
    """A job that failed and may be tried again is tried again, also by a process that finds it failed."""
    trouble = choose(["jobs that fail once in a while"])
    overrides = dict(trouble[0].overrides)
    tally = play_round(*_at("ledger:failed before", "ledger:failed after"), mischief=trouble, overrides=overrides)
    assert tally.lines["jobs that fail once in a while"].injected > 0
    assert (tally.kills, tally.findings) == (2, [])


def test_f27_bodies_that_break_or_have_a_wrong_byte_cost_no_row(play_round: PlayRound) -> None:
    """Half of the bodies break off, a quarter of the rest has a wrong byte: all rows arrive, none is a dead letter."""
    trouble = choose(["bodies that break off", "bodies with a wrong byte"])
    tally = play_round(mischief=trouble, overrides={"job.batch.rows": "50"})
    assert all(tally.lines[m.name].injected > 0 for m in trouble)
    assert tally.findings == []


def test_f13_the_first_key_set_is_late(play_round: PlayRound) -> None:
    """Every second answer of the JWKS route is 503, so the first set a run needs never comes at once."""
    trouble = choose(["JWKS answers 503"])
    tally = play_round(mischief=trouble)
    assert tally.lines["JWKS answers 503"].injected > 0
    assert tally.findings == []


@pytest.mark.parametrize("name", ["disk full under the ledger", "disk full under the sink"])
def test_f09_a_full_disk_is_survived(name: str, play_round: PlayRound, tmp_path: Path) -> None:
    """The run meets a disk without room, gets room back, and ends as if nothing had been."""
    try:
        with small_disk(tmp_path / "trial", 1024 * 1024):
            pass
    except OSError as exc:
        pytest.skip(f"mount: a tmpfs cannot be mounted here ({exc.strerror})")
    tally = play_round(*_at("ledger:committed after"), mischief=choose([name]))
    assert tally.lines[name].injected == 1
    assert (tally.kills, tally.findings) == (1, [])


@pytest.mark.parametrize("side", ["before", "after"])
def test_killed_at_the_end_of_a_fresh_run_the_old_parts_are_gone(side: str, tmp_path: Path) -> None:
    """Killed around the moment a second epoch is done: the parts of the first never stand beside the new ones."""
    (tmp_path / "pipelines").symlink_to(ROOT / "pipelines")
    with standing_emulator("--latency", "0.05s") as ready:
        where = {"ENGINE__PLATFORM__EMULATOR__URL": ready["url"]}
        words = ["run", str(IMPORT), "--quiet"]
        assert engine(words, cwd=tmp_path, **where)[0] == 0
        killed = engine([*words, "--fresh"], cwd=tmp_path, ENGINE_FAILPOINT=f"ledger:ended:{side}:1", **where)
        assert killed[0] == -signal.SIGKILL
        assert engine(words, cwd=tmp_path, **where)[0] == 0
    assert len(rows_in(tmp_path / "out" / "import")) == 1200
    assert [part["name"] for part in manifest_in(tmp_path / "out" / "import")["parts"]] == ["part-0002-000001.ndjson"]


def _chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine", "chaos", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)


def test_a_short_chaos_over_the_import_pipeline() -> None:
    """Twelve kills and whatever mischief the seed draws: nothing lost, doubled, changed or made twice."""
    answer = _chaos("pipelines/import.toml", "--kills", "12", "--seed", "5", "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    document = report_of(answer.stdout)
    assert document["kills"] >= 12
    assert set(document["totals"].values()) == {0}
    assert document["findings"] == []
    assert sum(line["injected"] for line in document["faults"] if line["fault"].startswith("kill")) == document["kills"]
    assert all(line["survived"] == line["injected"] for line in document["faults"])


def test_the_matrix_is_printed() -> None:
    """`--table` prints a line for each of F01 to F46 and runs nothing."""
    answer = _chaos("--table")
    assert answer.returncode == 0
    assert [line[:3] for line in answer.stdout.splitlines() if line[:1] == "F"] == [f"F{n:02}" for n in range(1, 47)]


def test_a_sink_outside_the_scratch_directory_is_refused() -> None:
    """Chaos never writes where the user's own output is."""
    refused = subprocess.run(
        [sys.executable, "-m", "engine", "--set", "sink.path=../out", "chaos", "pipelines/import.toml"],
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 3
    assert "scratch directory" in refused.stderr
