"""Runs among troubles: lost answers, broken bodies, failing jobs, stops, changed files, two processes."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import anyio
import anyio.to_thread
import pytest

from engine.errors import ConfigError, Exit, LedgerBusy, RunFailed, StaleCheckpoint
from engine.events import Event, JobSettled, JobSubmitted, PartCommitted, Warned
from engine.runtime.drain import StopFlag
from engine.store.ledger import Ledger
from tests.runtime.conftest import Rig
from tests.runtime.process import engine

pytestmark = pytest.mark.anyio


class _StopAt:
    """Asks for a stop at the n-th event of a kind."""

    def __init__(self, stop: StopFlag, kind: type[Event], count: int) -> None:
        self._stop, self._kind, self._left = stop, kind, count

    def notice(self, event: Event) -> None:
        if isinstance(event, self._kind):
            self._left -= 1
            if self._left == 0:
                self._stop.request()


async def test_f02_a_lost_create_answer_makes_no_second_job(rig: Rig) -> None:
    """A third of the create answers is lost after the effect: each is asked again with its key, one job each."""
    await rig.emulate({"at": "response", "route": "jobs.create", "drop": True, "probability": 0.33})
    rig.write(200)
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 200)
    assert report.replays > 0
    assert rig.creates() == 20


async def test_t22_a_replay_that_names_another_job_is_caught(rig: Rig) -> None:
    """The platform answers repeated creates with ids of no job: said, and the real one is found by its trace."""
    await rig.emulate(
        {"at": "response", "route": "jobs.create", "drop": True, "count": 3}, {"at": "create.replay", "other_id": True}
    )
    rig.write(50)
    said: list[str] = []

    class _Hear:
        def notice(self, event: Event) -> None:
            if isinstance(event, Warned):
                said.append(event.code)

    report = await rig.run(observer=_Hear())
    assert (report.outcome, report.accepted, report.replays) == ("done", 50, 3)
    assert said.count("platform.other_replay") == 3
    assert rig.creates() == 5


async def test_f18_bursts_of_5xx_cost_time_and_nothing_else(rig: Rig) -> None:
    """Every fifth request is refused with 503 or 429; all rows arrive once."""
    await rig.emulate(
        {"at": "request", "every": 5, "status": 503}, {"at": "request", "every": 7, "status": 429, "retry_after": 0}
    )
    rig.write(100)
    report = await rig.run()
    assert (report.outcome, report.accepted, report.open) == ("done", 100, 0)
    assert rig.creates() == 10


async def test_f25_a_failed_job_is_tried_again_with_a_new_key(rig: Rig) -> None:
    """A retryable failure is another attempt in the same trace; the rows of the first never landed."""
    await rig.emulate(
        {"at": "job.outcome", "count": 2, "status": "failed", "code": "worker_crashed", "retryable": True}
    )
    rig.write(30)
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 30)
    assert rig.creates() == 5
    attempts = rig.ledger("SELECT outcome, remote_id FROM attempts")
    assert [outcome for outcome, _ in attempts] == ["failed", "failed"]
    assert not {remote for _, remote in attempts} & {row[0] for row in rig.ledger("SELECT remote_id FROM jobs")}


async def test_f25_a_job_that_cannot_succeed_ends_in_dead_letters(rig: Rig) -> None:
    """A final failure makes every row of the job a dead letter with the platform's code and words."""
    await rig.emulate(
        {
            "at": "job.outcome",
            "count": 1,
            "status": "failed",
            "code": "bad_payload",
            "message": "no",
            "retryable": False,
        }
    )
    rig.write(30)
    report = await rig.run()
    assert (report.accepted, report.dead, report.open) == (20, 10, 0)
    letters = rig.ledger("SELECT DISTINCT bucket, stage, code, reason FROM dead_letters")
    assert letters == [("dead", "job", "job.bad_payload", "no")]
    assert len(rig.ledger("SELECT raw FROM dead_letters")) == 10


async def test_a_failed_job_keeps_its_retry_across_a_kill(rig: Rig) -> None:
    """Killed after the failure was written and before the new attempt: the next run asks again and tries again."""
    await rig.emulate({"at": "job.outcome", "count": 1, "status": "failed", "code": "crashed", "retryable": True})
    rig.replace('cooldown = "10ms"', 'cooldown = "1h"')
    rig.write(10)
    stop = StopFlag()
    await rig.run(stop=stop, observer=_StopAt(stop, JobSettled, 1))
    _change(rig, "UPDATE jobs SET state='failed', remote_id=coalesce(remote_id, (SELECT remote_id FROM attempts))")
    _change(rig, "DELETE FROM attempts")
    rig.replace('cooldown = "1h"', 'cooldown = "10ms"')
    report = await rig.run()
    assert (report.outcome, report.accepted, report.dead) == ("done", 10, 0)
    assert rig.creates() == 2


