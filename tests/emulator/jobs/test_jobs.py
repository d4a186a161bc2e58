"""The routes of jobs: create and replay, read, list, cancel, and what is refused."""

import asyncio
import json
from typing import Any

import pytest

from engine.clock import ManualClock
from engine.emulator.faults import Faults
from engine.emulator.state import Options

pytestmark = pytest.mark.anyio

ENRICH = "intelligence.enrich.bulk"
PAYLOAD = {"profile_ids": ["p1", "p2"]}
WAITING = Options(workers=0)


async def test_a_create_answers_five_members(client) -> None:
    """A 201 has exactly the documented members, says queued, and names where the job is."""
    answer = await client.post(ENRICH, PAYLOAD)

    assert answer.status == 201
    assert list(answer.json) == ["id", "kind", "status", "created_at", "trace_id"]
    assert answer.json["status"] == "queued"
    assert answer.headers["Location"] == f"/v1/jobs/{answer.json['id']}"
    assert answer.headers["X-Argus-Trace-ID"] == answer.json["trace_id"]


async def test_a_job_keeps_the_trace_of_its_create(client) -> None:
    """Every later view of a job carries the trace id that its create was sent with."""
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    body = {"kind": ENRICH, "payload": PAYLOAD}
    answer = await client.ask(
        "POST", "/v1/jobs", json=body, headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}
    )

    job = await client.end(answer.json["id"])

    assert answer.json["trace_id"] == job["trace_id"] == trace_id


async def test_a_replay_answers_the_original_bytes(client) -> None:
    """A known key answers 200 and the first body, even when the payload differs and the job is over."""
    first = await client.post(ENRICH, PAYLOAD, key="k-1")
    await client.end(first.json["id"])

    again = await client.post(ENRICH, {"profile_ids": ["other"]}, key="k-1")
    books = await client.ask("GET", "/__emulator/books")

    assert (first.status, again.status) == (201, 200)
    assert again.body == first.body
    assert (books.json["creates"], books.json["replays"]) == (1, 1)
    assert books.json["jobs"] == {"succeeded": 1}


async def test_without_a_key_nothing_is_the_same(client) -> None:
    """Two creates without a key are two jobs, and the books say that their payload is shared."""
    ids = {await client.create(ENRICH, PAYLOAD) for _ in range(2)}

    books = (await client.ask("GET", "/__emulator/books")).json

    assert len(ids) == 2
    assert (books["same_payload"], books["same_trace"]) == (1, 0)


async def test_a_refused_create_consumes_no_key(client) -> None:
    """A 422 leaves its key free for a create that is right."""
    refused = await client.post(ENRICH, {"profile_ids": []}, key="k-2")
    accepted = await client.post(ENRICH, PAYLOAD, key="k-2")

    assert (refused.status, accepted.status) == (422, 201)


async def test_a_key_is_forgotten_after_its_window(start, connect) -> None:
    """Past 24 hours the same key starts a new job."""
    clock = ManualClock()
    _, api = await start(WAITING, clock=clock)
    first = await (await connect(api)).post(ENRICH, PAYLOAD, key="k")
    clock.advance(86_399)
    inside = await (await connect(api)).post(ENRICH, PAYLOAD, key="k")
    clock.advance(1)
    past = await (await connect(api)).post(ENRICH, PAYLOAD, key="k")

    assert (inside.status, inside.body) == (200, first.body)
    assert past.status == 201
    assert past.json["id"] != first.json["id"]


async def test_a_key_belongs_to_its_tenant(start, connect) -> None:
    """Two tenants use the same key without meeting."""
    _, api = await start(WAITING)
    ours, theirs = await connect(api), await connect(api, "app_other")

    answers = [await someone.post(ENRICH, PAYLOAD, key="shared") for someone in (ours, theirs)]

    assert [answer.status for answer in answers] == [201, 201]


@pytest.mark.parametrize("key", ["a b", "k" * 256, "schlüssel"])
async def test_a_key_is_visible_ascii(client, key) -> None:
    """Spaces, other letters and more than 255 characters are refused, by name."""
    answer = await client.post(ENRICH, PAYLOAD, key=key)

    assert answer.status == 422
    assert answer.json["errors"][0]["loc"] == ["header", "Idempotency-Key"]


