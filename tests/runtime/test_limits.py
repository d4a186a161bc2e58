"""Why a run is slow: waits joined or added by reason, and the stage that sets the pace."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from engine.components.sinks.parts import FilePart
from engine.events import Waited
from engine.jobs import interpret
from engine.runtime import limits
from engine.runtime.limits import Limits
from engine.store.sqlite import Database

pytestmark = pytest.mark.anyio


class _Watch:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cpu = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def process_time(self) -> float:
        """Seconds of CPU."""
        return self.cpu


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> _Watch:
    """The clock of the limits."""
    watch = _Watch()
    monkeypatch.setattr(limits, "time", watch)
    return watch


def slow(seconds: float) -> bool:
    """Take so long; false, so that `or` goes on with the work itself."""
    return threading.Event().wait(seconds)


def test_who_wait_at_once_count_once(watch) -> None:
    """Three waits of four seconds, two of them over each other, are eight seconds of ten."""
    seen = Limits()
    for ends in (4.0, 4.0, 9.0):
        watch.now = 100.0 + ends
        seen.notice(Waited("remote", 4.0))
    watch.now = 110.0
    assert seen.shares == {"remote": pytest.approx(0.8)}


def test_a_long_wait_swallows_the_short_ones_inside(watch) -> None:
    """They were told before, because they ended before."""
    seen = Limits()
    for ends, took in ((3.0, 1.0), (5.0, 1.0), (8.0, 8.0)):
        watch.now = 100.0 + ends
        seen.notice(Waited("budget", took))
    watch.now = 110.0
    assert seen.shares == {"budget": pytest.approx(0.8)}


def test_many_waits_are_kept_in_little_room(watch) -> None:
    """A thousand short waits that do not touch add up exactly."""
    seen = Limits()
    for number in range(1000):
        watch.now = 100.0 + number + 0.5
        seen.notice(Waited("create", 0.25))
    watch.now = 1100.0
    assert seen.shares == {"create": pytest.approx(0.25)}


@pytest.mark.parametrize(
    ("waits", "stage"),
    [
        ({"remote": 9.0, "sink": 5.0}, "sink"),
        ({"remote": 9.0, "budget": 9.0}, "budget"),
        ({"remote": 9.0, "ledger": 6.0}, "ledger"),
        ({"remote": 9.0, "decode": 5.0}, "decode"),
        ({"remote": 9.0, "ledger": 1.0}, "remote"),
        ({"source": 8.0, "memory": 9.0}, "source"),
        ({"transform": 8.0, "source": 1.0}, "transform"),
        ({"disk": 3.0, "sink": 9.0}, "disk"),
        ({"memory": 9.0}, "memory"),
        ({"remote": 1.0}, None),
    ],
)
def test_the_furthest_stage_that_was_busy_sets_the_pace(watch, waits, stage) -> None:
    """All before it wait because of it; where nothing was busy for long, nothing is named."""
    seen = Limits()
    watch.now = 110.0
    for reason, took_s in waits.items():
        seen.notice(Waited(reason, took_s))
    limit = seen.limit
    assert (limit.stage if limit else None) == stage
    if limit:
        assert limit.remedy
        assert 0 < limit.share <= 1


def test_a_busy_process_is_named_where_nobody_waits(watch) -> None:
    """It computes: more processes help, waiting for nobody does not."""
    seen = Limits()
    watch.now, watch.cpu = 110.0, 9.5
    assert seen.limit is not None
    assert (seen.limit.stage, seen.limit.share) == ("cpu", 0.95)


async def test_jobs_that_take_long_are_named(rig) -> None:
    """A platform whose jobs take a second sets the pace of a run with little else to do."""
    await rig.emulate(latency_s=1.0)
    rig.write(20)
    report = await rig.run()
    assert report.limit is not None
    assert report.limit.stage == "remote"
    assert "jobs_in_flight" in report.limit.remedy


async def test_the_accounts_ceiling_is_named(rig) -> None:
    """Few requests a second allowed: the run waits for its turn, whatever the platform could do."""
    rig.replace('poll  = { first = "50ms", max = "1s" }', 'poll  = { first = "50ms", max = "50ms" }')
    rig.write(200)
    await rig.emulate(latency_s=0.02)
    rig.emulator_settings = {"requests": 30.0}
    report = await rig.run()
    assert report.limit is not None
    assert report.limit.stage == "budget"


async def test_transforms_that_compute_are_named(rig) -> None:
    """A function that counts for each row keeps everything else waiting."""
    (rig.directory / "slow.py").write_text(
        "def work(rows):\n"
        "    for row in rows:\n"
        "        sum(range(60_000))\n"
        "    return rows\n"
    )  # fmt: skip
    rig.text = rig.text.replace("[job]", '[[transform]]\ntype = "python"\ncall = "slow:work"\n[job]')
    rig.write(2000)
    report = await rig.run()
    assert report.limit is not None
    assert report.limit.stage == "transform"


async def test_an_input_that_trickles_is_named(rig) -> None:
    """Rows come down a pipe one by one: nothing else sets the pace."""
    pipe = Path(rig.directory / "in.ndjson")
    os.mkfifo(pipe)
    pause = threading.Event()

    def feed() -> None:
        with pipe.open("w") as file:
            for number in range(40):
                file.write(f'{{"id": "r{number}", "name": "n"}}\n')
                file.flush()
                pause.wait(0.05)

    feeder = threading.Thread(target=feed)
    feeder.start()
    report = await rig.run()
    feeder.join()
    assert report.accepted == 40
    assert report.limit is not None
    assert report.limit.stage == "source"


async def test_decoding_results_is_counted(rig) -> None:
    """What reading the windows of results took is told, so that it can be named where it is most of the time."""

    class Ears:
        told = 0.0

        def notice(self, event: object) -> None:
            if isinstance(event, Waited) and event.reason == "decode":
                self.told += event.took_s

    ears = Ears()
    rig.write(300)
    await rig.run(observer=ears)
    assert 0 < ears.told < 10


@pytest.mark.parametrize(
    ("owner", "name", "seconds", "stage"),
    [
        (FilePart, "_write", 0.03, "sink"),
        (Database, "_commit_group", 0.06, "ledger"),
        (interpret, "array_rows", 0.04, "decode"),
    ],
    ids=["sink", "ledger", "decode"],
)
async def test_slow_work_is_named(rig, monkeypatch, owner, name, seconds, stage) -> None:
    """Each part takes long to write, each commit to become durable, or each window of results to decode."""
    work = getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *given: slow(seconds) or work(*given))
    rig.write(240)
    await rig.emulate(latency_s=0.01)
    if stage == "sink":
        rig.replace(f'path   = "{rig.directory}/out"', f'path   = "{rig.directory}/out"\nrotate = {{ rows = 10 }}')
    report = await rig.run()
    assert report.limit is not None
    assert (report.limit.stage, report.accepted) == (stage, 240)
    assert stage != "decode" or "[results.fields]" in report.limit.remedy