async def test_f24_a_stuck_job_is_given_up_at_its_deadline(rig: Rig) -> None:
    """A job that never ends is cancelled and its rows are dead letters; the others are not held up."""
    await rig.emulate({"at": "job.duration", "count": 1, "seconds": 600})
    rig.replace('kind  = "import.bulk"', 'kind  = "import.bulk"\ntimeout = "1s"')
    rig.write(30)
    report = await rig.run()
    assert (report.accepted, report.dead, report.open) == (20, 10, 0)
    assert rig.ledger("SELECT DISTINCT code FROM dead_letters") == [("job.timed_out",)]


async def test_f29_expired_urls_are_asked_for_again(rig: Rig) -> None:
    """Signed URLs that are over before they are used: a new one is asked for, and the result is whole."""
    await rig.emulate({"at": "result.url", "ttl": 0, "count": 5})
    rig.write(50)
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 50)


async def test_f27_broken_bodies_are_continued(rig: Rig) -> None:
    """Bodies that break after some bytes go on from there; nothing is taken for complete that is not."""
    await rig.emulate({"at": "result.body", "cut_after": 300, "every": 2})
    rig.write(100)
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 100)
    assert len(rig.keys()) == len(set(rig.keys())) == 100


async def test_a_stop_leaves_the_remote_jobs_and_the_next_run_fetches_them(rig: Rig) -> None:
    """Stopped after three creates: exit 75, jobs keep running, and the next run ends with every row once."""
    await rig.emulate(latency_s=0.4)
    rig.write(100)
    stop = StopFlag()
    report = await rig.run(stop=stop, observer=_StopAt(stop, JobSubmitted, 3))
    assert (report.outcome, report.exit_code) == ("interrupted", Exit.INTERRUPTED)
    assert report.remote_open >= 3
    again = await rig.run()
    assert (again.outcome, again.run_id, again.read, again.accepted) == ("done", report.run_id, 100, 100)
    assert rig.keys() == sorted(f"r{n}" for n in range(100))
    assert rig.creates() == 10


async def test_a_stop_does_not_wait_for_a_result_that_keeps_breaking(rig: Rig) -> None:
    """Stopped while every download breaks: the run ends soon, and the next one fetches what is there."""
    await rig.emulate({"at": "result.body", "reset": True, "count": 14})
    rig.write(10)
    stop = StopFlag()
    first = await rig.run(stop=stop, observer=_StopAt(stop, JobSettled, 1))
    assert (first.outcome, first.open) == ("interrupted", 10)
    assert first.seconds < 20
    again = await rig.run()
    assert (again.outcome, again.accepted) == ("done", 10)


async def test_a_stop_between_parts_commits_what_was_fetched(rig: Rig) -> None:
    """Stopped at the first committed part: later parts are added, none is written twice."""
    rig.replace('path   = "', 'rotate = { rows = 20 }\npath   = "')
    await rig.emulate(latency_s=0.3, workers=2)
    rig.write(200)
    stop = StopFlag()
    first = await rig.run(stop=stop, observer=_StopAt(stop, PartCommitted, 1))
    assert first.accepted > 0
    assert first.open > 0
    again = await rig.run()
    assert (again.outcome, again.accepted) == ("done", 200)
    assert rig.keys() == sorted(f"r{n}" for n in range(200))


async def test_f35_a_second_process_is_refused(rig: Rig) -> None:
    """Whoever comes second is told who holds the ledger, since when, and where."""
    rig.write(1)
    holder = Ledger(rig.directory / "state" / "rig", "rig")
    try:
        with pytest.raises(LedgerBusy, match=r"in use by process \d+ on .+ since 20"):
            await rig.run()
    finally:
        holder.close()


async def test_a_changed_pipeline_is_refused_while_a_run_is_unfinished(rig: Rig) -> None:
    """Jobs that were planned from another file cannot be sent again: explain, and offer `--fresh`."""
    await rig.emulate(latency_s=0.4)
    rig.write(50)
    stop = StopFlag()
    await rig.run(stop=stop, observer=_StopAt(stop, JobSubmitted, 1))
    rig.replace("rows = 10", "rows = 20")
    with pytest.raises(ConfigError, match="unfinished") as caught:
        await rig.run()
    assert "--fresh" in caught.value.hint
    assert (await rig.run(fresh=True)).outcome == "done"


async def test_an_unfinished_run_is_finished_as_planned_before_the_changed_file_runs(rig: Rig) -> None:
    """`--finish-old-then-new`: the old jobs end under the old file, then the new file takes what is left."""
    await rig.emulate(latency_s=0.4, workers=2)
    rig.write(50)
    stop = StopFlag()
    first = await rig.run(stop=stop, observer=_StopAt(stop, JobSubmitted, 1), limit=30)
    assert first.outcome == "interrupted"
    rig.replace("rows = 10", "rows = 20")
    (rig.directory / "rig.toml").write_text(rig.text)
    arguments = ["--set", f"state_dir={rig.directory}/state", "run", "rig.toml", "--json"]
    extra = {"ENGINE__PLATFORM__EMULATOR__URL": rig.emulator.base_url}
    code, _, err = await anyio.to_thread.run_sync(lambda: engine(arguments, cwd=rig.directory, **extra))
    assert (code, "--finish-old-then-new" in err) == (3, True), err
    arguments.append("--finish-old-then-new")
    code, out, err = await anyio.to_thread.run_sync(lambda: engine(arguments, cwd=rig.directory, **extra))
    assert code == 0, err
    old, new = (json.loads(line) for line in out.strip().splitlines())
    assert (old["run_id"], old["read"], old["accepted"]) == (first.run_id, first.read, first.read)
    assert (new["outcome"], new["read"]) == ("done", 50 - first.read)
    assert rig.keys() == sorted(f"r{n}" for n in range(50))


