"""F16 and F41: clocks that are set in the middle of a run, and the dates at which calendars are odd."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine.contract.dates import http_date_s, rfc3339_s
from engine.contract.problem import retry_after_s
from engine.emulator.faults import Faults
from engine.emulator.server import Emulator
from engine.emulator.state import Options
from engine.errors import TrustError
from engine.events import Event, JobSubmitted
from engine.jobs.recover import _is_before
from engine.platform import open_platform
from engine.settings import EmulatorSettings, Platform, Settings
from engine.transport.ageing import ageing
from tests.faults.conftest import Ears, Stepped
from tests.faults.injectors import write_pipeline, write_rows
from tests.runtime.conftest import Rig
from tests.runtime.process import ask, environment, finish, report_of, rows_in

pytestmark = pytest.mark.anyio

_STEPS_S = {"an hour back": -3600, "an hour on": 3600, "a day on": 86_400}
_ZONES = ("UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
_LIBRARY = "/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1"


@pytest.fixture(params=_ZONES)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The local time of this process, for a while."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


class _Step:
    """Sets a clock at the second submitted job."""

    def __init__(self, clock: Stepped, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds
        self._left = 2
        self.steps = 0

    def notice(self, event: Event) -> None:
        if isinstance(event, JobSubmitted):
            self._left -= 1
            if self._left == 0:
                self._clock.step(self._seconds)
                self.steps += 1


@pytest.mark.parametrize("step", _STEPS_S)
async def test_f16_a_clock_set_in_the_middle_of_a_run(rig: Rig, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """This machine's clock jumps, the platform's does not: no stall, no storm, no job given up or doubled."""
    clock = Stepped()
    monkeypatch.setattr("engine.assembly.SystemClock", lambda: clock)
    await rig.emulate(latency_s=0.3)
    rig.write(200)
    stepper = _Step(clock, _STEPS_S[step])
    report = await rig.run(observer=stepper)
    assert stepper.steps == 1
    assert (report.outcome, report.accepted) == ("done", 200)
    assert rig.creates() == 20
    assert report.requests < 200
    assert report.seconds < 20


@pytest.mark.parametrize("step", ["an hour on", "a day on"])
async def test_f16_a_token_is_renewed_after_the_clocks_moved(ears: Ears, tmp_path: Path, step: str) -> None:
    """Both clocks jump, as after a suspended machine: the old token is refused once, and one new one serves."""
    clock = Stepped()
    async with Emulator(Options(seed=1), clock=clock) as emulator:
        settings = Settings(
            state_dir=str(tmp_path), platform=Platform(emulator=EmulatorSettings(url=emulator.base_url))
        )
        async with open_platform(settings, observer=ears, clock=clock) as platform:
            await platform.client.jobs.list(limit=1)
            clock.step(_STEPS_S[step] + 100)
            await platform.client.jobs.list(limit=1)
            await platform.client.jobs.list(limit=1)
            assert emulator._dispatch.statuses[401] == 1
            assert emulator._dispatch.requests["oauth.token"] == 2


async def test_f16_clocks_that_disagree_are_named_and_not_spun_on(ears: Ears, tmp_path: Path) -> None:
    """A token that must be renewed while the clocks are an hour apart: one clear refusal, and good once they agree."""
    clock, theirs = Stepped(), Stepped()
    async with Emulator(Options(seed=1), clock=theirs, faults=Faults()) as emulator:
        settings = Settings(
            state_dir=str(tmp_path), platform=Platform(emulator=EmulatorSettings(url=emulator.base_url))
        )
        async with open_platform(settings, observer=ears, clock=clock) as platform:
            clock.step(-3600)
            with pytest.raises(TrustError) as caught:
                await platform.client.jobs.list(limit=1)
            assert "check this machine's time" in caught.value.hint
            assert emulator._dispatch.requests["oauth.token"] == 1
            clock.step(3600)
            await platform.client.jobs.list(limit=1)
            assert emulator._dispatch.requests["oauth.token"] == 2


def _faketime() -> str:
    path = Path(_LIBRARY.format(os.uname().machine))
    if not path.exists():
        pytest.skip("needs libfaketime: apt-get install libfaketime")
    return str(path)


@pytest.mark.parametrize("step", ["-3600", "+86400"])
def test_f16_the_whole_process_under_a_stepped_clock(platform: dict[str, Any], tmp_path: Path, step: str) -> None:
    """The system's own clock is stepped under the process, every library included: same end, no storm."""
    library = _faketime()
    stamp = tmp_path / "stamp"
    stamp.write_text("+0")
    write_rows(tmp_path, 250)
    books = f"{platform['url']}/__emulator/books"
    before = ask(books)["creates"]
    name = f"stepped{step.replace('+', '-plus-')}"
    arguments = ["run", write_pipeline(tmp_path, name), "--json"]
    env = {
        **environment(), "ENGINE__PLATFORM__EMULATOR__URL": platform["url"], "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(stamp), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", *arguments],
        cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while ask(books)["creates"] - before < 2:
        assert process.poll() is None
    stamp.write_text(step)
    assert ask(books)["creates"] - before <= 25
    code, out, err = finish(process)
    assert code == 0, err
    report = report_of(out)
    assert (report["accepted"], report["open"], report["jobs"]) == (250, 0, 25)
    assert report["requests"] < 250
    assert ask(books)["creates"] - before == 25
    assert len({row["external_id"] for row in rows_in(tmp_path / "out")}) == 250
    # The step was seen: what was written last is that far from what was written first.
    db = sqlite3.connect(tmp_path / ".engine" / name / "ledger.sqlite")
    [(spent_ns,)] = db.execute("SELECT ended_ns - started_ns FROM runs")
    db.close()
    assert abs(spent_ns / 1e9 - int(step)) < 60


