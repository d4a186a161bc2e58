"""Whole runs on a platform that throttles, fails, hangs, vanishes and refuses: what it costs, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from engine import platform
from engine.emulator.server import Emulator
from engine.errors import Exit, RunFailed
from engine.events import Event, JobSubmitted, LaneMoved, RequestDone, ResultFetched, RunStarted
from engine.jobs import breaker
from engine.runtime.drain import StopFlag
from engine.transport.listener import Listener
from engine.transport.retry_budget import RetryBudget
from tests.runtime.conftest import Rig

pytestmark = pytest.mark.anyio


class Watch:
    """Keeps events, and calls somebody at the first one that matters."""

    def __init__(
        self, when: Callable[[Event], bool] = lambda _: False, then: Callable[[], None] = lambda: None
    ) -> None:
        self.events: list[Event] = []
        self._when, self._then = when, then
        self._is_done = False

    def notice(self, event: Event) -> None:
        self.events.append(event)
        if not self._is_done and self._when(event):
            self._is_done = True
            self._then()

    def moves(self, reason: str) -> int:
        return sum(1 for event in self.events if isinstance(event, LaneMoved) and event.reason == reason)

    def requests(self, status: int) -> int:
        return sum(1 for event in self.events if isinstance(event, RequestDone) and event.status == status)


def is_open(event: Event) -> bool:
    return isinstance(event, LaneMoved) and event.reason == "open"


@pytest.fixture
def brisk(monkeypatch: Any) -> None:
    """Probes and retries that follow each other quickly, so that a hundred of them fit into a test."""
    policy = breaker.BreakerPolicy(first_s=0.005, max_s=0.01)
    monkeypatch.setattr(breaker, "BreakerPolicy", lambda: policy)
    monkeypatch.setattr(platform, "RetryBudget", lambda floor: RetryBudget(floor=80))


async def test_f15_a_token_that_ends_in_mid_run_is_renewed_once_for_all(rig: Rig) -> None:
    """Tokens of seconds: each is fetched once, however many requests wait for it, and none is refused."""
    await rig.emulate({"at": "token", "ttl": 5}, latency_s=3.0, latency_spread=0.9)
    rig.replace("rows = 10", "rows = 2")
    rig.write(80)
    watch = Watch()
    report = await rig.run(observer=watch)
    assert (report.outcome, report.accepted) == ("done", 80)
    tokens = rig.asked("oauth.token")
    assert 2 <= tokens <= 2 + report.seconds / 1.5
    assert rig.struck() == [tokens]
    assert watch.requests(401) == 0


async def test_f15_a_token_refused_before_its_time_is_renewed_once_for_all(rig: Rig) -> None:
    """Three requests under way are refused with 401: one new token serves all three, each is sent once more."""
    await rig.emulate({"at": "request", "route": "jobs.create", "status": 401, "count": 3})
    rig.write(100)
    watch = Watch()
    report = await rig.run(observer=watch)
    assert (report.outcome, report.accepted) == ("done", 100)
    assert (rig.struck(), watch.requests(401)) == ([3], 3)
    assert rig.asked("oauth.token") == 2
    assert rig.asked("jobs.create") == 13


async def test_f17_a_429_with_anything_to_say_costs_time_and_nothing_else(rig: Rig) -> None:
    """Seconds, a date, nothing, zero, negative, garbage: waited for where it makes sense, and every row arrives."""
    said = [1, format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True), 0, -5, "soon"]
    faults: list[dict[str, Any]] = [
        {"at": "request", "route": "jobs.create", "status": 429, "count": 1, "retry_after": value} for value in said
    ]
    await rig.emulate(*faults, {"at": "request", "route": "jobs.create", "status": 429, "count": 2})
    rig.write(200)
    watch = Watch()
    report = await rig.run(observer=watch)
    assert (report.outcome, report.accepted) == ("done", 200)
    assert rig.struck() == [1, 1, 1, 1, 1, 2]
    assert watch.requests(429) == 7
    assert report.seconds >= 1
    assert watch.moves("open") == 0


@pytest.mark.usefixtures("brisk")
async def test_f18_bursts_of_three_then_a_hundred_cost_a_fifth_more_at_most(rig: Rig) -> None:
    """500, 502, 503 and 504, a hundred in a row: at most 1.2 times the requests needed, each job made once.

    A burst that is counted must be asked away; one that lasts for a time is in tests/jobs/test_lanes.py.
    """
    bursts: list[dict[str, Any]] = [
        {"at": "request", "route": "jobs.create", "after": 200, "first": 25, "status": status}
        for status in (500, 502, 503, 504)
    ]
    await rig.emulate({"at": "request", "route": "jobs.result", "first": 3, "status": 500}, *bursts)
    rig.replace("rows = 10", "rows = 1")
    rig.write(400)
    watch = Watch()
    report = await rig.run(observer=watch)
    assert (report.outcome, report.accepted) == ("done", 400)
    assert rig.struck() == [3, 25, 25, 25, 25]
    assert rig.creates() == 400
    assert watch.moves("open") >= 1
    wasted = sum(watch.requests(status) for status in (500, 502, 503, 504))
    assert report.requests <= 1.2 * (report.requests - wasted)


async def _vanish(emulator: Emulator, back: anyio.Event) -> None:
    """The platform's port is closed until `back`, then it listens there again."""
    listener = emulator._listeners[0]
    await listener.aclose()
    await back.wait()
    again = Listener(listener.handle, port=urlsplit(emulator.base_url).port or 0)
    again.refuse = listener.refuse
    emulator._listeners[0] = again
    await again.start()


