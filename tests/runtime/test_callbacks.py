"""Runs that are told of their jobs' endings: by good callbacks, bad ones, late ones, and none."""

from __future__ import annotations

import contextlib
import random
import socket
import sqlite3
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine.assembly import RunOrder, run_pipeline
from engine.codec.canonical import canonical
from engine.contract.exchange import Request
from engine.emulator import callbacks
from engine.errors import PlanError
from engine.events import CallbackReceived, Event, JobSettled, JobSubmitted, SpanEnded, Warned
from engine.pipeline.parse import load_pipeline
from engine.runtime.drain import StopFlag
from engine.runtime.report import Report
from engine.settings import Platform, Secret, Settings
from engine.store.ledger import Ledger
from engine.store.notices import Notice
from engine.transport.pooled import PooledTransport
from engine.trust.webhook import sign
from tests.runtime.conftest import Rig
from tests.runtime.process import CITIES, ask, finish, report_of, rows_in, standing_emulator, start

pytestmark = pytest.mark.anyio

# Polls this far apart settle no job of a test, so whatever settles them is something else.
NO_POLLS = 'poll  = { first = "5m", max = "10m" }'
POLLS = 'poll  = { first = "50ms", max = "1s" }'


class _Seen:
    """Remembers the facts of a run, and can be waited for."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._awaited: list[tuple[type[Event], anyio.Event]] = []

    def notice(self, event: Event) -> None:
        self.events.append(event)
        for kind, happened in self._awaited:
            if isinstance(event, kind):
                happened.set()

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def first(self, kind: type[Event]) -> anyio.Event:
        happened = anyio.Event()
        self._awaited.append((kind, happened))
        return happened

    def warnings(self) -> list[str]:
        return [event.code for event in self.of(Warned)]


def _with_callbacks(rig: Rig, *options: str, polls: str = POLLS) -> None:
    rig.replace(POLLS, polls)
    rig.replace("[results.fields]", "\n".join(("[callback]", *options, "[results.fields]")))


def _struck(rig: Rig) -> int:
    return sum(rule["struck"] for rule in rig.emulator.state.faults.tally())


def _check(rig: Rig, report: Report, seen: _Seen, rows: int) -> None:
    """The books balance, every row landed once, and each job was counted once."""
    assert (report.outcome, report.read, report.accepted, report.open) == ("done", rows, rows, 0)
    assert rig.keys() == sorted(f"r{n}" for n in range(rows))
    assert rig.creates() == rows // 10
    assert len(seen.of(JobSettled)) == report.jobs


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _post(port: int, told: dict[str, Any]) -> int:
    """Send a callback as the emulator would, signed well; the status of the answer."""
    body = canonical(told)
    headers = {"X-Argus-Signature": sign(body, Secret(callbacks.LOCAL_SECRET)), "X-Argus-Job-ID": told["id"]}
    transport = PooledTransport()
    try:
        url = f"http://127.0.0.1:{port}/callbacks"
        return (await transport.send(Request("POST", url, headers, body))).status
    finally:
        await transport.aclose()


async def _run_while(rig: Rig, meddle: Callable[[], Awaitable[object]]) -> tuple[Report, _Seen]:
    """A run whose receiver is meddled with once the first job was submitted."""
    seen = _Seen()
    happened = seen.first(JobSubmitted)

    async def wait() -> None:
        await happened.wait()
        await meddle()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        report = await rig.run(observer=seen)
    return report, seen


async def test_all_jobs_complete_by_callback(rig: Rig) -> None:
    """With polls minutes apart a run ends as soon as its jobs do: one confirming question per job at the most."""
    _with_callbacks(rig, polls=NO_POLLS)
    rig.write(300)
    seen = _Seen()
    report = await rig.run(observer=seen)
    _check(rig, report, seen, 300)
    assert report.callbacks == report.jobs == 30
    assert report.polls <= report.jobs
    assert rig.ledger("SELECT count(*), sum(deliveries) FROM notices WHERE status='succeeded'") == [(30, 30)]


async def test_f23_lost_callbacks_are_made_up_for_by_polls(rig: Rig) -> None:
    """A third of the callbacks never leaves: polling finds those jobs within its schedule."""
    _with_callbacks(rig)
    await rig.emulate({"at": "callback", "lose": True, "probability": 0.33})
    rig.write(300)
    seen = _Seen()
    report = await rig.run(observer=seen)
    _check(rig, report, seen, 300)
    lost = _struck(rig)
    assert 0 < lost < 30
    assert 0 < report.callbacks <= 30 - lost


async def test_f23_silence_brings_polling_back(rig: Rig) -> None:
    """When no callback comes at all, patience ends and polling settles every job; it is said once."""
    _with_callbacks(rig, 'fallback = { no_callback_for = "300ms" }', polls=NO_POLLS)
    await rig.emulate({"at": "callback", "lose": True})
    rig.write(50)
    seen = _Seen()
    report = await rig.run(observer=seen)
    _check(rig, report, seen, 50)
    assert _struck(rig) == 5
    assert (report.callbacks, seen.warnings()) == (0, ["callback.silence"])


async def test_f21_f22_t23_every_mischief_at_once(rig: Rig) -> None:
    """Lost, doubled, overtaken, late and forged callbacks: each job completes once, and the books balance."""
    _with_callbacks(rig)
    await rig.emulate(
        {"at": "callback", "lose": True, "probability": 0.2},
        {"at": "callback", "duplicate": 2, "probability": 0.25},
        {"at": "callback", "reorder": True, "probability": 0.3},
        {"at": "callback", "forge": True, "probability": 0.4},
        {"at": "callback", "delay": "300ms", "spread": 0.5, "probability": 0.5},
    )
    rig.write(600)
    seen = _Seen()
    report = await rig.run(observer=seen)
    _check(rig, report, seen, 600)
    assert all(rule["struck"] > 0 for rule in rig.emulator.state.faults.tally())
    verdicts = {event.verdict for event in seen.of(CallbackReceived)}
    assert verdicts == {"news", "duplicate", "refused"}
    assert rig.ledger("SELECT count(*) FROM notices WHERE status<>'succeeded'") == [(0,)]


async def test_a_callback_before_the_answer_waits_for_its_job(rig: Rig) -> None:
    """Answers to creates that take longer than the job itself: the callback is there first, and settles the job."""
    _with_callbacks(rig, polls=NO_POLLS)
    await rig.emulate({"at": "response", "route": "jobs.create", "delay": "300ms"}, latency_s=0.01)
    rig.write(60)
    seen = _Seen()
    report = await rig.run(observer=seen)
    _check(rig, report, seen, 60)
    assert _struck(rig) == 6
    order = [type(event) for event in seen.events if isinstance(event, CallbackReceived | JobSubmitted)]
    assert order.index(CallbackReceived) < order.index(JobSubmitted)


async def test_f02_f21_lost_answers_and_callbacks_make_no_second_job(rig: Rig) -> None:
    """A job whose create answer was lost is told of before we know its id; asked again, it is the same job."""
    _with_callbacks(rig, polls=NO_POLLS)
    await rig.emulate({"at": "response", "route": "jobs.create", "drop": True, "probability": 0.33})
    rig.write(200)
    seen = _Seen()
    report = await rig.run(observer=seen)
    _check(rig, report, seen, 200)
    assert report.replays > 0


async def test_failed_jobs_are_told_of_too(rig: Rig) -> None:
    """A callback about a failed job leads to its next attempt, which has a callback of its own."""
    _with_callbacks(rig, polls=NO_POLLS)
    await rig.emulate(
        {"at": "job.outcome", "count": 2, "status": "failed", "code": "worker_crashed", "retryable": True}
    )
    rig.write(30)
    report = await rig.run()
    assert (report.outcome, report.accepted, report.callbacks) == ("done", 30, 5)
    assert rig.ledger("SELECT status, count(*) FROM notices GROUP BY 1") == [("failed", 2), ("succeeded", 3)]


async def test_a_job_that_is_none_of_ours_is_stored_and_ignored(rig: Rig) -> None:
    """A well-signed callback about another job is taken and changes nothing."""
    port = _free_port()
    _with_callbacks(rig, f'listen = "127.0.0.1:{port}"', polls=NO_POLLS)
    await rig.emulate(latency_s=0.2)
    rig.write(50)
    told = {"id": "01HFXY0000000000000000000A", "kind": "import.bulk", "status": "succeeded"}
    statuses: list[int] = []

    async def meddle() -> None:
        statuses.extend([await _post(port, told), await _post(port, told)])

    report, seen = await _run_while(rig, meddle)
    _check(rig, report, seen, 50)
    assert statuses == [204, 204]
    assert rig.ledger("SELECT deliveries FROM notices WHERE remote_id=?", (told["id"],)) == [(2,)]


async def test_t24_a_replay_after_a_restart_has_no_effect(rig: Rig) -> None:
    """The callbacks of an earlier process, sent again byte by byte: duplicates, and no job is settled twice."""
    port = _free_port()
    _with_callbacks(rig, f'listen = "127.0.0.1:{port}"', polls=NO_POLLS)
    await rig.emulate(latency_s=0.2)
    rig.write(50)
    assert (await rig.run()).callbacks == 5
    earlier = rig.ledger("SELECT remote_id, kind, trace_id FROM jobs")
    hashes = {row[0] for row in rig.ledger("SELECT body_sha256 FROM notices")}
    rig.write(50, first=50)
    statuses: list[int] = []

    async def replay() -> None:
        for remote_id, kind, trace_id in earlier:
            result = f"r2://argus-jobs/results/{remote_id}.json"
            told = {"id": remote_id, "kind": kind, "status": "succeeded", "trace_id": trace_id, "result_ref": result}
            statuses.append(await _post(port, told))

    again, seen = await _run_while(rig, replay)
    assert (again.outcome, again.accepted, again.open, again.jobs) == ("done", 50, 0, 5)
    assert statuses == [204] * 5
    assert len(seen.of(JobSettled)) == 5
    assert {event.body_sha256 for event in seen.of(CallbackReceived) if event.verdict == "duplicate"} == hashes
    assert rig.ledger("SELECT deliveries, count(*) FROM notices GROUP BY 1") == [(1, 5), (2, 5)]
    assert rig.keys() == sorted(f"r{n}" for n in range(100))


async def test_t24_what_was_stored_and_not_acted_on_is_acted_on_after_a_restart(rig: Rig) -> None:
    """A process that died between storing a callback and asking: the next one asks, though no callback comes again."""
    _with_callbacks(rig, polls=NO_POLLS)
    await rig.emulate({"at": "callback", "lose": True}, latency_s=0.3)
    rig.write(30)
    stop, seen = StopFlag(), _Seen()
    submitted = seen.first(JobSubmitted)
    async with anyio.create_task_group() as group:

        async def halt() -> None:
            await submitted.wait()
            stop.request()

        group.start_soon(halt)
        first = await rig.run(stop=stop, observer=seen)
    assert first.outcome == "interrupted"
    waiting = rig.ledger("SELECT remote_id FROM jobs WHERE state='submitted'")
    assert waiting
    while rig.emulator.state.db.execute("SELECT count(*) FROM jobs WHERE status<>'succeeded'").fetchone()[0]:
        await anyio.lowlevel.checkpoint()
    ledger = Ledger(rig.directory / "state" / "rig", "rig")
    for (remote_id,) in waiting:
        notice = Notice(
            remote_id=remote_id, status="succeeded", kind="import.bulk", trace_id=None, body_sha256="", received_ns=1
        )
        assert await ledger.notices.keep(notice)
    ledger.close()

    report = await rig.run()
    assert (report.outcome, report.accepted, report.callbacks) == ("done", 30, 0)


async def test_another_trace_is_warned_about_and_the_job_confirmed_all_the_same(rig: Rig) -> None:
    """A callback that is wrong about its job's trace and status: the operator is told, and a GET decides."""
    port = _free_port()
    _with_callbacks(rig, f'listen = "127.0.0.1:{port}"')
    await rig.emulate({"at": "callback", "lose": True}, latency_s=0.5)
    rig.write(10)

    async def lie() -> None:
        remote_id = str(rig.emulator.state.db.execute("SELECT id FROM jobs").fetchone()[0])
        told = {"id": remote_id, "kind": "import.bulk", "status": "failed", "trace_id": "f" * 32}
        assert await _post(port, told) == 204

    report, seen = await _run_while(rig, lie)
    _check(rig, report, seen, 10)
    assert "callback.other_trace" in seen.warnings()
    assert seen.of(JobSettled)[0].status == "succeeded"