# F41 -----------------------------------------------------------------------------------------

_HTTP_DATES = [
    ("Thu, 31 Dec 2026 23:59:60 GMT", "2027-01-01T00:00:00+00:00"),
    ("Tue, 30 Jun 2015 23:59:60 GMT", "2015-07-01T00:00:00+00:00"),
    ("Thu, 31 Dec 2026 23:59:59 GMT", "2026-12-31T23:59:59+00:00"),
    ("Tue, 29 Feb 2028 12:00:00 GMT", "2028-02-29T12:00:00+00:00"),
    ("Sun, 29 Mar 2026 02:30:00 GMT", "2026-03-29T02:30:00+00:00"),
    ("Sun, 08 Mar 2026 02:30:00 -0000", "2026-03-08T02:30:00+00:00"),
    ("Sun, 01 Nov 2026 01:30:00", "2026-11-01T01:30:00+00:00"),
    ("Sunday, 06-Nov-94 08:49:37 GMT", "1994-11-06T08:49:37+00:00"),
    ("Sun Nov  6 08:49:37 1994", "1994-11-06T08:49:37+00:00"),
]
_RFC3339 = [
    ("2026-12-31T23:59:60Z", "2027-01-01T00:00:00+00:00"),
    ("2026-12-31T18:59:60.000-05:00", "2027-01-01T00:00:00+00:00"),
    ("2028-02-29T00:00:00Z", "2028-02-29T00:00:00+00:00"),
    ("2026-10-25T02:30:00+02:00", "2026-10-25T00:30:00+00:00"),
    ("2026-10-25T02:30:00+01:00", "2026-10-25T01:30:00+00:00"),
    ("2026-11-01T01:30:00", "2026-11-01T01:30:00+00:00"),
]
_NO_DATES = ["", "soon", "Wed, 29 Feb 2027 00:00:00 GMT", "Fri, 31 Dec 2026 23:59:61 GMT", "2027-02-29T00:00:00Z",
             "2026-13-01T00:00:00Z", "Fri, 31 Dec 99999 00:00:00 GMT", "0", "\x00", "60:60:60"]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), _HTTP_DATES)
def test_f41_http_dates_mean_the_same_in_every_zone(zone: str, text: str, expected: str) -> None:
    """Leap seconds, leap days, hours that do not exist or come twice where this machine stands: one instant each."""
    assert http_date_s(text) == datetime.fromisoformat(expected).timestamp()


@pytest.mark.parametrize(("text", "expected"), _RFC3339)
def test_f41_rfc_3339_means_the_same_in_every_zone(zone: str, text: str, expected: str) -> None:
    """As for HTTP dates; without an offset it is UTC, whatever the local time."""
    assert rfc3339_s(text) == datetime.fromisoformat(expected).timestamp()


@pytest.mark.parametrize("text", _NO_DATES)
def test_f41_what_is_no_date_is_none(text: str) -> None:
    """Days that a calendar does not have, and noise, are no dates and no errors."""
    assert http_date_s(text) is None
    assert rfc3339_s(text) is None


def test_f41_every_reader_of_dates_takes_them(zone: str) -> None:
    """Retry-After across a leap second, creation times at a year's end, a sunset on 29 February."""
    year_end = datetime(2026, 12, 31, 23, 59, 30, tzinfo=UTC).timestamp()
    assert retry_after_s({"retry-after": "Thu, 31 Dec 2026 23:59:60 GMT"}, now_s=year_end) == 30
    assert not _is_before("2026-12-31T23:59:60Z", year_end)
    assert _is_before("2026-12-31T23:59:29Z", year_end)
    assert not _is_before("2026-12-32T00:00:00Z", year_end)
    said = ageing({"sunset": "Tue, 29 Feb 2028 23:59:60 GMT"}, now_s=year_end)
    assert said == "is to be withdrawn from 2028-03-01"


_INSTANTS = {
    "spring": datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC),
    "autumn": datetime(2026, 10, 25, 0, 59, 59, tzinfo=UTC),
    "new year": datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC),
    "leap day": datetime(2028, 2, 28, 23, 59, 59, tzinfo=UTC),
}


@pytest.mark.parametrize(("zone", "instant"), list(zip(_ZONES, _INSTANTS, strict=True)), indirect=["zone"])
async def test_f41_a_run_across_an_odd_midnight(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, zone: str, instant: str
) -> None:
    """A run begins a second before it and ends after it, wherever it is: the books say so, nothing else does."""
    clock = Stepped(int(_INSTANTS[instant].timestamp() * 1e9))
    monkeypatch.setattr("engine.assembly.SystemClock", lambda: clock)
    monkeypatch.setattr("engine.emulator.server.SystemClock", lambda: clock)
    await rig.emulate(latency_s=1.2, latency_spread=0.0)
    rig.write(20)
    report = await rig.run()
    assert (report.outcome, report.accepted, report.dead) == ("done", 20, 0)
    [(started_ns, ended_ns)] = rig.ledger("SELECT started_ns, ended_ns FROM runs")
    boundary_ns = int((_INSTANTS[instant].timestamp() + 1) * 1e9)
    assert started_ns < boundary_ns < ended_ns
    assert 1 < (ended_ns - started_ns) / 1e9 < 15
