"""F35 and F36: two processes over one state, and the signals an operator or a supervisor sends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Exit
from engine.events import Event, PartCommitted
from engine.runtime.drain import StopFlag
from tests.faults.injectors import write_pipeline, write_rows
from tests.runtime.conftest import Rig
from tests.runtime.process import ask, environment, finish, report_of, rows_in, standing_emulator, start

_JOBS = 60
_ROWS = 600


@pytest.fixture(scope="module")
def slow() -> Iterator[dict[str, Any]]:
    """A platform whose jobs take half a second and more, so that there is something to be stopped in."""
    with standing_emulator("--latency", "0.6s", "--seed", "6") as ready:
        yield ready


class _Runs:
    """Runs of one pipeline at one platform, and how many jobs they have made so far."""

    def __init__(self, directory: Path, platform: dict[str, Any], name: str) -> None:
        write_rows(directory, _ROWS)
        self.directory = directory
        self.arguments = ["run", write_pipeline(directory, name), "--json"]
        self.extra = {"ENGINE__PLATFORM__EMULATOR__URL": platform["url"]}
        self._books = f"{platform['url']}/__emulator/books"
        self._before = self.total()

    def total(self) -> int:
        return int(ask(self._books)["creates"])

    def creates(self) -> int:
        return self.total() - self._before

    def start(self) -> subprocess.Popen[str]:
        # Under nohup SIGHUP is ignored, children inherit that, and the engine leaves it so.
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            return start(self.arguments, cwd=self.directory, **self.extra)
        finally:
            signal.signal(signal.SIGHUP, before)

    def until(self, process: subprocess.Popen[str], jobs: int) -> None:
        """Wait until the platform has so many of its jobs."""
        while self.creates() < jobs:
            assert process.poll() is None, process.communicate()

    def check_whole(self) -> None:
        """Run once more to the end: every row once, no job made twice."""
        code, out, err = finish(self.start())
        assert code == 0, err
        report = report_of(out)
        assert (report["outcome"], report["open"]) in (("done", 0), ("nothing_new", 0))
        keys = [row["external_id"] for row in rows_in(self.directory / "out")]
        assert len(keys) == len(set(keys)) == _ROWS
        assert self.creates() == _JOBS


def test_f35_of_two_processes_the_second_is_refused(slow: dict[str, Any], tmp_path: Path) -> None:
    """The second is told who holds the state, where and since when, writes nothing, and may try again later."""
    runs = _Runs(tmp_path, slow, "two")
    first = runs.start()
    runs.until(first, 1)
    # However slowly the second starts, it finds the first one there.
    first.send_signal(signal.SIGSTOP)
    code, out, err = finish(runs.start())
    first.send_signal(signal.SIGCONT)
    assert code == Exit.INTERRUPTED
    assert f"process {first.pid} on {os.uname().nodename} since 20" in err
    assert '"outcome":"failed"' in out
    code, out, err = finish(first)
    assert code == 0, err
    assert report_of(out)["accepted"] == _ROWS
    runs.check_whole()


def test_f35_started_at_the_same_instant_one_runs_at_a_time(slow: dict[str, Any], tmp_path: Path) -> None:
    """Four at once: one ends the run, those that meet it are refused, and no job is made twice."""
    runs = _Runs(tmp_path, slow, "four")
    codes = {finish(process)[0] for process in [runs.start() for _ in range(4)]}
    assert codes == {0, Exit.INTERRUPTED}
    runs.check_whole()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_f36_a_signal_in_the_middle_stops_in_order(
    slow: dict[str, Any], tmp_path: Path, number: signal.Signals
) -> None:
    """Asked to stop while jobs are being made: exit 75 soon, the account balances, the next run ends the rest."""
    runs = _Runs(tmp_path, slow, f"middle-{number.name.lower()}")
    victim = runs.start()
    runs.until(victim, 5)
    started = time.monotonic()
    victim.send_signal(number)
    code, out, err = finish(victim)
    assert time.monotonic() - started < 10
    assert code == Exit.INTERRUPTED, err
    report = report_of(out)
    assert report["outcome"] == "interrupted"
    assert report["read"] == report["accepted"] + report["rejected"] + report["dead"] + report["open"]
    assert report["open"] > 0
    assert "stopping" in err
    runs.check_whole()


def test_f36_a_signal_while_nothing_happens_stops_at_once(slow: dict[str, Any], tmp_path: Path) -> None:
    """All jobs are at the platform and the run only waits: it leaves them there, and fetches them next time."""
    runs = _Runs(tmp_path, slow, "idle")
    victim = runs.start()
    runs.until(victim, 32)
    started = time.monotonic()
    victim.send_signal(signal.SIGTERM)
    code, out, _ = finish(victim)
    assert (code, report_of(out)["outcome"]) == (Exit.INTERRUPTED, "interrupted")
    assert time.monotonic() - started < 5
    runs.check_whole()


def test_f36_a_second_signal_ends_it_at_once(slow: dict[str, Any], tmp_path: Path) -> None:
    """During the drain, or as fast as signals come: exit 130, and the ledger is one to go on with."""
    runs = _Runs(tmp_path, slow, "twice")
    victim = runs.start()
    runs.until(victim, 5)
    victim.send_signal(signal.SIGTERM)
    assert victim.stderr is not None
    next(line for line in victim.stderr if "stopping" in line)
    started = time.monotonic()
    victim.send_signal(signal.SIGINT)
    code, _, _ = finish(victim)
    assert time.monotonic() - started < 5
    # Where the drain was quicker than the second signal, the first one was obeyed.
    assert code in (Exit.FORCED, Exit.INTERRUPTED)
    runs.check_whole()


def test_f36_a_signal_before_anything_was_sent_is_heeded(slow: dict[str, Any], tmp_path: Path) -> None:
    """Stopped as soon as it says what it is: nothing is lost, whatever had been begun."""
    runs = _Runs(tmp_path, slow, "early")
    victim = runs.start()
    assert victim.stderr is not None
    next(line for line in victim.stderr if "resume" in line)
    victim.send_signal(signal.SIGTERM)
    code, _, err = finish(victim)
    assert code in (0, Exit.INTERRUPTED), err
    runs.check_whole()


class _StopLate:
    """Asks for a stop when the last part is committed."""

    def __init__(self, stop: StopFlag) -> None:
        self._stop = stop

    def notice(self, event: Event) -> None:
        if isinstance(event, PartCommitted):
            self._stop.request()


@pytest.mark.anyio
async def test_f36_with_nothing_left_open_a_stop_is_a_good_end(rig: Rig) -> None:
    """Asked to stop when everything has landed: the run is done, and exits with 0."""
    rig.write(30)
    stop = StopFlag()
    report = await rig.run(stop=stop, observer=_StopLate(stop))
    assert stop.is_set
    assert (report.outcome, report.exit_code, report.open, report.accepted) == ("done", 0, 0, 30)


def test_f36_under_nohup_a_hangup_changes_nothing(slow: dict[str, Any], tmp_path: Path) -> None:
    """A SIGHUP that whoever started us had ignored stays ignored."""
    runs = _Runs(tmp_path, slow, "nohup")
    victim = subprocess.Popen(
        ["nohup", sys.executable, "-m", "engine", *runs.arguments],
        cwd=tmp_path,
        env={**environment(), **runs.extra},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    runs.until(victim, 5)
    victim.send_signal(signal.SIGHUP)
    code, out, err = finish(victim)
    assert code == 0, err
    assert report_of(out)["accepted"] == _ROWS
    runs.check_whole()