async def test_f20_a_platform_that_vanishes_and_comes_back_is_waited_for(rig: Rig) -> None:
    """Connections are refused in the middle of a run: lanes pause, nothing is dead-lettered, and the run goes on."""
    emulator = await rig.emulate(latency_s=0.3)
    rig.replace("rows = 10", "rows = 2")
    rig.write(120)
    gone, back = anyio.Event(), anyio.Event()
    outage = Watch(is_open, back.set)
    start = Watch(lambda event: isinstance(event, JobSubmitted), gone.set)

    class Both:
        def notice(self, event: Event) -> None:
            start.notice(event)
            outage.notice(event)

    async with anyio.create_task_group() as group:

        async def trouble() -> None:
            await gone.wait()
            await _vanish(emulator, back)

        group.start_soon(trouble)
        report = await rig.run(observer=Both())
    assert (report.outcome, report.accepted, report.dead) == ("done", 120, 0)
    assert rig.creates() == 60
    assert outage.moves("open") >= 1
    assert outage.moves("closed") == outage.moves("open")
    assert outage.requests(0) >= 5


async def test_f20_an_outage_beyond_patience_ends_with_exit_7_and_is_taken_up_again(rig: Rig) -> None:
    """The platform does not come back: exit 7, nothing dead-lettered, the rest of the input unread; then it goes on."""
    await rig.emulate({"at": "request", "route": "jobs.*", "after": 5, "status": 503})
    rig.settings["patience"] = 1.0
    rig.write(400)
    with pytest.raises(RunFailed, match="did not come back within 1 s") as caught:
        await rig.run()
    assert caught.value.exit == Exit.REMOTE
    assert caught.value.report.dead == 0
    assert rig.struck()[0] < 60
    rig.calm()
    report = await rig.run()
    assert (report.outcome, report.read, report.accepted) == ("done", 400, 400)
    assert rig.creates() == 40


async def test_f36_a_stop_during_an_outage_is_heard_at_once(rig: Rig) -> None:
    """Lanes that are shut do not keep a run from stopping: exit 75, and the next run ends it."""
    await rig.emulate({"at": "request", "route": "jobs.*", "after": 5, "status": 503})
    rig.write(200)
    stop = StopFlag()
    report = await rig.run(stop=stop, observer=Watch(is_open, stop.request))
    assert (report.outcome, report.exit_code) == ("interrupted", Exit.INTERRUPTED)
    assert report.seconds < 8
    assert (report.dead, rig.struck()[0] > 0) == (0, True)
    rig.calm()
    again = await rig.run()
    assert (again.outcome, again.accepted) == ("done", 200)
    assert rig.creates() == 20


