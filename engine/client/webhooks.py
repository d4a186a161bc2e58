"""Webhook subscriptions, as asked (contract 6): routes 12-18. Reading what they bring is `client.events`' work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import msgspec
from msgspec import UNSET, UnsetType

from engine.client.call import Answered, Caller
from engine.client.pages import items
from engine.contract import webhooks
from engine.contract.exchange import Trace
from engine.contract.profile import PROFILE
from engine.contract.route import Nothing
from engine.contract.webhooks import (
    CreateWebhook,
    DeliveryAttempt,
    DeliveryList,
    GetWebhook,
    ListDeliveries,
    ListWebhooks,
    SentTest,
    UpdateWebhook,
    Webhook,
    WebhookList,
)
from engine.errors import RecordError


class Webhooks:
    """Subscriptions to events, and how their deliveries went. Asked at the auth host."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self,
        url: str,
        events: Sequence[str],
        *,
        secret: str | UnsetType = UNSET,
        trace: Trace | None = None,
    ) -> Answered[Webhook]:
        """Subscribe an https URL to events. Without `secret` the answer holds one, this once. Twice makes two.

        Raises:
            RecordError: there is no secret, where the platform makes none (Q30); nothing was sent.
        """
        if secret is UNSET and PROFILE.webhook_secret_required:
            raise RecordError("a webhook needs a secret of yours", hint="give one of 32 random characters, and keep it")
        ask = CreateWebhook(url=url, events=list(events), secret=secret)
        return await self._caller.call(webhooks.CREATE, ask, trace=trace)

    async def list(
        self, *, limit: int | None = None, cursor: str | None = None, trace: Trace | None = None
    ) -> Answered[WebhookList]:
        """One page of the tenant's subscriptions, newest first."""
        return await self._caller.call(webhooks.LIST, ListWebhooks(cursor=cursor, limit=limit), trace=trace)

    def every(self, *, limit: int | None = PROFILE.page_limit_max) -> AsyncIterator[Webhook]:
        """Every subscription, newest first, page after page."""
        return items(lambda cursor: self.list(limit=limit, cursor=cursor), lambda page: page.webhooks)

    async def get(self, webhook_id: str, *, trace: Trace | None = None) -> Answered[Webhook]:
        """One subscription, without its secret."""
        return await self._caller.call(webhooks.GET, GetWebhook(webhook_id), trace=trace)

    async def update(self, change: UpdateWebhook, *, trace: Trace | None = None) -> Answered[Webhook]:
        """Change what `change` names: URL, events, secret; status "active" turns a disabled one on again.

        Where the platform takes a webhook as a whole alone (Q31), what is not named is read first and sent along.
        """
        if not PROFILE.webhook_put_is_partial and UNSET in (change.url, change.events):
            now = (await self.get(change.webhook_id, trace=trace)).answer
            url = now.url if change.url is UNSET else change.url
            events = now.events if change.events is UNSET else change.events
            change = msgspec.structs.replace(change, url=url, events=events)
        return await self._caller.call(webhooks.UPDATE, change, trace=trace)

    async def delete(self, webhook_id: str, *, trace: Trace | None = None) -> Answered[Nothing]:
        """End a subscription; what was not delivered yet never will be.

        Raises:
            Missing: there is none, so a second time also.
        """
        return await self._caller.call(webhooks.DELETE, GetWebhook(webhook_id), trace=trace)

    async def deliveries(
        self, webhook_id: str, *, limit: int | None = None, cursor: str | None = None, trace: Trace | None = None
    ) -> Answered[DeliveryList]:
        """One page of a subscription's delivery attempts, newest first."""
        ask = ListDeliveries(webhook_id=webhook_id, cursor=cursor, limit=limit)
        return await self._caller.call(webhooks.DELIVERIES, ask, trace=trace)

    def every_delivery(
        self, webhook_id: str, *, limit: int | None = PROFILE.page_limit_max
    ) -> AsyncIterator[DeliveryAttempt]:
        """Every delivery attempt of a subscription, newest first, page after page."""
        return items(
            lambda cursor: self.deliveries(webhook_id, limit=limit, cursor=cursor), lambda page: page.deliveries
        )

    async def test(self, webhook_id: str, *, trace: Trace | None = None) -> Answered[SentTest]:
        """Have one `webhook.test` sent, tried once (Q33); how it went is among the deliveries."""
        return await self._caller.call(webhooks.SEND_TEST, GetWebhook(webhook_id), trace=trace)
