"""Stopping, dying, resuming: what each signal does, what is said, and what the next run finds."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Exit
from engine.events import JobSubmitted
from engine.runtime.drain import StopFlag
from engine.store.lock import StateLock
from tests.runtime.conftest import Rig
from tests.runtime.process import ask, engine, finish, report_of, rows_in, standing_emulator, start
from tests.runtime.watchers import At

ROWS = 300
_PIPELINE = """
version = 1
name    = "p"
[source]
type  = "ndjson"
paths = ["in.ndjson"]
key   = "id"
[job]
kind  = "import.bulk"
batch = { rows = 10 }
jobs_in_flight = 12
[job.payload]
entity_type = "location"
mapping     = { id = "external_id", name = "label" }
[sink]
type   = "ndjson"
path   = "out"
rotate = { rows = 40 }
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[dict[str, Any]]:
    """A platform whose jobs take long enough to be stopped in."""
    with standing_emulator("--latency", "0.5s", "--seed", "3") as ready:
        yield ready


class _Runs:
    """One pipeline in a folder, started as processes."""

    def __init__(self, directory: Path, url: str, name: str) -> None:
        self.directory, self.name = directory, name
        self.extra = {"ENGINE__PLATFORM__EMULATOR__URL": url}
        (directory / "p.toml").write_text(_PIPELINE.replace('"p"', f'"{name}"'))
        rows = (json.dumps({"id": f"{name}-{number}", "name": f"Row {number}"}) for number in range(ROWS))
        (directory / "in.ndjson").write_text("\n".join(rows) + "\n")

    def start(self, *flags: str) -> Any:
        return start(["run", "p.toml", "--json", *flags], cwd=self.directory, **self.extra)

    def run(self, *flags: str) -> tuple[int, str, str]:
        return finish(self.start(*flags))

    def after_parts(self, process: Any, parts: int) -> None:
        """Wait until so many parts stand in the output directory."""
        out = self.directory / "out"
        while process.poll() is None:
            if out.is_dir() and len(list(out.glob("part-*"))) >= parts:
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.01)
        raise AssertionError(process.communicate()[1])

    def rows(self) -> list[str]:
        return sorted(row["external_id"] for row in rows_in(self.directory / "out"))

    @property
    def all_rows(self) -> list[str]:
        return sorted(f"{self.name}-{number}" for number in range(ROWS))


@pytest.fixture
def runs(emulator: dict[str, Any], tmp_path: Path, request: pytest.FixtureRequest) -> _Runs:
    """A pipeline named after the test."""
    return _Runs(tmp_path, emulator["url"], f"p{zlib.crc32(request.node.name.encode())}")


