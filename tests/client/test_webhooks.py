"""Subscriptions through the client, and what they bring to a receiver that reads it (contract 6)."""

import asyncio

import pytest

from engine.client.events import EventReader
from engine.contract.webhooks import UpdateWebhook
from engine.errors import Missing, Rejected
from engine.settings import Secret
from engine.transport.incoming import Outgoing
from engine.transport.listener import Listener

pytestmark = pytest.mark.anyio


@pytest.fixture
async def endpoint():
    """A URL of an integrator, and what comes to it."""
    got = asyncio.Queue()

    async def take(incoming):
        got.put_nowait(incoming)
        return Outgoing(status=204)

    listener = Listener(take)
    await listener.start()
    yield listener.origin + "/hook", got
    await listener.aclose()


async def test_a_subscription_from_end_to_end(emulator, client_of, endpoint) -> None:
    """Made with a secret of the platform's, tested, changed, looked at, and ended."""
    url, got = endpoint
    client = client_of(emulator)

    made = (await client.webhooks.create(url, ["job.succeeded"])).answer
    reader = EventReader([Secret(made.secret)])
    sent = (await client.webhooks.test(made.id)).answer
    tested = await asyncio.wait_for(got.get(), 20)
    event = reader.read(tested.body, tested.headers)
    assert (event.id, event.type) == (sent.delivery_id, "webhook.test")

    job = (await client.jobs.create("intelligence.enrich.bulk", {"profile_ids": ["p1"]})).answer
    told = await asyncio.wait_for(got.get(), 20)
    assert reader.read(told.body, told.headers).data["id"] == job.id

    change = UpdateWebhook(webhook_id=made.id, events=["incident.updated"])
    assert (await client.webhooks.update(change)).answer.events == ["incident.updated"]
    assert (await client.webhooks.get(made.id)).answer.url == url
    assert [one.id async for one in client.webhooks.every(limit=1)] == [made.id]
    rows = [row async for row in client.webhooks.every_delivery(made.id, limit=1)]
    assert [row.event for row in rows] == ["job.succeeded", "webhook.test"]

    assert (await client.webhooks.delete(made.id)).status == 204
    with pytest.raises(Missing):
        await client.webhooks.delete(made.id)


async def test_webhooks_by_name(emulator, client_of) -> None:
    """The routes work by name with plain members, as `engine call` asks them; a private target is refused."""
    client = client_of(emulator)
    wish = {"url": "https://integrator.example/hook", "events": ["incident.updated"]}

    made = await client.ask("webhooks.create", wish)
    listed = await client.ask("webhooks.list", {"limit": "1"})

    assert [one["id"] for one in listed["webhooks"]] == [made["id"]]
    assert made["secret"].startswith("whsec_")
    assert await client.ask("webhooks.delete", {"webhook_id": made["id"]}) == {}
    with pytest.raises(Rejected, match="private"):
        await client.ask("webhooks.create", wish | {"url": "https://169.254.1.1/"})