async def test_a_callback_that_comes_while_we_ask_is_not_forgotten(rig: Rig) -> None:
    """A question is under way, its answer older than the callback that comes meanwhile: it is asked again at once."""
    port = _free_port()
    _with_callbacks(rig, f'listen = "127.0.0.1:{port}"', polls=NO_POLLS)
    await rig.emulate({"at": "response", "route": "jobs.get", "delay": "900ms", "count": 1}, latency_s=0.3)
    rig.write(10)

    async def ask_too_early() -> None:
        remote_id = str(rig.emulator.state.db.execute("SELECT id FROM jobs").fetchone()[0])
        assert await _post(port, {"id": remote_id, "kind": "import.bulk", "status": "running"}) == 204

    report, seen = await _run_while(rig, ask_too_early)
    _check(rig, report, seen, 10)
    assert (_struck(rig), report.polls, report.callbacks) == (1, 2, 2)


async def test_the_secret_is_rotated_while_a_run_goes_on(rig: Rig) -> None:
    """Two active secrets: callbacks signed with the old and with the new one are both taken."""
    for name, text in (("new", "after"), ("old", "emulator-callback-secret")):
        path = rig.directory / name
        path.write_text(text)
        path.chmod(0o600)
    names = ", ".join(f'"${{secret:file:{rig.directory / name}}}"' for name in ("new", "old"))
    _with_callbacks(rig, f"secrets = [{names}]", polls=NO_POLLS)
    emulator = await rig.emulate(latency_s=0.2)
    rig.replace("[job]", "[job]\njobs_in_flight = 5")
    rig.write(200)
    seen = _Seen()
    async with anyio.create_task_group() as group:
        received = seen.first(CallbackReceived)

        async def rotate() -> None:
            await received.wait()
            callbacks.set_secret(emulator.state, callbacks.LOCAL_APP, "after")

        group.start_soon(rotate)
        report = await rig.run(observer=seen)
    _check(rig, report, seen, 200)
    assert (report.callbacks, {event.verdict for event in seen.of(CallbackReceived)}) == (20, {"news"})
    assert callbacks.secret_of(emulator.state, callbacks.LOCAL_APP) == b"after"


