"""`engine jobs cancel|reattach|reap`: jobs given up, taken back, and remote jobs that nobody knows."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Exit
from tests.runtime.process import ask, engine, finish, rows_in, standing_emulator, start

_PIPELINE = """
version = 1
name    = "NAME"
[source]
type  = "ndjson"
paths = ["NAME.ndjson"]
key   = "id"
[job]
kind  = "import.bulk"
batch = { rows = 10 }
retry = { attempts = 1 }
timeout = "30s"
[job.payload]
entity_type = "location"
mapping     = { id = "external_id", name = "label" }
[sink]
type   = "ndjson"
path   = "out-NAME"
"""


class _Cli:
    """Pipelines in a folder, and a platform."""

    def __init__(self, directory: Path, url: str) -> None:
        self.directory = directory
        self.extra = {"ENGINE__PLATFORM__EMULATOR__URL": url}

    def add(self, name: str, rows: int) -> None:
        (self.directory / f"{name}.toml").write_text(_PIPELINE.replace("NAME", name))
        lines = (json.dumps({"id": f"{name}-{n}", "name": f"Row {n}"}) for n in range(rows))
        (self.directory / f"{name}.ndjson").write_text("\n".join(lines) + "\n")

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        return engine(arguments, cwd=self.directory, **self.extra)

    def ok(self, *arguments: str) -> str:
        code, out, err = self(*arguments)
        assert code == 0, err
        return out

    def struck(self) -> int:
        """How often the fault of this platform has struck."""
        url = self.extra["ENGINE__PLATFORM__EMULATOR__URL"]
        return int(ask(f"{url}/__emulator/faults")["faults"][0]["struck"])

    def jobs(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.ok("jobs", "ls", name, "--json").splitlines()]

    def rows(self, name: str) -> list[str]:
        return sorted(row["external_id"] for row in rows_in(self.directory / f"out-{name}"))

    def all_rows(self, name: str, rows: int) -> list[str]:
        return sorted(f"{name}-{n}" for n in range(rows))


@pytest.fixture
def faults(tmp_path: Path) -> Path:
    """The fault script of the platform; a test writes it through `platform`."""
    return tmp_path / "faults.toml"


@pytest.fixture
def platform(faults: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """A platform of the test's own, with the faults its parameter names."""
    faults.write_text(getattr(request, "param", ""))
    with standing_emulator("--latency", "0.2s", "--seed", "1", "--faults", str(faults)) as ready:
        yield ready


@pytest.fixture
def cli(platform: dict[str, Any], tmp_path: Path) -> _Cli:
    """The verbs."""
    return _Cli(tmp_path, platform["url"])


# Long enough to be found running, short enough for the tests: a running job is cancelled when it would have ended.
_SLOW = '[[fault]]\nat = "job.duration"\nseconds = 4\ncount = 2\n'
_STUCK = '[[fault]]\nat = "job.duration"\nseconds = 600\n'


def _left_behind(cli: _Cli, name: str, rows: int) -> None:
    """Stop a run while its jobs are at the platform."""
    cli.add(name, rows)
    process = start(["run", f"{name}.toml", "--json"], cwd=cli.directory, **cli.extra)
    ledger = cli.directory / ".engine" / name / "ledger.sqlite"
    # Whatever became of them since: one that is not slow may be over before the last is known to be submitted.
    while _submitted(ledger) < rows // 10:
        assert process.poll() is None
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.01)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process)
    assert code == Exit.INTERRUPTED, err


def _submitted(ledger: Path) -> int:
    """How many jobs the ledger knows to be at the platform, ended or not; none while its tables are being made."""
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
        return int(db.execute("SELECT count(*) FROM jobs WHERE remote_id IS NOT NULL").fetchone()[0])
    return 0


@pytest.mark.parametrize("platform", [_SLOW], indirect=True)
def test_cancelled_jobs_are_dead_letters_of_the_next_run(cli: _Cli) -> None:
    """The platform is told, the ledger says so, and the rows can be replayed."""
    _left_behind(cli, "a", 20)
    assert cli.struck() == 2
    told = cli.ok("jobs", "cancel", "a")
    assert re.fullmatch(r"a: 2 (cancelled|being cancelled)|a: 1 cancelled · 1 being cancelled", told.strip())
    report = json.loads(cli("run", "a.toml", "--json")[1])
    assert (report["read"], report["dead"], report["open"]) == (20, 20, 0)
    assert {letter["code"] for letter in map(json.loads, cli.ok("dlq", "ls", "a", "--json").splitlines())} == {
        "job.cancelled"
    }
    assert "no job of it is at the platform" in cli.ok("jobs", "cancel", "a")
    assert json.loads(cli.ok("dlq", "replay", "a", "--all", "--json"))["accepted"] == 20
    assert cli.rows("a") == cli.all_rows("a", 20)


