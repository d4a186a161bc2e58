"""Completion callbacks: what is sent, how it is signed, when it is tried again, and what goes wrong on purpose."""

import base64
import hashlib
import hmac
from typing import Any

import pytest

from engine.clock import ManualClock
from engine.codec.payload import loads
from engine.emulator import callbacks
from engine.emulator.faults import Faults
from engine.emulator.state import Options
from engine.transport.incoming import Incoming, Outgoing

pytestmark = pytest.mark.anyio

ENRICH = "intelligence.enrich.bulk"
PAYLOAD = {"profile_ids": ["p1"]}
QUICK = Options(latency_s=0.01, callback_time_factor=0.001)


def is_signed(notice: Incoming, secret: bytes = b"emulator-callback-secret") -> bool:
    mac = hmac.new(secret, notice.body, hashlib.sha256).hexdigest()
    return notice.headers["x-argus-signature"] == f"sha256={mac}"


def test_the_signature_is_the_contracts() -> None:
    """The contract's own vector: 207 canonical bytes and their HMAC."""
    job_id = "01HFXY0000000000000000000A"
    body = (
        f'{{"id":"{job_id}","kind":"intelligence.enrich.bulk",'
        f'"result_ref":"r2://argus-jobs/results/{job_id}.json","status":"succeeded",'
        '"trace_id":"0af7651916cd43dd8448eb211c80319c"}'
    ).encode()

    assert len(body) == 207
    assert callbacks.signature(b"test-partner-secret", body) == (
        "sha256=c198a4eb07d5da4a29c0f42627ae2880dc4408e2bc5f64a55970d7e798f697c5"
    )


async def test_success_is_told(start, connect, receiver) -> None:
    """A finished job is told in canonical JSON, signed over the bytes on the wire, in the job's trace."""
    _, api = await start(QUICK)
    client = await connect(api)
    job_id = await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)

    notice = await receiver.next()
    job = await client.end(job_id)

    assert is_signed(notice)
    assert notice.body.startswith(b'{"id":"' + job_id.encode() + b'","kind":')
    assert loads(notice.body) == {
        "id": job_id,
        "kind": ENRICH,
        "status": "succeeded",
        "trace_id": job["trace_id"],
        "result_ref": f"r2://argus-jobs/results/{job_id}.json",
    }
    assert notice.headers["content-type"] == "application/json"
    assert notice.headers["x-argus-job-id"] == job_id
    assert notice.headers["x-argus-trace-id"] == job["trace_id"]
    assert notice.headers["traceparent"].split("-")[1] == job["trace_id"]
    assert "x-argus-sandbox" not in notice.headers


async def test_standard_webhook_headers_verify(start, connect, receiver) -> None:
    """The webhook-* headers sign id, time and body, as Standard Webhooks does."""
    _, api = await start(QUICK)
    await (await connect(api)).create(ENRICH, PAYLOAD, callback_url=receiver.url)
    notice = await receiver.next()

    signed = f"{notice.headers['webhook-id']}.{notice.headers['webhook-timestamp']}.".encode() + notice.body
    mac = hmac.new(b"emulator-callback-secret", signed, hashlib.sha256).digest()

    assert notice.headers["webhook-signature"] == "v1," + base64.b64encode(mac).decode()


async def test_failure_and_cancelling_are_told(start, connect, receiver) -> None:
    """A failed job is told with its error and without a result; a cancelled one too."""
    _, api = await start(QUICK, faults=Faults([{"at": "job.outcome", "kind": ENRICH, "code": "upstream"}]))
    client = await connect(api)
    await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)
    failed = loads((await receiver.next()).body)
    _, api = await start(Options(workers=0))
    client = await connect(api)
    job_id = await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)
    await client.ask("DELETE", f"/v1/jobs/{job_id}")
    cancelled = loads((await receiver.next()).body)

    assert (failed["status"], failed["result_ref"], failed["error"]["code"]) == ("failed", None, "upstream")
    assert (cancelled["status"], cancelled["result_ref"]) == ("cancelled", None)


async def test_each_app_has_its_own_secret(start, connect, receiver) -> None:
    """Callbacks are signed with the app's callback secret, which can be set and is never another app's."""
    emulator, api = await start(QUICK)
    client = await connect(api, "app_other")
    await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)
    first = await receiver.next()
    own = callbacks.secret_of(emulator.state, "app_other")
    callbacks.set_secret(emulator.state, "app_other", "chosen")
    await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)
    second = await receiver.next()

    assert own != callbacks.LOCAL_SECRET.encode()
    assert is_signed(first, own)
    assert is_signed(second, b"chosen")


async def test_the_sandbox_says_so(start, connect, receiver) -> None:
    """Callbacks leave the sandbox too, marked as such."""
    _, api = await start(QUICK)
    client = await connect(api, sandbox=["wallet.clean"])
    await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)

    notice = await receiver.next()

    assert is_signed(notice)
    assert notice.headers["x-argus-sandbox"] == "true"


