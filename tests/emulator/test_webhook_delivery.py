"""Deliveries of webhooks: events are told, signed, told again, given up, spared and replayed (contract 6.4-6.6)."""

import asyncio
import json
import socket
from typing import Any

import msgspec
import pytest
from aiohttp.abc import AbstractResolver

from engine.client.events import EventReader
from engine.clock import ManualClock, SystemClock
from engine.contract.exchange import Trace
from engine.contract.profile import PROFILE
from engine.emulator import subscriptions, tracing
from engine.emulator.faults import Faults
from engine.emulator.state import Options, State
from engine.emulator.subscriptions import Subscription
from engine.emulator.webhook_courier import WebhookCourier
from engine.errors import BadSignature
from engine.settings import Secret
from engine.transport.guard import Guard
from engine.transport.incoming import Outgoing
from engine.transport.pooled import PooledTransport

pytestmark = pytest.mark.anyio

QUICK = Options(latency_s=0.01, callback_time_factor=0.001)
SECRET = "integrator-secret"
ALL = ["incident.updated", "job.succeeded", "job.failed", "job.cancelled"]


class Hook:
    """One subscription of a tenant to a receiver, and what its owner asks about it."""

    def __init__(self, api: Any, token: str, webhook: dict[str, Any]) -> None:
        self._api = api
        self.token = token
        self.id = webhook["id"]
        self.path = f"/v1/webhooks/{self.id}"

    async def ask(self, method: str, more: str = "", **body: Any) -> Any:
        return await self._api.send(method, self.path + more, token=self.token, **body)

    async def deliveries(self) -> list[dict[str, Any]]:
        return (await self.ask("GET", "/deliveries")).json["deliveries"]

    async def settled(self) -> list[dict[str, Any]]:
        """Every attempt, once none is pending."""
        while True:
            rows = await self.deliveries()
            if rows and all(row["status"] != "pending" for row in rows):
                return rows

    async def emit(self, data: Any, *, tenant_id: str = "tnt_local", type: str = "incident.updated") -> list[str]:
        wish = {"tenant_id": tenant_id, "type": type, "data": data}
        return (await self._api.send("POST", "/__emulator/events", json=wish)).json["delivery_ids"]

    async def replay(self, delivery_id: str) -> int:
        return (await self._api.send("POST", "/__emulator/replay", json={"delivery_id": delivery_id})).status


async def hook_of(api, receiver, *, client_id="app_local", **members) -> Hook:
    """Subscribe a receiver."""
    token = await api.token(client_id)
    wish = {"url": receiver.url, "events": ALL, "secret": SECRET} | members
    answer = await api.send("POST", "/v1/webhooks", token=token, json=wish)
    assert answer.status == 201, answer.body
    return Hook(api, token, answer.json)


def read(incoming, *secrets, clock=None):
    """The event of a delivery, proven as a receiver would."""
    reader = EventReader([Secret(secret) for secret in secrets or (SECRET,)], clock=clock)
    return reader.read(incoming.body, incoming.headers)


async def test_a_test_delivery_is_signed_and_recorded(start, receiver):
    """202, then one `webhook.test` that proves by both signatures, found among the deliveries (Q33)."""
    _, api = await start(QUICK)
    hook = await hook_of(api, receiver)

    answer = await hook.ask("POST", "/test")
    got = await receiver.next()
    [row] = await hook.settled()

    assert answer.status == 202
    assert answer.json == {"delivery_id": row["id"], "event": "webhook.test", "status": "pending"}
    event = read(got)
    assert (event.id, event.type, event.data) == (row["id"], "webhook.test", {"webhook_id": hook.id})
    assert json.loads(got.body)["id"] == got.headers["webhook-id"] == row["id"]
    assert got.headers["content-type"] == "application/json"
    assert got.headers["x-argus-trace-id"] == answer.headers["X-Argus-Trace-ID"]
    assert got.headers["traceparent"].split("-")[1] == answer.headers["X-Argus-Trace-ID"]
    assert (row["attempt"], row["status"], row["response_status"], row["next_attempt_at"]) == (
        1, "succeeded", 204, None,
    )  # fmt: skip
    assert row["event_id"].startswith("evt_")
    assert row["duration_ms"] >= 0
    assert row["attempted_at"].endswith("Z")