@pytest.mark.parametrize("platform", [_SLOW], indirect=True)
def test_one_job_is_cancelled_to_be_made_again(cli: _Cli) -> None:
    """With --again the next run sends the rows of that job anew; the other jobs are not touched."""
    _left_behind(cli, "b", 30)
    stuck = sorted(cli.jobs("b"), key=lambda job: job["submitted_ns"])[:2]
    assert cli.struck() == 2
    told = json.loads(cli.ok("jobs", "cancel", *(job["remote_id"] for job in stuck), "--again", "--json"))
    assert told["cancelled"] + told["asked"] + told["ended"] == 2
    report = json.loads(cli.ok("run", "b.toml", "--json"))
    assert (report["accepted"], report["dead"], report["open"]) == (30, 0, 0)
    assert cli.rows("b") == cli.all_rows("b", 30)


_LOSE_ROWS = '[[fault]]\nat = "result.rows"\ndrop = 1\ncount = 1\n'


@pytest.mark.parametrize("platform", [_LOSE_ROWS], indirect=True)
def test_a_job_that_did_not_balance_is_fetched_again(cli: _Cli) -> None:
    """Exit 6, and nothing of it is committed; re-attached, the next run asks for it again and says what it finds."""
    cli.add("c", 20)
    code, out, err = cli("run", "c.toml", "--json")
    assert code == Exit.UNBALANCED, err
    (job,) = [job for job in cli.jobs("c") if job["state"] == "succeeded"]
    assert "is succeeded again" in cli.ok("jobs", "reattach", job["remote_id"], "--refetch")
    assert "is submitted again" in cli.ok("jobs", "reattach", job["remote_id"])
    assert cli.struck() == 1
    code, out, _ = cli("run", "c.toml", "--json")
    again = json.loads(out)
    assert (code, again["open"], again["resumed"]) == (Exit.UNBALANCED, 10, 1)
    assert any("9 answered" in line or "holds 9" in line for line in again["lines"])
    (done, *_) = [job for job in cli.jobs("c") if job["state"] == "committed"]
    code, _, err = cli("jobs", "reattach", done["remote_id"])
    assert code != 0
    assert "its rows have landed" in err


def test_a_dead_job_is_taken_back_with_its_rows(cli: _Cli, tmp_path: Path) -> None:
    """A job given up at its deadline that the platform finished after all: its letters go, its rows arrive once."""
    cli.add("d", 20)
    assert cli("run", "d.toml", "--json")[0] == 0
    _bury(tmp_path, "d", seq=1)
    assert len(cli.ok("dlq", "ls", "d", "--json").splitlines()) == 10
    told = cli.ok("jobs", "reattach", "1")
    assert "10 dead letters dropped; the next run goes on with it" in told
    report = json.loads(cli.ok("run", "d.toml", "--json"))
    assert (report["read"], report["accepted"], report["open"]) == (20, 20, 0)
    assert cli.ok("dlq", "ls", "d", "--json") == ""


def _bury(directory: Path, name: str, *, seq: int) -> None:
    """Make a committed job one that was given up, as if its result had never been read."""
    with sqlite3.connect(directory / ".engine" / name / "ledger.sqlite") as db:
        db.execute("UPDATE jobs SET state='dead', accepted=0, dead=rows, part=NULL WHERE seq=?", (seq,))
        remote, run_id = db.execute("SELECT remote_id, run_id FROM jobs WHERE seq=?", (seq,)).fetchone()
        db.executemany(
            "INSERT INTO dead_letters (run_id, epoch, seq, bucket, stage, code, reason, input, line, start,"
            ' "end", key, raw, remote_id, created_ns)'
            " VALUES (?, 1, ?, 'dead', 'job', 'job.timed_out', 'late', 'x', 1, 0, 1, ?, ?, ?, 1)",
            [(run_id, seq, f"{name}-{n}", b"{}", remote) for n in range(10)],
        )
    db.close()


@pytest.mark.parametrize("platform", [_STUCK], indirect=True)
def test_jobs_nobody_knows_are_listed_and_cancelled_when_confirmed(cli: _Cli, tmp_path: Path) -> None:
    """Jobs of any ledger here are never listed; the others only go by the token of exactly that list."""
    _left_behind(cli, "e", 20)
    assert cli.struck() == 2
    payload = '{"kind":"import.bulk","payload":{"entity_type":"location","source":{"inline":[{"external_id":"x"}]}}}'
    orphans = {json.loads(cli.ok("call", "jobs.create", payload))["id"] for _ in range(2)}
    assert cli.ok("jobs", "reap", "--json") == "", "younger than an hour"
    code, out, err = cli("jobs", "reap", "--older-than", "0s", "--json")
    assert {json.loads(line)["id"] for line in out.splitlines()} == orphans
    token = re.search(r"--confirm (\w+)", err)
    assert token
    code, _, err = cli("jobs", "reap", "--older-than", "0s", "--confirm", "0badc0de")
    assert code != 0
    assert "nothing was cancelled" in err
    code, _, err = cli("jobs", "reap", "--older-than", "0s", "--confirm", token.group(1))
    assert (code, "2 jobs cancelled" in err) == (0, True)
    assert len([job for job in cli.jobs("e") if job["state"] == "submitted"]) == 2
    remote = json.loads(cli.ok("call", "jobs.get", json.dumps({"id": min(orphans)})))
    assert remote["status"] in ("cancelled", "running", "queued")