async def test_callback_spans_link_the_run_to_its_jobs(rig: Rig) -> None:
    """Each callback is a span of the run, linked to the span that sent it, in the trace of the job it is about."""
    _with_callbacks(rig, polls=NO_POLLS)
    rig.write(50)
    seen = _Seen()
    report = await rig.run(observer=seen)
    spans = [span for span in seen.of(SpanEnded) if span.name == "job.callback"]
    run = rig.ledger("SELECT trace_id, span_id FROM runs WHERE run_id=?", (report.run_id,))[0]
    assert {(span.trace_id, span.parent_span_id) for span in spans} == {run}
    assert sorted(span.links[0][0] for span in spans) == sorted(
        row[0] for row in rig.ledger("SELECT trace_id FROM jobs")
    )


async def test_a_real_platform_needs_a_public_url_and_a_secret(rig: Rig) -> None:
    """What the profile needs and the file lacks is said before anything is started."""
    _with_callbacks(rig)
    path = rig.directory / "rig.toml"
    path.write_text(rig.text)
    rig.write(1)
    platform = Platform(profile="live", client_id="app", client_secret=Secret("s"))
    settings = Settings(state_dir=str(rig.directory / "state"), platform=platform)
    order = RunOrder(spec=load_pipeline(str(path), env={}), spec_path=str(path))
    with pytest.raises(PlanError, match="public_url"):
        await run_pipeline(order, settings, stop=StopFlag())
    assert rig.ledger("SELECT count(*) FROM runs") == [(0,)]