@pytest.mark.parametrize("status", [500, 302, 429, 404])
async def test_what_is_not_taken_is_sent_again(start, connect, receiver, status) -> None:
    """Any answer but a 2xx brings the same bytes under the same id again; redirects are not followed."""
    emulator, api = await start(QUICK)
    client = await connect(api)
    receiver.answers = [Outgoing(status=status, headers={"Location": receiver.url + "/elsewhere"})]
    job_id = await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)

    first, second = await receiver.next(), await receiver.next()
    while len(callbacks.attempts(emulator.state, job_id)) < 2:
        await client.get(job_id)

    assert (first.path, second.path) == ("/hook", "/hook")
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    tried = callbacks.attempts(emulator.state, job_id)
    assert [(one["attempt"], one["response_status"]) for one in tried] == [(1, status), (2, 204)]


async def test_retries_follow_the_schedule(start, connect, receiver) -> None:
    """The second attempt comes after five seconds, the third after five minutes, give or take a tenth."""
    clock = ManualClock()
    _, api = await start(Options(latency_s=0), clock=clock)
    client = await connect(api)
    receiver.answers = [Outgoing(status=500), Outgoing(status=500)]
    job_id = await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)
    waits = []

    await receiver.next()
    for _ in range(2):
        waited = 0
        while receiver.got.empty():
            # A few answered requests let the courier do what this second brought.
            for _ in range(5):
                await client.get(job_id)
            if receiver.got.empty():
                clock.advance(1)
                waited += 1
        receiver.got.get_nowait()
        waits.append(waited)

    assert 4 <= waits[0] <= 7
    assert 269 <= waits[1] <= 331


async def test_a_gone_receiver_is_left_alone(start, connect, receiver) -> None:
    """A 410 ends the delivery for good."""
    emulator, api = await start(QUICK)
    client = await connect(api)
    receiver.answers = [Outgoing(status=410)]
    job_id = await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)
    await receiver.next()

    while (found := emulator.state.db.execute("SELECT status FROM callbacks").fetchone()[0]) == "pending":
        await client.get(job_id)

    assert found == callbacks.DISABLED


async def test_ten_refusals_exhaust_it(start, connect, receiver) -> None:
    """After the last wait of the schedule nothing more is sent."""
    emulator, api = await start(Options(latency_s=0.01, callback_time_factor=1e-7))
    client = await connect(api)
    receiver.answers = [Outgoing(status=500)] * 20
    job_id = await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)

    while (found := emulator.state.db.execute("SELECT status FROM callbacks").fetchall()) in ([], [("pending",)]):
        await client.get(job_id)

    assert found == [(callbacks.EXHAUSTED,)]
    assert receiver.got.qsize() == 10


async def test_a_restart_sends_what_was_not_sent(start, connect, receiver, tmp_path) -> None:
    """A callback that nobody took before a restart is sent after it."""
    options = Options(latency_s=0.01, callback_time_factor=0.001, state_path=str(tmp_path / "state.db"))
    receiver.answers = [Outgoing(status=500)]
    first, api = await start(Options(**{**options_of(options), "callback_time_factor": 0.05}))
    job_id = await (await connect(api)).create(ENRICH, PAYLOAD, callback_url=receiver.url)
    await receiver.next()
    await first.aclose()

    await start(options)

    assert loads((await receiver.next()).body)["id"] == job_id


def options_of(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in options.__struct_fields__}


async def test_callbacks_can_be_lost_doubled_and_forged(start, connect, receiver) -> None:
    """The fault script loses one callback, doubles another, and sends a forged one before the true one."""
    rules = [
        {"at": "callback", "lose": True, "count": 1},
        {"at": "callback", "duplicate": 1, "count": 1},
        {"at": "callback", "forge": True, "count": 1},
    ]
    emulator, api = await start(QUICK, faults=Faults(rules))
    client = await connect(api)
    ids = []
    for _ in range(3):
        ids.append(await client.create(ENRICH, PAYLOAD, callback_url=receiver.url))
        await client.end(ids[-1])
        while emulator.state.db.execute("SELECT 1 FROM callbacks WHERE status = 'pending'").fetchone():
            await client.get(ids[-1])

    got = [await receiver.next() for _ in range(4)]
    told = [(loads(one.body)["id"], loads(one.body)["status"], is_signed(one)) for one in got]

    assert told == [
        (ids[1], "succeeded", True),
        (ids[1], "succeeded", True),
        (ids[2], "failed", False),
        (ids[2], "succeeded", True),
    ]
    assert receiver.got.empty()


async def test_callbacks_can_be_late_and_out_of_order(start, connect, receiver) -> None:
    """The fault script lets a later callback overtake an earlier one; each still arrives once."""
    rules = [{"at": "callback", "reorder": True, "count": 1}, {"at": "callback", "delay": "5ms", "count": 1}]
    _, api = await start(QUICK, faults=Faults(rules))
    client = await connect(api)
    first = await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)
    await client.end(first)
    second = await client.create(ENRICH, PAYLOAD, callback_url=receiver.url)

    told = [loads((await receiver.next()).body)["id"] for _ in range(2)]

    assert told == [second, first]