async def test_f38_answers_and_bodies_that_are_reset_are_asked_for_again(rig: Rig) -> None:
    """Resets before, after and in the middle of answers: safe requests only, each job once, each row once."""
    await rig.emulate(
        {"at": "request", "every": 9, "drop": True},
        {"at": "response", "every": 8, "drop": True},
        {"at": "result.body", "cut_after": 300, "every": 2},
    )
    rig.write(200)
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 200)
    assert all(rig.struck())
    assert rig.creates() == 20
    assert len(rig.keys()) == len(set(rig.keys())) == 200


async def test_f39_answers_that_come_too_late_are_asked_for_again(rig: Rig) -> None:
    """An answer after its deadline is a lost one: the same key again, and no second job."""
    await rig.emulate(
        {"at": "response", "route": "jobs.create", "delay": 3, "count": 3},
        {"at": "response", "route": "jobs.result", "delay": 3, "count": 2},
        {"at": "result.body", "delay": 3, "count": 2},
    )
    rig.settings["timeout"] = 0.5
    rig.write(100)
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 100)
    assert rig.struck() == [3, 2, 2]
    assert report.replays == 3
    assert rig.creates() == 10


async def test_a_storm_of_401s_opens_at_the_account(rig: Rig) -> None:
    """Every token is refused from some moment on: exit 4 after a few requests, jobs under way are left alone."""
    await rig.emulate({"at": "request", "route": "jobs.*", "after": 30, "status": 401}, latency_s=0.5)
    rig.replace("rows = 10", "rows = 1")
    rig.write(300)
    with pytest.raises(RunFailed) as caught:
        await rig.run()
    assert caught.value.exit == Exit.CREDENTIALS
    # Each of the requests under way may be refused with the old token and with the new one, and then no more is sent.
    assert 0 < rig.struck()[0] <= 2 * 32
    assert rig.asked("oauth.token") <= 3
    assert rig.asked("jobs.cancel") == 0
    assert caught.value.report.dead == 0
    rig.calm()
    watch = Watch()
    assert (await rig.run(observer=watch)).accepted == 300
    assert rig.creates() == 300
    # It had ended in order, which is not what a kill looks like.
    assert [event.was_stopped for event in watch.events if isinstance(event, RunStarted)] == [True]


async def test_a_missing_scope_is_named(rig: Rig) -> None:
    """A token that may read and not write: exit 4, and the hint says which scope to ask for."""
    rig.settings["scopes"] = ("argus:jobs:read",)
    rig.write(10)
    with pytest.raises(RunFailed) as caught:
        await rig.run()
    assert caught.value.exit == Exit.CREDENTIALS
    assert "argus:jobs:write" in caught.value.causes[0].hint


async def test_a_thousand_jobs_cost_fewer_than_two_polls_each(rig: Rig) -> None:
    """Over real sockets: pages answer for many, and polls per job stay below two."""
    await rig.emulate(latency_s=0.3, workers=1000)
    rig.replace("rows = 10", "rows = 1")
    rig.write(1000)
    report = await rig.run()
    assert (report.outcome, report.accepted, report.jobs) == ("done", 1000, 1000)
    assert 0 < report.polls_per_job < 2


async def test_f32_results_that_come_slowly_hold_back_new_jobs(rig: Rig) -> None:
    """With ten jobs at the platform at most, those that wait to be fetched are bounded too."""
    await rig.emulate({"at": "result.body", "delay": 0.1}, latency_s=0.01)
    rig.replace("rows = 10", "rows = 1")
    rig.replace('kind  = "import.bulk"', 'kind  = "import.bulk"\njobs_in_flight = 10')
    rig.write(200)
    watch = Watch()
    report = await rig.run(observer=watch)
    assert (report.outcome, report.accepted) == ("done", 200)
    ahead = most = 0
    for event in watch.events:
        ahead += isinstance(event, JobSubmitted) - isinstance(event, ResultFetched)
        most = max(most, ahead)
    assert rig.struck() == [200]
    # Ten at the platform, ten that wait, eight being fetched, and a group that was settled together.
    assert most <= 40
