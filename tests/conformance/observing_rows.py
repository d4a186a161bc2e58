"""Observing rows: what client, emulator and pipeline do where a row of the contract profile decides, as a line of JSON.

A program of its own, so that it can be run on a copy of the package whose profile says something else. Its arguments
are the port to listen on and a directory. `wire_` members are what the emulator said, the others what a client saw.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path

from observing_kinds import pipelines

import engine
import engine.emulator.callbacks as deliveries
from engine.client.call import Line, Origins
from engine.client.challenge import explain
from engine.client.client import Access, Client
from engine.client.events import EventReader
from engine.clock import SystemClock
from engine.codec.canonical import canonical
from engine.contract.catalog import ROUTES
from engine.contract.devices import EnrolDevice, Observe
from engine.contract.epcr import CreateEncounter
from engine.contract.exchange import Request
from engine.contract.graphql import HEALTH_CHECK
from engine.contract.identity import GovernApp
from engine.contract.jobs import TERMINAL, error_of
from engine.contract.oauth import AskToken, Authorize
from engine.contract.profile import PROFILE
from engine.contract.route import Wire
from engine.contract.webhooks import UpdateWebhook
from engine.emulator.faults import Faults
from engine.emulator.server import Bind, Emulator
from engine.emulator.state import Options
from engine.errors import EngineError, Refused, TrustError
from engine.jobs.callback import Receiver
from engine.settings import Secret
from engine.transport.incoming import Outgoing
from engine.transport.listener import Listener
from engine.transport.pooled import PooledTransport
from engine.trust.keyring import Keyring
from engine.trust.webhook import verify_callback

# Exports run until they are cancelled, computations fail, all else is done at once; two jobs run at a time.
FAULTS = (
    {"at": "job.duration", "kind": "export.bulk", "seconds": 900},
    {"at": "job.outcome", "kind": "graph.compute", "status": "failed", "code": "no_memory"},
)
OPTIONS = Options(latency_s=0.01, workers=2)
GRAPH = {"algorithm": "betweenness", PROFILE.graph_compute.path[0]: {PROFILE.graph_compute.path[1]: ["a"]}}
SECRETS = {name: "whsec_" + base64.b64encode(name.encode() * 8).decode() for name in ("app", "tenant")}
WAIT_S = 10


class Tape:
    """A transport that remembers the last exchange of each route."""

    def __init__(self, transport):
        self._transport = transport
        self.asked, self.answered = {}, {}

    async def send(self, request):
        answer = await self._transport.send(request)
        self.asked[request.route], self.answered[request.route] = request, answer
        return answer

    def stream(self, request):
        return self._transport.stream(request)

    def body(self, route):
        return json.loads(self.answered[route].body)


class Ear:
    """A URL that takes whatever is posted to it."""

    def __init__(self, status=204):
        self.heard = asyncio.Queue()
        self._status = status
        self._listener = Listener(self._take)

    async def _take(self, incoming):
        self.heard.put_nowait((incoming.body, incoming.headers))
        return Outgoing(status=self._status)

    async def open(self):
        await self._listener.start()
        return self._listener.origin + "/heard"

    async def next(self):
        async with asyncio.timeout(WAIT_S):
            return await self.heard.get()

    async def aclose(self):
        await self._listener.aclose()


class Watch:
    """What one emulator and clients of it do. Whatever the profile decides is left to it."""

    def __init__(self, emulator, transport):
        self._emulator = emulator
        self._tape = Tape(transport)
        self._clock = SystemClock()

    def client(self, **more):
        emulator = self._emulator
        members = {
            "auth_url": emulator.base_url, "api_url": emulator.base_url, "issuer": emulator.base_url,
            "client_id": emulator.client_id, "client_secret": Secret(emulator.client_secret), **more,
        }  # fmt: skip
        keyring = Keyring(emulator.base_url + "/.well-known/jwks.json", self._tape, self._clock)
        return Client(self._tape, Access(**members), clock=self._clock, keyring=keyring)

    async def raw(self, method, path, *, body=None, kind="application/json", token=None):
        """Status, headers and decoded body of a request that no client of ours would send."""
        headers = {"Content-Type": kind, "Accept": "*/*"} | ({"Authorization": f"Bearer {token}"} if token else {})
        sent = body.encode() if isinstance(body, str) else None if body is None else json.dumps(body).encode()
        answer = await self._tape.send(Request(method, self._emulator.base_url + path, headers, sent, route="raw"))
        return answer.status, answer.headers, json.loads(answer.body) if answer.body else None

    async def token(self):
        emulator = self._emulator
        ask = AskToken(
            grant_type="client_credentials", client_id=emulator.client_id, client_secret=emulator.client_secret
        )
        return (await self.client().oauth.token(ask)).answer.access_token

    async def all(self):
        seen = {"where": engine.__file__}
        parts = (
            self.problems, self.challenges, self.grants, self.keys, self.apps, self.webhooks, self.graphql,
            self.records, self.evidence, self.minted, self.devices, self.documents, self.sandbox, self.callbacks,
            self.lists, self.results,
        )  # fmt: skip
        for part in parts:
            seen |= await part()
        return seen

    async def problems(self):
        """Q1, Q4."""
        client = self.client()
        broken = Wire("/v1/jobs", {"Content-Type": "application/json"}, b"{")
        return {
            "wrong": await said(client.jobs.create("no.such.kind", {})),
            "wire_wrong": sorted(self._tape.body("jobs.create")),
            "wire_type": self._tape.answered["jobs.create"].headers["content-type"],
            "malformed": await said(client._caller.call_raw(ROUTES["jobs.create"], broken)),
            "no_path": await said(client._caller.call_raw(ROUTES["jobs.get"], Wire("/v1/nowhere", {}, None))),
            "no_method": await said(client._caller.call_raw(ROUTES["jobs.get"], Wire("/graphql", {}, None))),
        }

    async def challenges(self):
        """Q2."""
        client = self.client(scopes=("argus:profiles:read",))
        lacking = await said(client.jobs.list())
        wire_scope = self._tape.answered["jobs.list"].headers["www-authenticate"]
        line = Line(self._tape, Origins(auth=self._emulator.base_url, api=self._emulator.base_url), self._clock)
        try:
            await line.exchange(ROUTES["jobs.list"], Wire("/v1/jobs", {}, None), token=Secret("a.b.c"))
        except Refused as refused:
            explain(refused)
            hint = refused.hint
        wire_token = self._tape.answered["jobs.list"].headers["www-authenticate"]
        return {"lacking": lacking, "wire_scope": wire_scope, "bad_token": hint, "wire_token": wire_token}

    async def grants(self):
        """Q13, Q15."""
        client, emulator = self.client(), self._emulator
        here = "http://127.0.0.1/callback"
        made = (
            await client.identity.create_app(
                "Renewing", ["authorization_code", "refresh_token"], scopes=["openid"], redirect_uris=[here]
            )
        ).answer
        whose = {"client_id": made.client_id, "client_secret": made.client_secret}
        asked = Authorize(response_type="code", client_id=made.client_id, redirect_uri=here)
        location = (await client.oauth.authorize(asked)).headers["location"]
        code = location.partition("code=")[2].partition("&")[0]
        ask = AskToken(grant_type="authorization_code", code=code, redirect_uri=here, **whose)
        renewal = (await client.oauth.token(ask)).answer.refresh_token
        form = f"grant_type=device_code&client_id={emulator.client_id}&client_secret={emulator.client_secret}"
        _, _, refused = await self.raw("POST", "/v1/oauth/token", body=form, kind="application/x-www-form-urlencoded")
        statuses = [
            (await self.raw("GET", "/.well-known/" + name))[0] for name in ("oauth-authorization-server", "of-oauth")
        ]
        again = AskToken(grant_type="refresh_token", refresh_token=renewal, **whose)
        return {
            "renewed": await said(client.oauth.token(again)),
            "wire_grant": refused["error"],
            "grant": await said(client.oauth.token(AskToken(grant_type="device_code", **whose))),
            "wire_metadata": statuses,
        }

    async def keys(self):
        """Q14."""
        client = self.client()
        await client.keys.well_known()
        asked, answer = self._tape.asked["keys.well_known"], self._tape.answered["keys.well_known"]
        for _ in range(2):
            self._emulator.keys.rotate()
        count = len((await client.keys.versioned()).answer.keys)
        return {"keys_accept": asked.headers["Accept"], "wire_keys_type": answer.headers["content-type"], "keys": count}

    async def apps(self):
        """Q20, Q22."""
        client = self.client()
        made = await client.identity.create_app("Sixteen letters.", ["client_credentials"], scopes=["openid"])
        wire = self._tape.body("identity.create_app")
        whose = made.answer.client_id
        governed = (await client.identity.govern_app(GovernApp(client_id=whose, notes="reviewed"))).answer
        return {
            "app_scopes": made.answer.scopes,
            "wire_app": [name for name in ("scopes", "granted") if name in wire],
            "app_created": made.status,
            "long_name": await said(client.identity.create_app("Twenty-one characters", ["client_credentials"])),
            "governed": governed.governance,
        }

    async def webhooks(self):
        """Q30-Q32, Q34, Q35."""
        client, token, ear = self.client(), await self.token(), Ear()
        url = await ear.open()
        unsaid = {"url": url, "events": ["incident.updated"]}
        status, _, _ = await self.raw("POST", "/v1/webhooks", body=unsaid, token=token)
        unkept = await said(client.webhooks.create(url, ["incident.updated"]))
        created = await client.webhooks.create(url, ["incident.updated"], secret=SECRETS["app"])
        made, wire_made = created.answer, self._tape.body("webhooks.create")
        part, _, _ = await self.raw("PUT", f"/v1/webhooks/{made.id}", body={"events": ["a.b"]}, token=token)
        changed = (await client.webhooks.update(UpdateWebhook(webhook_id=made.id, events=["c.d"]))).answer
        tested = await client.webhooks.test(made.id)
        body, headers = await ear.next()
        event = EventReader([Secret(SECRETS["app"])]).read(body, headers)
        attempts = (await client.webhooks.deliveries(made.id)).answer.deliveries
        wire = self._tape.body("webhooks.deliveries")["deliveries"][0]
        deaf = await self.deaf(client)
        deleted = await client.webhooks.delete(made.id)
        await ear.aclose()
        return {
            "webhook_statuses": [created.status, tested.status, deleted.status],
            "webhook": [made.status, made.created_at is not None],
            "wire_webhook": sorted({*wire_made} & {"created_at", "made_at"}),
            "deaf": deaf,
            "wire_secretless": status, "secretless": unkept, "wire_partial": part,
            "changed": [changed.events, changed.url == url],
            "event": [event.type, event.timestamp == json.loads(body)[PROFILE.event_names["timestamp"]]],
            "wire_event": sorted(json.loads(body)),
            "wire_family": sorted({name.partition("-")[0] for name in headers if name.endswith("-timestamp")}),
            "attempt": attempts[0].attempt, "wire_attempt": [name for name in ("attempt", "try") if name in wire],
        }  # fmt: skip

    async def deaf(self, client):
        """What becomes of a webhook whose URL answers 404 to its first delivery (Q36)."""
        ear = Ear(status=404)
        made = (await client.webhooks.create(await ear.open(), ["x.y"], secret=SECRETS["app"])).answer
        await client.webhooks.test(made.id)
        await ear.next()
        while (await client.webhooks.deliveries(made.id)).answer.deliveries[0].status == "pending":
            pass
        await ear.aclose()
        return (await client.webhooks.get(made.id)).answer.status

    async def graphql(self):
        """Q60, Q61, Q65."""
        client = self.client()
        other = await said(client.graphql.execute(HEALTH_CHECK, tenant_id="tnt_other"))
        strange = await said(client.graphql.execute("query Q { q }"))
        wire_strange = self._tape.answered["graphql.execute"]
        curious = await said(client.graphql.execute("query I { __schema { types { name } } }"))
        accept = self._tape.asked["graphql.execute"].headers["Accept"]
        metrics = (await client.graphql.acqi_metrics("2026-01-01", "2026-01-02")).answer
        wire = self._tape.body("graphql.execute")["data"]["acqiMetrics"][0]
        return {
            "other_tenant": other, "not_approved": strange, "introspection": curious, "graphql_accept": accept,
            "wire_graphql": [wire_strange.status, wire_strange.headers["content-type"]],
            "acqi": metrics[0].period_start,
            "wire_acqi": [name for name in ("periodStart", "begins") if name in wire],
            "acqi_asked": [
                name for name in ("periodStart", "begins")
                if name in json.loads(self._tape.asked["graphql.execute"].body)["query"]
            ],
        }  # fmt: skip

    async def records(self):
        """Q62, Q63, Q66, Q80."""
        client = self.client()
        ask = CreateEncounter(incident_id="inc_1", started_at="2026-05-08T12:00:00Z", chief_complaint="pain")
        made = await client.epcr.create(ask)
        asked = json.loads(self._tape.asked["epcr.create"].body)
        wire = self._tape.body("epcr.create")
        whose = made.answer.id
        bundle = (await client.epcr.bundle(whose)).answer
        # Spans are written now and then, so one that waits for it is met at the second try at the latest.
        while (before := (await client.tracing.get((await client.epcr.get(whose)).trace_id)).answer).is_whole:
            pass
        after = (await client.tracing.get(before.trace_id)).answer
        source, inline = PROFILE.import_bulk.path
        rows = [{"external_id": "ev_1", "label": "One"}]
        job = await client.jobs.create("import.bulk", {source: {inline: rows}, "entity_type": "evidence"})
        self._done = await self.ended(client, job.answer.id)
        verdict = (await client.provenance.verify("ev_1")).answer
        return {
            "complaint": made.answer.chief_complaint,
            "wire_complaint": [
                name for name in ("chief_complaint", "complaint") for said_by in (asked, wire) if name in said_by
            ],
            "bundle": bundle["type"],
            "ingestion": [before.is_whole, after.is_whole],
            "wire_ingestion": [before.ingestion, after.ingestion],
            "verdict": verdict.valid,
            "wire_verdict": [name for name in ("valid", "holds") if name in self._tape.body("provenance.verify")],
        }  # fmt: skip

    async def minted(self):
        """Q23, Q24."""
        client, whose = self.client(), self._emulator.client_id
        minted = (await client.oauth.service_token(whose, ttl_seconds=600)).answer
        asked, wire = json.loads(self._tape.asked["oauth.service_token"].body), self._tape.body("oauth.service_token")
        other = (await client.identity.create_app("Rotating", ["client_credentials"], scopes=["openid"])).answer
        rotated = (await client.oauth.rotate_secret(other.client_id, grace_seconds=60)).answer
        return {
            "service_token": [bool(minted.token), minted.expires_in],
            "wire_service_token": sorted({*asked, *wire} & {"ttl_seconds", "life", "token", "jwt"}),
            "rotated": rotated.rotated_at < rotated.previous_secret_expires_at,
            "wire_rotated": sorted(json.loads(self._tape.asked["oauth.rotate_secret"].body)),
        }  # fmt: skip

    async def devices(self):
        """Q21, Q64."""
        client = self.client()
        for number in ("S-1", "S-2"):
            ask = EnrolDevice(manufacturer="Acme", model="P", serial_number=number, type_code="528388")
            device = (await client.devices.enrol(ask)).answer
        asked, wire = json.loads(self._tape.asked["devices.enrol"].body), self._tape.body("devices.enrol")
        seen = Observe(device_id=device.id, code="150456", value=97.0, unit="%", effective_at="2026-05-08T12:00:00Z")
        observed = await said(client.devices.observe(seen))
        serials = [one.serial_number async for one in client.devices.every(limit=1)]
        page = self._tape.asked["devices.list"].url
        return {
            "serials": sorted(serials), "observed": observed,
            "wire_device": sorted({*asked, *wire} & {"serial_number", "serial"}),
            "wire_observed": sorted({*json.loads(self._tape.asked["devices.observe"].body)} & {"unit", "ucum"}),
            "page_asked": [name for name in ("cursor=", "after=") if name in page],
            "wire_page": sorted({*self._tape.body("devices.list")} & {"next_cursor", "next"}),
        }  # fmt: skip

    async def evidence(self):
        """Q82, Q84, Q85; after `records`, which makes evidence."""
        client = self.client()
        transcript = (await client.provenance.get("ev_1", algorithm="ml-dsa-65")).answer
        keys = (await client.provenance.keys()).answer
        source, inline = PROFILE.import_bulk.path
        payload = {source: {inline: [{"external_id": "ev_2"}]}, "entity_type": "evidence"}
        job = await client.jobs.create("import.bulk", payload, secrecy_level="secret")
        await self.ended(client, job.answer.id)
        return {
            "deed": transcript["records"][0]["operation"],
            "key_type": keys.keys[0].kty,
            "proven": client.provenance.prove(transcript, keys=keys).is_proven,
            "too_secret": await said(client.provenance.get("ev_2")),
        }

    async def documents(self):
        """Q91, Q93."""
        client = self.client()
        schemas = (await client.discovery.schemas()).answer.schemas
        wire = self._tape.body("discovery.schemas")["schemas"][0]
        catalog = (await client.discovery.catalog()).answer
        return {
            "schema_kinds": sorted({schema.kind for schema in schemas}),
            "wire_schema": [name for name in ("kind", "sort") if name in wire],
            "anchors": len(catalog.linkset),
        }

    async def sandbox(self):
        """Q51, Q54, Q56."""
        emulator, live = self._emulator, self.client()
        unknown = await said(live.sandbox.token(emulator.client_id, scenarios=["no.such"]))
        wire = self._tape.body("sandbox.token").get("scenarios")
        client = self.client(api_url=emulator.sandbox_url, is_sandbox=True)
        kind, (ids,) = PROFILE.enrich_bulk, PROFILE.enrich_bulk.path
        job = (
            await client.jobs.create(
                kind.name, {ids: ["missing-1", "absent-1"]}, callback_url="https://integrator.example/"
            )
        ).answer
        document = await self.fetched(client, job.id)
        whole = (await client.jobs.create("export.bulk", {})).answer
        files = (await self.fetched(client, whole.id))[PROFILE.export_bulk.results]
        return {
            "unknown_scenario": unknown, "wire_scenarios": wire,
            "canned": [row[kind.status] in kind.accepted for row in document[kind.results]],
            "canned_rows": files[0][PROFILE.export_file_names["rows"]],
            "wire_file": sorted({*files[0]} & {"url", "link"}),
            "wire_summary": sorted({*document} & {"summary", "books"}),
            "wire_total": sorted({*document[PROFILE.result_summary]} & {"requested", "asked"}),
            "sandbox_callbacks": self.stored(job.id),
        }  # fmt: skip

    async def callbacks(self):
        """Q38, Q39, Q42."""
        client, state, ear = self.client(), self._emulator.state, Ear()
        url = await ear.open()
        deliveries.set_secret(state, self._emulator.client_id, SECRETS["app"])
        deliveries.set_secret(state, "tnt_local", SECRETS["tenant"])
        failed = (await client.jobs.create("graph.compute", GRAPH, callback_url=url)).answer.id
        lost = await self.ended(client, failed)
        wire = self._tape.body("jobs.get")["error"]
        arrived = asyncio.get_running_loop().create_future()
        secrets = [Secret(text) for text in SECRETS.values()]
        async with Receiver(secrets, Path(sys.argv[2]) / "notices.sqlite", arrived.set_result) as receiver:
            source, inline = PROFILE.import_bulk.path
            payload = {source: {inline: [{"external_id": "a"}]}, "entity_type": "person"}
            await client.jobs.create("import.bulk", payload, callback_url=receiver.url)
            async with asyncio.timeout(WAIT_S):
                notice = await arrived
            heard = (await client.jobs.create("import.bulk", payload, callback_url=url)).answer.id
            await self.ended(client, heard)
        body, headers = await ear.next()
        while json.loads(body)["id"] != heard:
            body, headers = await ear.next()
        await ear.aclose()
        signed = body if PROFILE.callback_signs == "body" else canonical(json.loads(body))
        return {
            "error": error_of(lost).code,
            "wire_error": sorted(wire),
            "told_of_failure": self.stored(failed),
            "received": notice.status,
            "signed_by": [name for name, text in SECRETS.items() if is_signed(signed, headers, text)],
            "wire_key": [
                hmac.new(key, signed, hashlib.sha256).hexdigest() in headers["x-argus-signature"]
                for key in (SECRETS["app"].encode(), b"tenant" * 8)
            ],
            "wire_canonical": body == canonical(json.loads(body)),
        }  # fmt: skip

    async def lists(self):
        """Q48."""
        client, token = self.client(), await self.token()
        status, _, _ = await self.raw("GET", "/v1/jobs?status=odd", token=token)
        return {
            "both_statuses": await said(client.jobs.list(status=("succeeded", "failed"))),
            "odd_status": await said(client.jobs.list(status="odd")),
            "wire_odd": status,
        }

    async def results(self):
        """Q41, Q46."""
        client = self.client()
        runs, queues = [], []
        for number in range(3):
            made = (await client.jobs.create("export.bulk", {}, idempotency_key=f"k{number}")).answer.id
            (runs if number < 2 else queues).append(made)
        for job_id in runs:
            while (await client.jobs.get(job_id)).answer.status != "running":
                pass
        not_ready = await said(client.jobs.result(runs[0]))
        wire = self._tape.answered["jobs.result"]
        failed = await self.last("failed")
        state = self._emulator.state
        lost = await said(client.jobs.result(failed))
        queued = await client.jobs.cancel(queues[0])
        wire_queued = self._tape.answered["jobs.cancel"].status
        again = await client.jobs.cancel(queues[0])
        running = await client.jobs.cancel(runs[0])
        wire_running = self._tape.answered["jobs.cancel"].status
        ended = await client.jobs.cancel(self._done.id)
        wire_ended = self._tape.answered["jobs.cancel"].status
        state.db.execute("UPDATE jobs SET completed_ns = 1 WHERE id = ?", (self._done.id,))
        return {
            "not_ready": not_ready, "wire_not_ready": wire.headers.get("retry-after"), "failed": lost,
            "expired": await said(client.jobs.result(self._done.id)),
            "cancelled": [queued.answer.status, again.answer.status, ended.answer.status, running.answer.status],
            "wire_cancelled": [wire_queued, again.status, wire_ended, wire_running],
        }  # fmt: skip

    async def last(self, status):
        return (await self.client().jobs.list(status=status)).answer.jobs[0].id

    def stored(self, job_id):
        """How many callbacks tell of a job."""
        sql = "SELECT count(*) FROM callbacks WHERE job_id = ?"
        return self._emulator.state.db.execute(sql, (job_id,)).fetchone()[0]

    async def ended(self, client, job_id):
        while True:
            job = (await client.jobs.get(job_id)).answer
            if job.status in TERMINAL:
                return job

    async def fetched(self, client, job_id):
        link = (await client.jobs.result(job_id)).answer
        async with client.fetch(link.signed_url) as stream:
            return json.loads(b"".join([chunk async for chunk in stream.chunks()]))


def is_signed(body, headers, secret):
    try:
        verify_callback(body, headers, [Secret(secret)])
    except TrustError:
        return False
    return True


async def said(call):
    """`ok`, or the error's code, status and what the platform called it, and what to do about it."""
    try:
        await call
    except EngineError as error:
        code = error.facts.get("platform_code") or error.facts.get("code")
        return [error.code, getattr(error, "status", None), code, error.hint]
    return "ok"


async def main(port, folder):
    transport = PooledTransport()
    try:
        async with Emulator(OPTIONS, bind=Bind(port=port), faults=Faults(FAULTS)) as emulator:
            seen = await Watch(emulator, transport).all()
    finally:
        await transport.aclose()
    return seen | await pipelines(folder)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))))