async def test_a_fault_can_replay_another_job(start, connect) -> None:
    """The fault script can make a replay name a job that never was."""
    _, api = await start(WAITING, faults=Faults([{"at": "create.replay", "other_id": True}]))
    client = await connect(api)
    first = await client.post(ENRICH, PAYLOAD, key="k")

    again = await client.post(ENRICH, PAYLOAD, key="k")

    assert again.status == 200
    assert again.json["id"] != first.json["id"]


def body(**members: Any) -> dict[str, Any]:
    return {"kind": ENRICH, "payload": PAYLOAD, **members}


@pytest.mark.parametrize(
    ("wrong", "loc"),
    [
        ({"payload": PAYLOAD}, ["body", "kind"]),
        ({"kind": ENRICH}, ["body", "payload"]),
        (body(kind="unknown.kind"), ["body", "kind"]),
        (body(payload=[]), ["body", "payload"]),
        (body(payload={}), ["body", "payload", "profile_ids"]),
        (body(payload={"profile_ids": [1]}), ["body", "payload", "profile_ids"]),
        (body(payload={"profile_ids": ["p"] * 10_001}), ["body", "payload", "profile_ids"]),
        (body(secrecy_level="cosmic"), ["body", "secrecy_level"]),
        (body(callback_url="http://integrator.example/hook"), ["body", "callback_url"]),
        (body(callback_url="https://user:word@integrator.example/"), ["body", "callback_url"]),
        (body(callback_url="https://10.0.0.1/hook"), ["body", "callback_url"]),
        (body(callback_url="https://169.254.169.254/latest"), ["body", "callback_url"]),
        (body(callback_url="https://[::ffff:10.0.0.1]/"), ["body", "callback_url"]),
        (body(callback_url="https://2130706433/"), ["body", "callback_url"]),
        (body(callback_url="not a url"), ["body", "callback_url"]),
        ({**body(kind="import.bulk"), "payload": {"source": {}, "entity_type": "x"}}, ["body", "payload", "source"]),
        (
            {**body(kind="import.bulk"), "payload": {"source": {"url": "https://other.example/f"}, "entity_type": "x"}},
            ["body", "payload", "source", "url"],
        ),
        ({**body(kind="export.bulk"), "payload": {"format": "parquet"}}, ["body", "payload", "format"]),
        (
            {**body(kind="graph.compute"), "payload": {"algorithm": "guess", "scope": {"node_ids": ["a"]}}},
            ["body", "payload", "algorithm"],
        ),
        (
            {**body(kind="graph.compute"), "payload": {"algorithm": "layout_kk", "scope": {"node_ids": ["a"] * 501}}},
            ["body", "payload", "scope", "node_ids"],
        ),
    ],
)  # fmt: skip
async def test_a_wrong_create_says_where(client, wrong, loc) -> None:
    """Whatever breaks a rule is a 422 whose errors point at it, and no job exists."""
    answer = await client.ask("POST", "/v1/jobs", json=wrong)

    assert answer.status == 422, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert [fault["loc"][: len(loc)] for fault in answer.json["errors"]] == [loc]
    assert (await client.ask("GET", "/v1/jobs")).json["total_count"] == 0


async def test_all_faults_are_told_at_once(client) -> None:
    """A body with several faults is answered with all of them."""
    wrong = {"kind": "no", "payload": {}, "callback_url": "ftp://x.example", "secrecy_level": "no"}

    answer = await client.ask("POST", "/v1/jobs", json=wrong)

    assert [fault["loc"][1] for fault in answer.json["errors"]] == ["kind", "callback_url", "secrecy_level"]


async def test_loopback_callbacks_can_be_forbidden(start, connect) -> None:
    """Without the option, a callback to this machine is refused like any other inside address."""
    _, api = await start(Options(allow_loopback_callbacks=False))

    answer = await (await connect(api)).post(ENRICH, PAYLOAD, callback_url="http://127.0.0.1:9/hook")

    assert answer.status == 422


async def test_the_list_is_walked_newest_first(start, connect) -> None:
    """Pages hold every job once, newest first, and each counts the whole filtered set."""
    _, api = await start(WAITING)
    client = await connect(api)
    made = [await client.create(ENRICH, PAYLOAD) for _ in range(7)]
    await client.create("export.bulk", {})

    seen, cursor = [], None
    while True:
        asked = {"kind": ENRICH, "status": "queued", "limit": "3", **({"cursor": cursor} if cursor else {})}
        page = (await client.ask("GET", "/v1/jobs", params=asked)).json
        assert page["total_count"] == 7
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == made[::-1]


