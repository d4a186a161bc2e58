"""The client against the emulator: every route by its method and by its name, and one job from end to end."""

import contextlib
import inspect

import pytest

from engine.client.client import Client
from engine.contract.catalog import ROUTES
from engine.contract.devices import EnrolDevice, Observe
from engine.contract.epcr import CreateEncounter
from engine.contract.exchange import Trace
from engine.contract.identity import GovernApp
from engine.contract.jobs import TERMINAL
from engine.contract.oauth import AskToken, Authorize
from engine.contract.webhooks import UpdateWebhook
from engine.errors import ConfigError, Missing, RecordError, Refused

pytestmark = pytest.mark.anyio


def methods_of(client: Client) -> dict[str, object]:
    """Every method that asks exactly one route, as `group.method`."""
    groups = {name: value for name, value in vars(client).items() if not name.startswith("_")}
    return {
        f"{group}.{name}": method
        for group, owner in groups.items()
        for name, method in inspect.getmembers(type(owner), inspect.iscoroutinefunction)
    }


async def test_each_route_has_exactly_one_method(scripted) -> None:
    """Parity: a route's name is the way to its method, and no method asks what is no route."""
    found = methods_of(scripted)

    assert set(ROUTES) <= set(found)
    assert set(found) - set(ROUTES) == {"jobs.create_raw"}


async def test_each_method_sends_its_own_route(platform, scripted) -> None:
    """What a method puts on the wire is its route's method and path."""
    asks = {
        "identity.create_app": ("n", ["client_credentials"]),
        "identity.get_app": ("app_1",),
        "identity.govern_app": (GovernApp(client_id="app_1", notes="n"),),
        "oauth.authorize": (Authorize(response_type="code", client_id="a", redirect_uri="https://x.example"),),
        "oauth.token": (AskToken(grant_type="client_credentials"),),
        "oauth.service_token": ("app_1",),
        "oauth.rotate_secret": ("app_1",),
        "webhooks.create": ("https://x.example/hook", ["incident.updated"]),
        "webhooks.get": ("wh_1",),
        "webhooks.update": (UpdateWebhook(webhook_id="wh_1", events=["incident.updated"]),),
        "webhooks.delete": ("wh_1",),
        "webhooks.deliveries": ("wh_1",),
        "webhooks.test": ("wh_1",),
        "tracing.get": ("0af7651916cd43dd8448eb211c80319c",),
        "jobs.create": ("export.bulk", {}),
        "jobs.get": ("job_1",),
        "jobs.result": ("job_1",),
        "jobs.cancel": ("job_1",),
        "sandbox.token": ("app_1",),
        "reference.topic": ("async-jobs",),
        "reference.module": ("data-import-export",),
        "epcr.get": ("enc_1",),
        "epcr.bundle": ("enc_1",),
        "epcr.create": (CreateEncounter(incident_id="inc_1", started_at="2026-05-08T12:00:00Z"),),
        "devices.enrol": (EnrolDevice(manufacturer="m", model="n", serial_number="s", type_code="1"),),
        "devices.observe": (Observe(device_id="dev_1", code="150456", value=97.0),),
        "provenance.get": ("ev_1",),
        "provenance.verify": ("ev_1",),
    }
    for name, route in ROUTES.items():
        if name == "sandbox.scenarios":
            continue
        group, _, verb = name.partition(".")
        count = len(platform.seen)
        with contextlib.suppress(Missing):
            await getattr(getattr(scripted, group), verb)(*asks.get(name, ()))
        seen = platform.seen[-1] if len(platform.seen) > count else None
        assert seen is not None, name
        slots = seen.path.split("/"), route.path.split("/")
        assert seen.method == route.method, name
        assert all(want == have or want.startswith("{") for have, want in zip(*slots, strict=True)), name