def test_f21_t24_killed_again_and_again_while_callbacks_come(tmp_path: Path) -> None:
    """Killed with -9 at any instant between a callback and its effect: every row once, no job twice."""
    (tmp_path / "p.toml").write_text(_PROCESS.format(cities=CITIES, port=_free_port()))
    dice = random.Random(3)
    kills = 0
    with standing_emulator("--latency", "0.2s", "--seed", "5") as ready:
        extra = {"ENGINE__PLATFORM__EMULATOR__URL": ready["url"]}
        for _ in range(6):
            victim = start(["run", "p.toml", "--json"], cwd=tmp_path, **extra)
            with contextlib.suppress(subprocess.TimeoutExpired):
                victim.wait(timeout=dice.uniform(0.5, 1.2))
            kills += victim.poll() is None
            victim.kill()
            finish(victim)
        code, out, err = finish(start(["run", "p.toml", "--json"], cwd=tmp_path, **extra))
        creates = ask(f"{ready['url']}/__emulator/books")["creates"]
    assert code == 0, err
    report = report_of(out)
    assert (report["read"], report["accepted"], report["open"]) == (1200, 1200, 0)
    assert (kills > 1, creates) == (True, 120)
    keys = [row["external_id"] for row in rows_in(tmp_path / "out")]
    assert len(keys) == len(set(keys)) == 1200
    with contextlib.closing(sqlite3.connect(tmp_path / ".engine" / "told" / "ledger.sqlite")) as db:
        known = db.execute("SELECT count(*) FROM notices JOIN jobs USING (remote_id)").fetchone()[0]
    assert known > 60


_PROCESS = """
version = 1
name    = "told"
[source]
type  = "csv"
paths = ["{cities}"]
key   = "city_id"
[source.fields]
city_id = "str"
population = "int"
[job]
kind  = "import.bulk"
batch = {{ rows = 10 }}
jobs_in_flight = 12
[job.payload]
entity_type = "location"
mapping     = {{ city_id = "external_id", name = "label" }}
[callback]
listen = "127.0.0.1:{port}"
[results.fields]
external_id = "str"
id          = "str"
[sink]
type   = "ndjson"
path   = "out"
rotate = {{ rows = 250 }}
"""