@pytest.mark.parametrize(("asked", "given"), [("0", 1), ("-5", 1), ("200", 3), ("100000", 3)])
async def test_a_limit_is_clamped(start, connect, asked, given) -> None:
    """A page size outside 1 to 200 is moved inside, never refused."""
    _, api = await start(WAITING)
    client = await connect(api)
    for _ in range(3):
        await client.create(ENRICH, PAYLOAD)

    page = (await client.ask("GET", "/v1/jobs", params={"limit": asked})).json

    assert len(page["jobs"]) == given
    assert (page["next_cursor"] is None) == (given == 3)


@pytest.mark.parametrize("wrong", [{"status": "done"}, {"cursor": "%%%"}, {"cursor": "e30="}, {"limit": "many"}])
async def test_a_wrong_list_is_refused(client, wrong) -> None:
    """An unknown status, a cursor that is not ours and a limit that is no number are 422."""
    answer = await client.ask("GET", "/v1/jobs", params=wrong)

    assert answer.status == 422
    assert answer.json["errors"][0]["loc"] == ["query", next(iter(wrong))]


async def test_another_tenants_job_does_not_exist(start, connect, options) -> None:
    """Reading, cancelling, listing or fetching what another tenant owns is 404, as if it never was."""
    _, api = await start(options)
    ours, theirs = await connect(api), await connect(api, "app_other")
    job_id = await ours.create(ENRICH, PAYLOAD)
    await ours.end(job_id)

    answers = [
        await theirs.ask("GET", f"/v1/jobs/{job_id}"),
        await theirs.ask("GET", f"/v1/jobs/{job_id}/result"),
        await theirs.ask("DELETE", f"/v1/jobs/{job_id}"),
        await ours.ask("GET", "/v1/jobs/01HFXY0000000000000000000A"),
    ]

    assert [answer.status for answer in answers] == [404] * 4
    assert (await theirs.ask("GET", "/v1/jobs")).json == {"jobs": [], "next_cursor": None, "total_count": 0}


async def test_a_queued_job_is_cancelled_at_once(start, connect) -> None:
    """Cancelling what nobody has claimed answers 200 and the terminal state; again is 200 too."""
    _, api = await start(WAITING)
    client = await connect(api)
    job_id = await client.create(ENRICH, PAYLOAD)

    answers = [await client.ask("DELETE", f"/v1/jobs/{job_id}") for _ in range(2)]
    result = await client.ask("GET", f"/v1/jobs/{job_id}/result")

    assert [(answer.status, answer.json["status"]) for answer in answers] == [(200, "cancelled")] * 2
    assert answers[0].json["completed_at"] is not None
    assert (result.status, result.json["code"]) == (409, "job_cancelled")


async def test_a_running_job_stops_by_its_next_heartbeat(start, connect) -> None:
    """Cancelling a running job answers 202, and within 30 seconds the job has stopped."""
    clock = ManualClock()
    _, api = await start(Options(latency_s=300, latency_spread=0), clock=clock)
    client = await connect(api)
    job_id = await client.create(ENRICH, PAYLOAD)
    await client.until(job_id, "running")
    clock.advance(40)

    asked = await client.ask("DELETE", f"/v1/jobs/{job_id}")
    clock.advance(20)
    job = await client.end(job_id)

    assert (asked.status, asked.json["status"]) == (202, "running")
    assert job["status"] == "cancelled"


async def test_what_is_over_is_not_cancelled(client) -> None:
    """Cancelling a job that has succeeded is a conflict that says so."""
    job_id = await client.create(ENRICH, PAYLOAD)
    await client.end(job_id)

    answer = await client.ask("DELETE", f"/v1/jobs/{job_id}")

    assert (answer.status, answer.json["code"], answer.json["job_status"]) == (409, "job_succeeded", "succeeded")


async def test_a_result_is_not_ready_before_its_time(start, connect) -> None:
    """Asking early is a conflict with a wait; asking for a failed job's result says that it failed."""
    faults = Faults([{"at": "job.outcome", "status": "failed", "code": "upstream", "retryable": True}])
    clock = ManualClock()
    _, api = await start(Options(latency_s=10, latency_spread=0), clock=clock, faults=faults)
    client = await connect(api)
    job_id = await client.create(ENRICH, PAYLOAD)
    early = await client.ask("GET", f"/v1/jobs/{job_id}/result")
    await client.until(job_id, "running")
    clock.advance(10)
    job = await client.end(job_id)
    late = await client.ask("GET", f"/v1/jobs/{job_id}/result")

    assert (early.status, early.json["code"], early.headers["Retry-After"]) == (409, "job_not_ready", "1")
    assert job["error"] == {"code": "upstream", "message": "the job failed", "retryable": True}
    assert (late.status, late.json["code"]) == (409, "job_failed")