def _creates(emulator: dict[str, Any]) -> int:
    return int(ask(f"{emulator['url']}/__emulator/books")["creates"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_in_order_within_seconds(
    number: signal.Signals, runs: _Runs, emulator: dict[str, Any]
) -> None:
    """Exit 75 within 5 s, with words on what keeps running and how to go on; the next run says what it found."""
    before = _creates(emulator)
    process = runs.start()
    runs.after_parts(process, 1)
    started = time.monotonic()
    process.send_signal(number)
    code, out, err = finish(process)
    took_s = time.monotonic() - started
    assert code == Exit.INTERRUPTED, err
    assert took_s < 5
    assert re.search(r"stopping: no new jobs · what is on the wire is finished · \d+ remote jobs? keeps? running", err)
    assert re.search(r"committed \d+ of \d+ jobs; nothing will be repeated", err)
    assert "engine run p.toml" in err
    assert report_of(out)["remote_open"] > 0

    code, out, err = runs.run()
    assert code == 0, err
    assert re.search(r"resuming run \S+ \(stopped [\d.:]+ s? ?ago\)", err)
    assert re.search(r"\d+ committed, skipped · \d+ re-attached", err)
    assert report_of(out)["accepted"] == ROWS
    assert runs.rows() == runs.all_rows
    assert _creates(emulator) - before == ROWS // 10


def test_a_second_signal_forces_and_the_ledger_goes_on(runs: _Runs, emulator: dict[str, Any]) -> None:
    """Exit 130 at once; every row is there once after the next run, no job made twice."""
    before = _creates(emulator)
    process = runs.start()
    runs.after_parts(process, 1)
    process.send_signal(signal.SIGINT)
    assert "stopping" in _line_with(process, "stopping")
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    # The first signal may have ended it before the second came.
    assert code in (Exit.FORCED, Exit.INTERRUPTED), err
    code, out, err = runs.run()
    assert code == 0, err
    assert report_of(out)["open"] == 0
    assert runs.rows() == runs.all_rows
    assert _creates(emulator) - before == ROWS // 10


def _line_with(process: Any, word: str) -> str:
    for line in process.stderr:
        if word in line:
            return str(line)
    raise AssertionError(f"the process never said {word!r}")


def test_f01_a_killed_run_is_taken_up_and_says_so(runs: _Runs, emulator: dict[str, Any]) -> None:
    """Killed: the next run says since when there was no life, what it skips, and what it takes up again."""
    process = runs.start()
    runs.after_parts(process, 1)
    process.kill()
    finish(process)
    code, _, err = runs.run()
    assert code == 0, err
    assert re.search(r"resuming run \S+ \(killed about [\d.:]+( s)? ago, no clean shutdown\)", err)
    assert re.search(r"\d+ committed, skipped", err)
    assert runs.rows() == runs.all_rows


def test_aborting_cancels_what_is_at_the_platform_and_loses_nothing(runs: _Runs, emulator: dict[str, Any]) -> None:
    """`--on-stop abort`: exit 75, no job of ours is left there, and the next run makes the cancelled ones again."""
    process = runs.start("--on-stop", "abort")
    runs.after_parts(process, 1)
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert code == Exit.INTERRUPTED, err
    assert "will be cancelled" in err
    assert re.search(r"\d+ remote jobs were cancelled; their rows are sent again by the next run", err)
    report = report_of(out)
    assert (report["rejected"], report["dead"]) == (0, 0)
    code, out, err = runs.run()
    assert code == 0, err
    assert (report_of(out)["accepted"], report_of(out)["dead"], report_of(out)["open"]) == (ROWS, 0, 0)
    assert runs.rows() == runs.all_rows
    code, out, _ = engine(["jobs", "ls", "--json", "--limit", "100"], cwd=runs.directory, **runs.extra)
    assert max(json.loads(line)["attempt"] for line in out.splitlines()) == 2


def test_f35_a_second_process_is_told_who_holds_the_ledger(runs: _Runs) -> None:
    """It is refused with exit 75: which process, on which host, since when."""
    lock = StateLock(runs.directory / ".engine" / runs.name / "lock")
    lock.acquire()
    try:
        code, _, err = runs.run()
    finally:
        lock.release()
    assert code == Exit.INTERRUPTED
    assert re.search(r"in use by process \d+ on \S+ since 20\d\d-", err)


@pytest.mark.anyio
async def test_an_abort_costs_no_attempt_of_a_job(rig: Rig) -> None:
    """A job may be aborted more often than it may fail: its rows are sent again each time."""
    rig.replace("retry = { attempts = 3,", "retry = { attempts = 1,")
    await rig.emulate(latency_s=0.4)
    rig.write(20)
    for _ in range(3):
        stop = StopFlag()
        report = await rig.run(stop=stop, observer=At(stop.request, JobSubmitted, 2), is_aborting=True)
        assert (report.outcome, report.dead) == ("interrupted", 0)
    report = await rig.run()
    assert (report.outcome, report.accepted, report.dead) == ("done", 20, 0)
    assert {row[0] for row in rig.ledger("SELECT outcome FROM attempts")} == {"aborted"}
    assert rig.keys() == sorted(f"r{n}" for n in range(20))


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "words"), [(409, "were asked to end and still run"), (503, "keep running")])
async def test_f18_what_cannot_be_cancelled_is_said_and_kept(status: int, words: str, rig: Rig) -> None:
    """A platform that refuses every DELETE, or is out: the report says so in time, the next run fetches the jobs."""
    emulator = await rig.emulate({"at": "request", "route": "jobs.cancel", "status": status}, latency_s=2)
    rig.write(30)
    stop = StopFlag()
    report = await rig.run(stop=stop, observer=At(stop.request, JobSubmitted, 3), is_aborting=True)
    assert report.outcome == "interrupted"
    assert any(words in line for line in report.lines), report.lines
    assert report.seconds < 5
    again = await rig.run()
    assert (again.outcome, again.accepted) == ("done", 30)
    assert emulator.state.faults.tally()[0]["struck"] > 0
    assert rig.creates() == 3