async def test_a_changed_input_is_refused(rig: Rig) -> None:
    """A file that is not the one the position points into is never read on from there."""
    rig.write(20)
    await rig.run()
    (rig.directory / "in.ndjson").write_text('{"id":"other"}\n' * 500)
    with pytest.raises(StaleCheckpoint) as caught:
        await rig.run()
    assert "--fresh" in caught.value.hint


async def test_refused_credentials_end_the_run_and_lose_nothing(rig: Rig) -> None:
    """401 on everything: exit 4 with the account so far; once they are good again, the run goes on."""
    emulator = await rig.emulate({"at": "request", "route": "jobs.create", "status": 401})
    rig.write(20)
    with pytest.raises(RunFailed) as caught:
        await rig.run()
    assert caught.value.exit == Exit.CREDENTIALS
    assert caught.value.report.read == 20
    assert emulator.state.db.execute("SELECT count(*) FROM jobs").fetchone()[0] in (0, 1, 2)
    rig.calm()
    again = await rig.run()
    assert (again.outcome, again.accepted) == ("done", 20)
    assert rig.creates() == 2


async def test_f26_a_create_lost_past_the_window_is_found_by_its_trace(rig: Rig) -> None:
    """An unanswered create from two days ago: the job list is read, the job is found by trace id, none is made."""
    await rig.emulate({"at": "response", "route": "jobs.create", "drop": True})
    rig.write(10)
    rig.settings["patience"] = 0.3
    with pytest.raises(RunFailed) as caught:
        await rig.run()
    assert caught.value.exit == Exit.REMOTE
    rig.calm()
    assert rig.creates() == 1
    two_days_ns = 2 * 86_400 * 10**9
    _age(rig, two_days_ns)
    rig.emulator.state.db.execute("DELETE FROM idempotency")
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 10)
    assert rig.creates() == 1


async def test_f26_a_create_that_never_arrived_is_a_new_attempt(rig: Rig) -> None:
    """Past the window and not in the list: a new attempt with a new key makes the one job."""
    await rig.emulate({"at": "request", "route": "jobs.create", "drop": True})
    rig.write(10)
    rig.settings["patience"] = 0.3
    with pytest.raises(RunFailed) as caught:
        await rig.run()
    assert caught.value.exit == Exit.REMOTE
    rig.calm()
    assert rig.creates() == 0
    _age(rig, 2 * 86_400 * 10**9)
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 10)
    assert rig.creates() == 1
    assert rig.ledger("SELECT attempt FROM jobs") == [(2,)]
    assert rig.ledger("SELECT outcome FROM attempts") == [("never_arrived",)]


def _change(rig: Rig, sql: str) -> None:
    db = sqlite3.connect(rig.directory / "state" / "rig" / "ledger.sqlite")
    db.execute(sql)
    db.commit()
    db.close()


def _age(rig: Rig, by_ns: int) -> None:
    _change(rig, f"UPDATE jobs SET sent_ns=sent_ns-{by_ns}")


async def test_another_platform_is_refused(rig: Rig) -> None:
    """What was done at one platform says nothing about another: neither "nothing new" nor its remote ids."""
    rig.write(10)
    await rig.run()
    await rig.emulate()
    with pytest.raises(ConfigError, match="is about jobs at emulator") as caught:
        await rig.run()
    assert "--fresh" in caught.value.hint
    assert (await rig.run(fresh=True)).accepted == 10


async def test_a_result_larger_than_what_is_held_gets_a_part_of_its_own(rig: Rig, monkeypatch: Any) -> None:
    """Large results stream into their own part and are committed like any other; small ones share one."""
    monkeypatch.setattr("engine.runtime.spill._HOLD_BYTES", 500)
    rig.replace("rows = 10", "rows = 40")
    rig.write(100)
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 100)
    assert report.parts == 3
    assert rig.keys() == sorted(f"r{n}" for n in range(100))


async def test_cancelling_a_run_leaves_a_ledger_that_goes_on(rig: Rig) -> None:
    """A second Ctrl-C cancels the run wherever it is; the next one ends as usual."""
    await rig.emulate(latency_s=0.3)
    rig.write(100)
    submitted = anyio.Event()

    class _Tell:
        def notice(self, event: Event) -> None:
            if isinstance(event, JobSubmitted):
                submitted.set()

    async with anyio.create_task_group() as group:

        async def run() -> None:
            await rig.run(observer=_Tell())

        group.start_soon(run)
        await submitted.wait()
        group.cancel_scope.cancel()
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 100)
    assert rig.creates() == 10
