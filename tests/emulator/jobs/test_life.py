"""The life of a job: claimed, running, reaped, ended once, and taken up again after a crash."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine.clock import ManualClock
from engine.codec.payload import dumps
from engine.contract.jobs import SUCCEEDED
from engine.emulator import effects, jobtable, life
from engine.emulator.faults import Faults
from engine.emulator.jobtable import Ending
from engine.emulator.state import Options

pytestmark = pytest.mark.anyio

ENRICH = "intelligence.enrich.bulk"
PAYLOAD = {"profile_ids": ["p1"]}
SLOW = Options(latency_s=100, latency_spread=0)


def rows(count: int) -> dict[str, Any]:
    inline = [{"external_id": f"r{number}", "label": f"Row {number}"} for number in range(count)]
    return {"source": {"inline": inline}, "entity_type": "place"}


async def test_progress_and_heartbeat_follow_the_clock(start, connect) -> None:
    """A running job shows how far it is, and a sign of life every 30 seconds, without being asked to."""
    clock = ManualClock()
    _, api = await start(SLOW, clock=clock)
    client = await connect(api)
    job_id = await client.create(ENRICH, PAYLOAD)
    await client.until(job_id, "running")

    seen = []
    for _ in range(3):
        clock.advance(25)
        job = await client.get(job_id)
        seen.append((job["progress_pct"], job["updated_at"][-3:-1]))
    clock.advance(25)
    done = await client.end(job_id)

    assert seen == [(25, "00"), (50, "30"), (75, "00")]
    assert (done["status"], done["progress_pct"]) == ("succeeded", 100)


async def test_only_so_many_jobs_run_at_once(start, connect) -> None:
    """Jobs beyond the workers stay queued, and follow in the order they came."""
    clock = ManualClock()
    _, api = await start(Options(latency_s=100, latency_spread=0, workers=2), clock=clock)
    client = await connect(api)
    ids = [await client.create(ENRICH, PAYLOAD) for _ in range(3)]
    for job_id in ids[:2]:
        await client.until(job_id, "running")

    before = (await client.get(ids[2]))["status"]
    clock.advance(100)
    await client.end(ids[0])
    after = await client.until(ids[2], "running")

    assert before == "queued"
    assert after["progress_pct"] == 0


async def test_a_lost_worker_is_replaced_three_times(start, connect) -> None:
    """A job whose heartbeat stops is queued again after two minutes, and fails after the third attempt."""
    clock = ManualClock()
    emulator, api = await start(SLOW, clock=clock, faults=Faults([{"at": "job.duration", "stuck": True}]))
    client = await connect(api)
    job_id = await client.create(ENRICH, PAYLOAD)

    attempts = []
    for _ in range(3):
        await client.until(job_id, "running")
        attempts.append(jobtable.load(emulator.state, job_id).attempt)
        clock.advance(119)
        assert (await client.get(job_id))["status"] == "running"
        clock.advance(1)
        while jobtable.load(emulator.state, job_id).attempt == attempts[-1]:
            if (await client.get(job_id))["status"] == "failed":
                break
    job = await client.end(job_id)

    assert attempts == [1, 2, 3]
    assert (job["status"], job["error"]["code"]) == ("failed", "worker_lost")


async def test_one_lost_heartbeat_is_survived(start, connect) -> None:
    """A job that is stuck once is done by its second attempt."""
    clock = ManualClock()
    rules = [{"at": "job.duration", "stuck": True, "count": 1}]
    emulator, api = await start(SLOW, clock=clock, faults=Faults(rules))
    client = await connect(api)
    job_id = await client.create(ENRICH, PAYLOAD)
    await client.until(job_id, "running")
    clock.advance(120)
    while jobtable.load(emulator.state, job_id).attempt == 1:
        await client.get(job_id)

    clock.advance(100)

    assert (await client.end(job_id))["status"] == "succeeded"


async def test_durations_depend_on_seed_and_id_alone(bench, bench_with) -> None:
    """The same job takes the same time in every run, jobs differ, and most stay about within the spread."""
    jobs = [bench.job(ENRICH) for _ in range(200)]

    taken = [life.duration_s(bench.state, job, 1) for job in jobs]
    again = [life.duration_s(bench_with().state, job, 1) for job in jobs[:20]]

    assert taken[:20] == again
    assert len(set(taken)) == 200
    assert sorted(taken)[10] > 0.2 * 0.5
    assert sorted(taken)[189] < 0.2 * 1.7


async def test_a_fault_stretches_a_job(start, connect) -> None:
    """The fault script can make one kind slow, by a factor or to so many seconds."""
    clock = ManualClock()
    rules = [{"at": "job.duration", "kind": "export.bulk", "factor": 3}]
    emulator, api = await start(SLOW, clock=clock, faults=Faults(rules))
    client = await connect(api)
    slow, usual = await client.create("export.bulk", {}), await client.create(ENRICH, PAYLOAD)
    for job_id in (slow, usual):
        await client.until(job_id, "running")

    jobs = [jobtable.load(emulator.state, job_id) for job_id in (slow, usual)]

    assert [(job.due_ns - job.claimed_ns) // 10**9 for job in jobs] == [300, 100]


async def test_a_terminal_state_is_written_once(bench) -> None:
    """Whoever ends a job second changes nothing."""
    job = bench.job(ENRICH)
    jobtable.accept(bench.state, job, b"{}", key=None, body=b"")

    first = jobtable.end(bench.state, job, Ending(status=SUCCEEDED, at_ns=1))
    second = jobtable.end(bench.state, job, Ending(status="failed", at_ns=2))

    assert (first, second) == (True, False)
    assert jobtable.load(bench.state, job.id).status == SUCCEEDED


async def test_jobs_survive_a_restart(start, connect, tmp_path: Path) -> None:
    """Queued and running jobs of a stopped emulator are done by the next one, at the times they were due."""
    clock = ManualClock()
    options = Options(latency_s=100, latency_spread=0, workers=1, state_path=str(tmp_path / "state.db"))
    first, api = await start(options, clock=clock)
    client = await connect(api)
    ids = [await client.create("import.bulk", rows(3)) for _ in range(2)]
    await client.until(ids[0], "running")
    clock.advance(60)
    await first.aclose()

    _, api = await start(options, clock=clock)
    client = await connect(api)
    states = [(await client.get(job_id))["status"] for job_id in ids]
    clock.advance(40)
    done = await client.end(ids[0])
    await client.until(ids[1], "running")
    clock.advance(100)
    await client.end(ids[1])

    assert states == ["running", "queued"]
    assert done["status"] == "succeeded"
    assert (await client.result(ids[0]))["summary"]["created"] == 3
    assert (await client.result(ids[1]))["summary"]["updated"] == 3


async def test_a_large_effect_is_finished_after_a_crash(bench) -> None:
    """What a large job did is certain with its terminal state, and written by whoever comes next."""
    job, outcome = bench.prepare("import.bulk", dumps(rows(4000)))
    with bench.state.transaction():
        effects.commit(bench.state, job.id, outcome.effects)
    stored = bench.state.db.execute("SELECT COUNT(*) FROM entities").fetchone()

    # Here the process dies; the next one begins with this.
    await effects.finish(bench.state)
    finished = bench.state.db.execute("SELECT COUNT(*) FROM entities").fetchone()
    await effects.finish(bench.state)

    assert (stored, finished) == ((0,), (4000,))
    assert bench.state.db.execute("SELECT COUNT(*) FROM redo").fetchone() == (0,)


async def test_work_done_twice_is_done_once(bench) -> None:
    """A job killed between its work and its end is worked again, with the same outcome."""
    first_job, first = bench.prepare("import.bulk", dumps(rows(5)))
    again_job, again = bench.prepare("import.bulk", dumps(rows(5)))

    results = [bench.file(job.id, "").replace(job.id.encode(), b"") for job in (first_job, again_job)]

    assert results[0] == results[1]
    assert first.effects == again.effects


async def test_a_cancel_beats_work_under_way(bench) -> None:
    """When a stop is asked for while the work is being done, its success comes too late."""
    job = bench.job(ENRICH)
    jobtable.accept(bench.state, job, b"{}", key=None, body=b"")
    jobtable.ask_to_stop(bench.state, job, due_ns=0)

    assert not jobtable.end(bench.state, job, Ending(status=SUCCEEDED, at_ns=1))
    assert jobtable.end(bench.state, job, Ending(status="cancelled", at_ns=2))


async def test_the_loop_breathes_during_large_jobs(start, connect, options) -> None:
    """While a job of ten thousand rows is worked, requests are answered in between."""
    _, api = await start(options)
    client = await connect(api)
    inline = [{"external_id": f"r{number}"} for number in range(10_000)]
    job_id = await client.create("import.bulk", {"source": {"inline": inline}, "entity_type": "x"})
    done = asyncio.ensure_future(client.end(job_id))

    answered = 0
    while not done.done():
        assert (await client.ask("GET", "/v1/jobs", params={"limit": "1"})).status == 200
        answered += 1

    assert (await done)["status"] == "succeeded"
    assert answered > 5


async def test_a_job_leaves_spans_in_its_trace(start, connect, options) -> None:
    """The claim and the run of a job are children of its enqueue, in the trace the caller chose."""
    _, api = await start(options)
    client = await connect(api)
    job_id = await client.create(ENRICH, PAYLOAD)
    job = await client.end(job_id)

    tree = (await client.ask("GET", f"/v1/observability/traces/{job['trace_id']}")).json

    spans = {span["name"]: span for span in tree["spans"]}
    enqueue = spans["POST /v1/jobs"]["span_id"]
    assert spans["job claim"]["parent_span_id"] == spans["job run"]["parent_span_id"] == enqueue
    assert spans["job run"]["attributes"]["job.id"] == job_id


async def test_retention_lets_go_of_old_jobs(bench) -> None:
    """Thirty days after its end a job is forgotten, and the counts with it."""
    job = bench.job(ENRICH)
    jobtable.accept(bench.state, job, b"{}", key=None, body=b"")
    jobtable.end(bench.state, job, Ending(status=SUCCEEDED, at_ns=bench.state.clock.now_ns()))
    bench.state.clock.advance(30 * 86_400 + 1)

    jobtable.purge(bench.state)

    assert jobtable.load(bench.state, job.id) is None
    assert jobtable.books(bench.state)["jobs"] == {}
