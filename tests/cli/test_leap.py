"""Time that leaps: waits cost nothing, threads are waited for, and a day of a pipeline is a few thousand steps."""

import asyncio
import json

import pytest

from engine.cli.leap import LATENESS, LeapClock, LeapLoop
from engine.events import RequestDone
from engine.runtime.threads import Hand
from engine.store.sqlite import Database

DAY_S = 86_400


@pytest.fixture
def on_leaps():
    """Run a coroutine function on a loop that leaps; it gets the loop."""

    def run(main):
        with asyncio.Runner(loop_factory=LeapLoop) as runner:
            loop = runner.get_loop()
            assert isinstance(loop, LeapLoop)
            return runner.run(main(loop))

    return run


def test_waiting_takes_no_time(on_leaps) -> None:
    """Sleeps and time-outs of days are over at once, in the loop's time, and in their order."""

    async def main(loop: LeapLoop) -> list[str]:
        clock, ended = LeapClock(loop), []
        began_ns = clock.now_ns()

        async def wait(name: str, seconds: float) -> None:
            await clock.sleep(seconds)
            ended.append(name)

        await asyncio.gather(wait("week", 7 * DAY_S), wait("hour", 3600), wait("day", DAY_S))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(DAY_S):
                await asyncio.Event().wait()
        assert clock.monotonic() >= 8 * DAY_S
        assert clock.now_ns() - began_ns == pytest.approx(clock.monotonic() * 1e9, rel=1e-6)
        return ended

    assert on_leaps(main) == ["hour", "day", "week"]


def test_a_timer_is_late_by_a_small_share_of_the_quiet_before_it(on_leaps) -> None:
    """A beat each second for a day costs a few hundred steps; right after a request, leaps are exact again."""

    async def main(loop: LeapLoop) -> tuple[int, float]:
        clock, beats = LeapClock(loop), 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await clock.sleep(1)
                beats += 1

        beating = asyncio.create_task(beat())
        await clock.sleep(DAY_S)
        assert loop.time() <= DAY_S * (1 + 2 * LATENESS)
        clock.notice(RequestDone("jobs.get", "GET", "/v1/jobs/{id}", "127.0.0.1", 200, 0.1, 0))
        started = loop.time()
        await clock.sleep(5)
        beating.cancel()
        return beats, loop.time() - started

    beats, took_s = on_leaps(main)

    assert 100 < beats < 1000
    assert took_s == pytest.approx(5, rel=0.25)


def test_an_answer_just_before_its_deadline_is_in_time(on_leaps) -> None:
    """However long it was quiet, and with a heartbeat beside it: two long timers are never met at once."""

    async def main(loop: LeapLoop) -> float:
        clock = LeapClock(loop)

        async def beat() -> None:
            while True:
                await clock.sleep(0.25)

        beating = asyncio.create_task(beat())
        for lasts_s in (29.0, 299.0, 3599.0):
            async with asyncio.timeout(lasts_s + 1):
                await clock.sleep(lasts_s)
        beating.cancel()
        return loop.time()

    assert on_leaps(main) == pytest.approx(29 + 299 + 3599, abs=1)


def test_time_stands_still_while_a_thread_works(on_leaps, tmp_path) -> None:
    """Work on an executor, on a hand of ours and in the ledger's writer takes none of the loop's time."""

    async def main(loop: LeapLoop) -> float:
        database = Database(tmp_path / "db.sqlite", "CREATE TABLE IF NOT EXISTS t (a)")
        alarm = asyncio.create_task(LeapClock(loop).sleep(DAY_S))
        await asyncio.to_thread(int)
        await Hand("test").call(int)
        await database.write([("INSERT INTO t VALUES (?)", [(1,)])])
        database.close()
        alarm.cancel()
        return loop.time()

    assert on_leaps(main) < DAY_S


def test_a_thread_that_waits_for_the_loop_does_not_stop_it(on_leaps) -> None:
    """What a thread asks the loop for comes, although time waits for that thread."""

    async def main(loop: LeapLoop) -> str:
        async def come() -> str:
            await LeapClock(loop).sleep(3600)
            return "come"

        def ask() -> str:
            return asyncio.run_coroutine_threadsafe(come(), loop).result(60)

        return await asyncio.to_thread(ask)

    assert on_leaps(main) == "come"


PIPELINE = """\
version = 1
name = "day"
[source]
type = "ndjson"
paths = ["x.ndjson"]
key = "external_id"
[job]
kind = "import.bulk"
timeout = "72h"
batch = { rows = 1 }
[sink]
type = "ndjson"
path = "out/day"
[[test]]
name = "jobs of a day, one of which fails the first time"
latency = "24h"
rows = [{ external_id = "a" }, { external_id = "b" }]
faults = [
  { at = "job.outcome", status = "failed", retryable = true, count = 1 },
  { at = "request", route = "jobs.get", delay = "25s", count = 3 },
]
[test.expect]
accepted = 2
jobs = 3
within = "120h"
"""


def test_a_day_of_a_pipeline_comes_out_alike_each_time(engine, folder) -> None:
    """Jobs that take a day are waited for, polled, retried and fetched; twice it takes the very same time."""
    (folder / "day.toml").write_text(PIPELINE)

    first, second = (json.loads(engine("test", "day.toml", "--json").stdout) for _ in range(2))

    assert first["differences"] == []
    assert first["seconds"] > DAY_S
    assert first == second


def test_a_deadline_of_hours_passes(engine, folder) -> None:
    """A job that is slower than its time-out is given up after hours that nobody waits for."""
    (folder / "day.toml").write_text(
        PIPELINE[: PIPELINE.index("[[test]]")].replace("72h", "2h")
        + '[[test]]\nname = "too slow"\nlatency = "24h"\nrows = [{ external_id = "a" }]\n'
        + '[test.expect]\noutcome = "over_budget"\ndead = 1\ndead_letters = [{ key = "a" }]\n'
    )

    told = json.loads(engine("test", "day.toml", "--json").stdout)

    assert told["differences"] == []
    assert 2 * 3600 <= told["seconds"] < DAY_S