async def test_a_test_delivery_is_tried_once(start, receiver):
    """Refused, it is exhausted at once."""
    _, api = await start(QUICK)
    hook = await hook_of(api, receiver)
    receiver.answers = [Outgoing(status=500)]

    await hook.ask("POST", "/test")
    rows = await hook.settled()

    assert [(row["attempt"], row["status"], row["response_status"]) for row in rows] == [(1, "exhausted", 500)]


@pytest.mark.parametrize("secret", [SECRET, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
async def test_a_finished_job_is_told_in_its_trace(start, receiver, secret):
    """`job.succeeded` says which job, under a chosen secret of either form."""
    _, api = await start(QUICK)
    hook = await hook_of(api, receiver, secret=secret)
    wish = {"kind": "intelligence.enrich.bulk", "payload": {"profile_ids": ["p1"]}}
    job = (await api.send("POST", "/v1/jobs", token=hook.token, json=wish)).json

    got = await receiver.next()

    event = read(got, secret)
    assert event.type == "job.succeeded"
    assert (event.data["id"], event.data["status"]) == (job["id"], "succeeded")
    assert got.headers["x-argus-trace-id"] == job["trace_id"]
    with pytest.raises(BadSignature):
        read(got, "another-secret")


async def test_failing_and_cancelling_are_told(start, receiver):
    """`job.failed` brings the error; a job that is cancelled while queued is told as well."""
    kind = "intelligence.enrich.bulk"
    wish = {"kind": kind, "payload": {"profile_ids": ["p1"]}}
    _, api = await start(QUICK, faults=Faults([{"at": "job.outcome", "kind": kind, "code": "upstream"}]))
    hook = await hook_of(api, receiver)
    await api.send("POST", "/v1/jobs", token=hook.token, json=wish)
    failed = read(await receiver.next())
    _, api = await start(Options(workers=0))
    hook = await hook_of(api, receiver)
    job = (await api.send("POST", "/v1/jobs", token=hook.token, json=wish)).json
    await api.send("DELETE", f"/v1/jobs/{job['id']}", token=hook.token)
    cancelled = read(await receiver.next())

    assert (failed.type, failed.data["error"]["code"]) == ("job.failed", "upstream")
    assert (cancelled.type, cancelled.data["id"]) == ("job.cancelled", job["id"])


async def test_a_stored_incident_is_told(start, receiver):
    """An import of incidents brings `incident.updated` for each, and one of persons brings none."""
    _, api = await start(QUICK)
    hook = await hook_of(api, receiver, events=["incident.updated"])

    for entity_type in ("person", "incident"):
        rows = [{"external_id": f"{entity_type}-{number}", "label": "n"} for number in range(2)]
        payload = {"entity_type": entity_type, "source": {"inline": rows}, "mapping": {"external_id": "external_id"}}
        wish = {"kind": "import.bulk", "payload": payload}
        job = (await api.send("POST", "/v1/jobs", token=hook.token, json=wish)).json
        while job["status"] != "succeeded":
            job = (await api.send("GET", f"/v1/jobs/{job['id']}", token=hook.token)).json
    events = [read(await receiver.next()) for _ in range(2)]

    assert {event.data["external_id"] for event in events} == {"incident-0", "incident-1"}
    assert {event.type for event in events} == {"incident.updated"}
    await hook.settled()
    assert receiver.got.empty()


async def test_only_who_asked_is_told(start, receiver):
    """Neither another event nor another tenant's event reaches a webhook."""
    _, api = await start(QUICK)
    hook = await hook_of(api, receiver, events=["incident.updated", "job.succeeded"])

    assert await hook.emit(1, type="user.joined") == []
    assert await hook.emit(2, tenant_id="tnt_other") == []
    [delivery_id] = await hook.emit(3)

    assert (read(await receiver.next()).data, [row["id"] for row in await hook.settled()]) == (3, [delivery_id])


async def test_a_job_of_the_sandbox_is_told_once_as_one(start, receiver):
    """Its end is an event whose signed data says where it is from, as a header does; asked again, it ends no more."""
    _, api = await start(QUICK)
    hook = await hook_of(api, receiver)
    token = await api.sandbox_token()
    wish = {"kind": "intelligence.enrich.bulk", "payload": {"profile_ids": ["p1"]}}

    made = [await api.send("POST", "/v1/jobs", sandbox=True, token=token, json=wish) for _ in range(2)]
    got = await receiver.next()
    await hook.settled()

    assert [one.status for one in made] == [201, 201]
    event = read(got)
    assert (event.type, event.data["id"], event.data["sandbox"]) == ("job.succeeded", made[0].json["id"], True)
    assert got.headers["x-argus-sandbox"] == "true"
    assert receiver.got.empty()


async def test_a_live_event_says_nothing_of_the_sandbox(start, receiver):
    """Neither its data nor a header."""
    _, api = await start(QUICK)
    hook = await hook_of(api, receiver)
    wish = {"kind": "intelligence.enrich.bulk", "payload": {"profile_ids": ["p1"]}}

    await api.send("POST", "/v1/jobs", token=hook.token, json=wish)
    got = await receiver.next()

    assert "x-argus-sandbox" not in got.headers
    assert "sandbox" not in read(got).data


async def test_deliveries_can_be_lost_doubled_and_forged(start, receiver):
    """The fault script loses the first, doubles the second, and sends a forged one before the true third."""
    rules = [
        {"at": "webhook", "lose": True, "count": 1},
        {"at": "webhook", "duplicate": 1, "count": 1},
        {"at": "webhook", "forge": True, "count": 1},
    ]
    emulator, api = await start(QUICK, faults=Faults(rules))
    hook = await hook_of(api, receiver)
    for number in range(3):
        await hook.emit(number)
        await hook.settled()

    got = [await receiver.next() for _ in range(4)]

    assert [read(one).data for one in (*got[:2], got[3])] == [1, 1, 2]
    assert got[0].headers["webhook-id"] == got[1].headers["webhook-id"]
    with pytest.raises(BadSignature):
        read(got[2])
    assert receiver.got.empty()
    assert {row["status"] for row in await hook.deliveries()} == {"succeeded"}
    assert [rule["struck"] for rule in emulator.state.faults.tally()] == [1, 1, 1]


async def test_deliveries_can_be_late_and_out_of_order(start, receiver):
    """A later event overtakes an earlier one of the kind that is meant; each still arrives once."""
    rules = [
        {"at": "webhook", "kind": "incident.*", "reorder": True, "count": 1}, {"at": "webhook", "delay": "5ms"}
    ]  # fmt: skip
    _, api = await start(QUICK, faults=Faults(rules))
    hook = await hook_of(api, receiver)

    await hook.emit(1)
    await hook.emit(2)

    assert [read(await receiver.next()).data for _ in range(2)] == [2, 1]
    await hook.settled()
    assert receiver.got.empty()


@pytest.mark.parametrize("status", [500, 302, 429, 404])
async def test_what_is_not_taken_is_sent_again(start, receiver, status):
    """Any answer but a 2xx brings the same bytes under the same id; redirects are not followed."""
    _, api = await start(QUICK)
    hook = await hook_of(api, receiver)
    receiver.answers = [Outgoing(status=status, headers={"Location": receiver.url + "/elsewhere"})]
    await hook.emit({"id": "inc_1"})

    first, second = await receiver.next(), await receiver.next()
    rows = await hook.settled()

    assert (first.path, second.path) == ("/hook", "/hook")
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert read(first) == read(second)
    assert [(row["attempt"], row["status"], row["response_status"]) for row in rows] == [
        (2, "succeeded", 204),
        (1, "failed", status),
    ]
    assert len({row["id"] for row in rows}) == 1


async def test_retries_follow_the_schedule(start, receiver):
    """The second attempt comes after five seconds, the third after five minutes, give or take a tenth (Q36)."""
    clock = ManualClock()
    _, api = await start(Options(), clock=clock)
    hook = await hook_of(api, receiver)
    receiver.answers = [Outgoing(status=500), Outgoing(status=500)]
    await hook.emit(1)
    waits = []

    await receiver.next()
    for _ in range(2):
        waited = 0
        while receiver.got.empty():
            # A few answered requests let the courier do what this second brought.
            for _ in range(5):
                await hook.deliveries()
            if receiver.got.empty():
                clock.advance(1)
                waited += 1
        read(receiver.got.get_nowait(), clock=clock)
        waits.append(waited)

    assert 4 <= waits[0] <= 7
    assert 269 <= waits[1] <= 331


async def test_a_receiver_may_ask_for_a_longer_wait(start, receiver):
    """`Retry-After` of a 429 moves the next attempt (contract 6.6)."""
    _, api = await start(Options(), clock=ManualClock(now_ns=1_778_241_600_000_000_000))
    hook = await hook_of(api, receiver)
    receiver.answers = [Outgoing(status=429, headers={"Retry-After": "90"})]
    await hook.emit(1)
    await receiver.next()

    while (rows := await hook.deliveries())[-1]["status"] == "pending":
        pass

    assert (rows[0]["status"], rows[0]["attempt"]) == ("pending", 2)
    assert rows[0]["next_attempt_at"] == rows[1]["next_attempt_at"] == "2026-05-08T12:01:30Z"


async def test_ten_refusals_exhaust_it(start, receiver):
    """After the last wait of the schedule nothing more is sent."""
    _, api = await start(Options(callback_time_factor=1e-7))
    hook = await hook_of(api, receiver)
    receiver.answers = [Outgoing(status=500)] * 20
    await hook.emit(1)

    while (rows := await hook.deliveries())[0]["status"] != "exhausted":
        pass

    assert [(row["attempt"], row["status"]) for row in rows] == [
        (10, "exhausted"), *((number, "failed") for number in range(9, 0, -1)),
    ]  # fmt: skip
    assert receiver.got.qsize() == 10


async def test_a_gone_receiver_is_turned_off(start, receiver):
    """A 410 disables the webhook and gives up what is pending; its owner may turn it on again."""
    _, api = await start(Options())
    hook = await hook_of(api, receiver)
    receiver.answers = [Outgoing(status=500), Outgoing(status=410)]
    await hook.emit(1)
    await receiver.next()
    while (await hook.deliveries())[-1]["status"] == "pending":
        pass

    await hook.emit(2)
    rows = await hook.settled()
    assert (await hook.ask("GET")).json["status"] == "disabled"
    assert [(row["attempt"], row["status"], row["error"]) for row in rows] == [
        (1, "exhausted", None),
        (2, "exhausted", "webhook.disabled"),
        (1, "failed", None),
    ]
    assert await hook.emit(3) == []
    assert (await hook.ask("PUT", json={"status": "active"})).json["status"] == "active"
    assert len(await hook.emit(4)) == 1
    assert read((await receiver.next(), await receiver.next())[1]).data == 4


async def test_a_failing_receiver_is_left_alone_for_a_while(start, receiver):
    """Failures in a row open the circuit: nothing is sent, then one attempt probes and brings what waited."""
    clock = ManualClock()
    profile = msgspec.structs.replace(PROFILE, webhook_circuit_failures=2)
    _, api = await start(Options(), clock=clock, profile=profile)
    hook = await hook_of(api, receiver)
    receiver.answers = [Outgoing(status=500), Outgoing(status=500)]
    failing = [(await hook.emit(number))[0] for number in range(2)]
    for _ in failing:
        await receiver.next()
    while sum(row["status"] == "failed" for row in await hook.deliveries()) < 2:
        pass

    await hook.emit(2)
    for _ in range(50):
        # Both retries come due in this time, and are put off.
        clock.advance(1)
        await hook.deliveries()
    assert receiver.got.empty()
    assert {row["attempt"] for row in await hook.deliveries() if row["status"] == "pending"} == {1, 2}

    clock.advance(12)
    told = {read(await receiver.next(), clock=clock).data for _ in range(3)}
    assert told == {0, 1, 2}
    assert {row["status"] for row in await hook.settled()} == {"failed", "succeeded"}


async def test_an_open_circuit_shuts_again_only_by_success(start, receiver):
    """A probe that fails is one request, and the rest wait another while."""
    clock = ManualClock()
    profile = msgspec.structs.replace(PROFILE, webhook_circuit_failures=1)
    _, api = await start(Options(), clock=clock, profile=profile)
    hook = await hook_of(api, receiver)
    receiver.answers = [Outgoing(status=500), Outgoing(status=500)]
    await hook.emit(0)
    await receiver.next()
    while (await hook.deliveries())[-1]["status"] == "pending":
        pass
    for number in (1, 2):
        await hook.emit(number)

    clock.advance(61)
    await receiver.next()
    while sum(row["status"] == "failed" for row in await hook.deliveries()) < 2:
        pass
    for _ in range(20):
        await hook.deliveries()

    assert receiver.got.empty()


async def test_a_delivery_can_be_replayed(start, receiver):
    """The same id and bytes come again, as the next attempt; what is pending, or unknown, cannot be."""
    _, api = await start(QUICK)
    hook = await hook_of(api, receiver)
    [delivery_id] = await hook.emit({"id": "inc_1"})
    first = await receiver.next()
    await hook.settled()

    status = await hook.replay(delivery_id)
    second = await receiver.next()
    rows = await hook.settled()

    assert (status, await hook.replay("dlv_none")) == (202, 409)
    assert first.body == second.body
    assert read(first).id == read(second).id == delivery_id
    assert [(row["id"], row["attempt"], row["status"]) for row in rows] == [
        (delivery_id, 2, "succeeded"),
        (delivery_id, 1, "succeeded"),
    ]


async def test_a_new_secret_signs_the_next_attempt(start, receiver):
    """Rotated between two attempts, the later one is under the new secret; a reader with both takes each."""
    clock = ManualClock()
    _, api = await start(Options(), clock=clock)
    hook = await hook_of(api, receiver)
    receiver.answers = [Outgoing(status=500)]
    await hook.emit(1)
    old = await receiver.next()
    while (await hook.deliveries())[-1]["status"] == "pending":
        pass

    await hook.ask("PUT", json={"secret": "the-next-secret"})
    clock.advance(6)
    new = await receiver.next()

    assert read(old, "the-next-secret", SECRET, clock=clock) == read(new, "the-next-secret", SECRET, clock=clock)
    with pytest.raises(BadSignature):
        read(new, SECRET, clock=clock)


async def test_what_was_allowed_once_is_checked_when_it_is_sent(start, receiver, tmp_path):
    """A stored URL that the configuration forbids now is not asked, and the attempt says why."""
    path = str(tmp_path / "state.db")
    first, api = await start(Options(state_path=path))
    hook = await hook_of(api, receiver)
    await first.aclose()

    _, api = await start(Options(state_path=path, allow_loopback_callbacks=False))
    await Hook(api, await api.token(), {"id": hook.id}).ask("POST", "/test")
    [row] = await Hook(api, await api.token(), {"id": hook.id}).settled()

    assert (row["status"], row["response_status"], row["error"]) == ("exhausted", None, "url.forbidden")
    assert receiver.got.empty()


class NamesInside(AbstractResolver):
    """A name server by which every name leads to one address of a private or link-local network."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(self, host, port=0, family=socket.AF_INET):
        found = {"hostname": host, "port": port, "proto": 0, "flags": 0, "host": self._address}
        return [found | {"family": socket.AF_INET}]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", "127.0.0.1"])
async def test_a_public_name_of_a_private_address_is_not_asked(address):
    """What a name leads to is judged when it is resolved; nothing is sent, and the attempt says why."""
    state = State.open(QUICK, clock=SystemClock())
    state.apply_schema(subscriptions.SCHEMA + tracing.SCHEMA)
    webhook = Subscription(
        id="wh_1", tenant_id="tnt_local", url="https://rebound.example/hook", events="[]", secret=SECRET,
        status="active", created_ns=0, updated_ns=0,
    )  # fmt: skip
    subscriptions.put(state, webhook)
    subscriptions.enqueue(state, webhook.id, "x", "evt_1", (None, Trace.new()), is_single=True)
    transport = PooledTransport(guard=Guard(), resolver=NamesInside(address))

    courier = asyncio.create_task(WebhookCourier(state, transport).run())
    while subscriptions.pending(state):
        await state.clock.sleep(0)
    courier.cancel()
    await asyncio.wait([courier])
    await transport.aclose()

    [(_, row)], _ = subscriptions.attempts(state, webhook.id, before=None, limit=10)
    assert (row["status"], row["response_status"], row["error"]) == ("exhausted", None, "trust.address")
    state.close()


async def test_a_restart_sends_what_was_not_sent(start, receiver, tmp_path):
    """An attempt that was pending before a restart is made after it."""
    path = str(tmp_path / "state.db")
    receiver.answers = [Outgoing(status=500)]
    first, api = await start(Options(state_path=path, callback_time_factor=0.05))
    hook = await hook_of(api, receiver)
    [delivery_id] = await hook.emit(1)
    await receiver.next()
    await first.aclose()

    await start(Options(state_path=path))

    assert read(await receiver.next()).id == delivery_id


async def test_deliveries_are_paged_and_end_with_their_webhook(start, receiver):
    """Newest first, each attempt once, in pages of two; with the webhook they are gone."""
    emulator, api = await start(QUICK)
    hook = await hook_of(api, receiver)
    ids = [(await hook.emit(number))[0] for number in range(5)]
    await hook.settled()
    seen, cursor = [], {}
    while True:
        page = (await hook.ask("GET", "/deliveries", params={"limit": "2", **cursor})).json
        assert page["total_count"] == 5
        seen += [row["id"] for row in page["deliveries"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}

    assert seen == ids[::-1]
    await hook.ask("DELETE")
    assert emulator.state.db.execute("SELECT count(*) FROM webhook_messages").fetchone() == (0,)


async def test_only_the_newest_attempts_are_kept(start, receiver):
    """Beyond the count that is kept the oldest go, and never one that is still to be made (Q32)."""
    profile = msgspec.structs.replace(PROFILE, deliveries_max=2)
    emulator, api = await start(QUICK, profile=profile)
    hook = await hook_of(api, receiver)
    ids = [(await hook.emit(number))[0] for number in range(4)]
    await hook.settled()

    subscriptions.purge(emulator.state)

    assert [row["id"] for row in await hook.deliveries()] == ids[:1:-1]


@pytest.mark.parametrize("path", ["events", "replay"])
async def test_a_control_that_says_nothing_is_refused(api, path):
    """Without its members a control answers 400."""
    assert (await api.send("POST", f"/__emulator/{path}", json={})).status == 400