async def test_a_job_from_end_to_end(emulator, client_of) -> None:
    """Create, replay, watch, find in the list, fetch, in one trace that the platform then tells."""
    client = client_of(emulator)
    trace = Trace.new()
    body = b'{"kind":"intelligence.enrich.bulk","payload":{"profile_ids":["p1","p2"]}}'

    made = await client.jobs.create_raw(body, key="key-1", trace=trace)
    again = await client.jobs.create_raw(body, key="key-1", trace=trace)
    assert (made.status, again.status, again.answer.id) == (201, 200, made.answer.id)
    assert made.trace_id == trace.trace_id

    job = (await client.jobs.get(made.answer.id, trace=trace)).answer
    while job.status not in TERMINAL:
        job = (await client.jobs.get(made.answer.id, trace=trace)).answer
    assert job.status == "succeeded"
    assert job.trace_id == trace.trace_id
    assert [one.id async for one in client.jobs.every(kind="intelligence.enrich.bulk")] == [job.id]

    link = (await client.jobs.result(job.id, trace=trace)).answer
    async with client.fetch(link.signed_url, trace=trace) as body_stream:
        whole = b"".join([chunk async for chunk in body_stream.chunks()])
        etag = body_stream.headers["etag"]
    async with client.fetch(link.signed_url, range_from=10, if_range=etag, trace=trace) as body_stream:
        rest = b"".join([chunk async for chunk in body_stream.chunks()])
        assert body_stream.status == 206
    assert whole.startswith(b"{")
    assert rest == whole[10:]
    assert (await client.jobs.cancel(job.id)).answer.status == "succeeded"


async def test_any_route_by_its_name(emulator, client_of) -> None:
    """`ask` takes and gives plain data, reads text where a number is wanted, and refuses what is no member."""
    client = client_of(emulator)

    made = await client.ask("jobs.create", {"kind": "export.bulk", "payload": {}})
    assert (await client.ask("jobs.get", {"id": made["id"]}))["kind"] == "export.bulk"
    assert len((await client.ask("jobs.list", {"limit": "1"}))["jobs"]) == 1
    for name, members, message in (
        ("jobs.fly", {}, "no route is called 'jobs.fly'"),
        ("jobs.get", {"id": "x", "idd": 1}, "has no member 'idd'"),
        ("jobs.get", {}, "missing required field `id`"),
        ("jobs.list", {"limit": "many"}, "Expected `int"),
    ):
        with pytest.raises(RecordError, match=message):
            await client.ask(name, members)


async def test_the_sandbox_is_asked_with_a_token_minted_for_it(emulator, client_of) -> None:
    """A client in the sandbox mints its own token as an administrator; a live one may ask the scenarios."""
    sandboxed = client_of(emulator, api_url=emulator.sandbox_url, sandbox_url=None, is_sandbox=True)

    job = await sandboxed.jobs.create("export.bulk", {})
    assert job.headers["x-argus-sandbox"] == "true"
    assert len((await client_of(emulator).sandbox.scenarios()).answer.scenarios) == 5


async def test_the_gate_says_why(emulator, client_of) -> None:
    """A live token at the sandbox's host is refused, and the hint names the reason."""
    client = client_of(emulator, api_url=emulator.sandbox_url)

    with pytest.raises(Refused) as caught:
        await client.jobs.get("x")
    assert "live-token-on-sandbox-host" in caught.value.hint


async def test_every_app_is_found_page_by_page(emulator, client_of) -> None:
    """The pages of a list are walked to the end."""
    client = client_of(emulator)
    for number in range(4):
        await client.identity.create_app(f"app {number}", ["client_credentials"])

    names = [app.name async for app in client.identity.every_app(limit=2)]

    assert {f"app {number}" for number in range(4)} <= set(names)
    assert len(names) == len(set(names))


async def test_a_route_without_what_it_needs_is_a_matter_of_configuration(emulator, client_of) -> None:
    """No credentials, or no sandbox host, is said before anything is sent."""
    client = client_of(emulator, client_id=None, sandbox_url=None)

    with pytest.raises(ConfigError, match=r"jobs\.get needs client_id and client_secret"):
        await client.jobs.get("x")
    with pytest.raises(ConfigError, match=r"sandbox\.scenarios needs a sandbox token"):
        await client.sandbox.scenarios()
    assert len((await client.keys.well_known()).answer.keys) >= 1
    with pytest.raises(ConfigError, match="served by the sandbox host only"):
        await client_of(emulator, sandbox_url=None).sandbox.scenarios()