async def test_a_result_is_kept_seven_days(start, connect) -> None:
    """Past its retention a result is gone, by the route and by the lease alike; the job is still there."""
    clock = ManualClock()
    _, api = await start(Options(latency_s=0.0), clock=clock)
    client = await connect(api)
    job_id = await client.create(ENRICH, PAYLOAD)
    await client.end(job_id)
    clock.advance(7 * 86_400)
    client = await connect(api)

    answer = await client.ask("GET", f"/v1/jobs/{job_id}/result")

    assert (answer.status, answer.json["code"]) == (410, "result_expired")
    assert (await client.get(job_id))["status"] == "succeeded"


async def test_the_sandbox_answers_equal_questions_equally(start, connect) -> None:
    """Equal creates give one job and equal bytes, terminal at once, at the sandbox's fixed time."""
    _, api = await start()
    client = await connect(api, sandbox=["wallet.high-risk"])

    posts = [await client.post(ENRICH, PAYLOAD) for _ in range(2)]
    job = await client.get(posts[0].json["id"])
    results = [(await client.fetch(await client.link(job["id"]))).body for _ in range(2)]
    links = {await client.link(job["id"]) for _ in range(2)}

    assert posts[0].body == posts[1].body
    assert [post.status for post in posts] == [201, 201]
    assert posts[0].headers["X-Argus-Sandbox"] == "true"
    assert (job["status"], job["progress_pct"], job["completed_at"]) == ("succeeded", 100, "2026-05-08T12:00:00Z")
    assert results[0] == results[1]
    assert len(links) == 1
    assert json.loads(results[0])["summary"] == {"requested": 2, "succeeded": 2, "failed": 0}


async def test_scenarios_tell_different_stories(start, connect) -> None:
    """The pinned scenario decides what the sandbox says, and the same again in another emulator."""

    async def told(scenario: str) -> bytes:
        _, api = await start()
        client = await connect(api, sandbox=[scenario])
        job_id = await client.create(ENRICH, PAYLOAD)
        return (await client.fetch(await client.link(job_id))).body

    risky, clean, again = await told("wallet.high-risk"), await told("wallet.clean"), await told("wallet.high-risk")

    assert risky == again
    assert risky != clean


async def test_the_sandbox_never_touches_live_data(start, connect, options, places) -> None:
    """What the sandbox imports is not stored anywhere, and its jobs are not in the live list."""
    emulator, api = await start(options)
    sandbox = await connect(api, sandbox=["wallet.clean"])
    live = await connect(api)
    payload = {"source": {"inline": places}, "entity_type": "place"}

    imported = await sandbox.result(await sandbox.create("import.bulk", payload))
    exported = await sandbox.result(await sandbox.create("export.bulk", {}))

    assert imported["summary"]["created"] == len(places)
    assert exported["files"][0]["rows"] == 25
    assert (await sandbox.fetch(exported["files"][0]["url"])).status == 200
    assert (await live.ask("GET", "/v1/jobs")).json["total_count"] == 0
    assert emulator.state.db.execute("SELECT COUNT(*) FROM entities").fetchone() == (0,)


async def test_an_escalating_incident_stays_running(start, connect) -> None:
    """Jobs of the pinned endless scenario never end, and their result is never ready."""
    _, api = await start()
    client = await connect(api, sandbox=["incident.escalating"])
    job_id = await client.create(ENRICH, PAYLOAD)

    job = await client.get(job_id)
    result = await client.ask("GET", f"/v1/jobs/{job_id}/result")

    assert (job["status"], job["progress_pct"]) == ("running", 50)
    assert (result.status, result.json["code"]) == (409, "job_not_ready")


async def test_equal_sandbox_questions_may_meet(start, connect) -> None:
    """Equal creates that arrive together are one job with one result."""
    _, api = await start()
    client = await connect(api, sandbox=["wallet.clean"])
    many = {"profile_ids": [f"p{number}" for number in range(2000)]}

    posts = await asyncio.gather(*(client.post(ENRICH, many) for _ in range(4)))
    result = await client.result(posts[0].json["id"])

    assert len({post.body for post in posts}) == 1
    assert len(result["results"]) == 2000
