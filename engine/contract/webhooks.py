"""Webhooks (contract 6): routes 12-18, and the envelope in which an event arrives."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Nothing, Route

ACTIVE, DISABLED = "active", "disabled"
PENDING, SUCCEEDED, FAILED, EXHAUSTED = "pending", "succeeded", "failed", "exhausted"


class CreateWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """A new subscription. Without `secret` the platform makes one and shows it once (Q30)."""

    url: str
    events: list[str]
    secret: str | UnsetType = UNSET


class Webhook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=PROFILE.webhook_names):
    """A subscription. `secret` is there once: in the answer that made it, when the platform chose it."""

    id: str
    url: str
    events: list[str]
    status: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    secret: str | None = None


class ListWebhooks(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.page_names):
    """A page of the tenant's subscriptions, newest first."""

    cursor: str | None = None
    limit: int | None = None


class WebhookList(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.page_names):
    """A page of subscriptions (Q21)."""

    webhooks: list[Webhook]
    next_cursor: str | None = None
    total_count: int | None = None


class GetWebhook(msgspec.Struct, frozen=True):
    """One subscription by its id."""

    webhook_id: str


class UpdateWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """A change; what is absent stays as it is (Q31). `status` "active" turns a disabled one on again."""

    webhook_id: str
    url: str | UnsetType = UNSET
    events: list[str] | UnsetType = UNSET
    secret: str | UnsetType = UNSET
    status: str | UnsetType = UNSET


class ListDeliveries(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.page_names):
    """A page of a subscription's delivery attempts, newest first."""

    webhook_id: str
    cursor: str | None = None
    limit: int | None = None


class DeliveryAttempt(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.delivery_names):
    """One attempt at a delivery (Q32); `id` is the delivery's and the same on each of its attempts.

    status   pending: not made yet; succeeded; failed: another follows; exhausted: none follows.
    """

    id: str
    webhook_id: str
    event: str
    event_id: str
    attempt: int
    status: str
    response_status: int | None = None
    duration_ms: int | None = None
    error: str | None = None
    attempted_at: str | None = None
    next_attempt_at: str | None = None


class DeliveryList(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.page_names):
    """A page of delivery attempts (Q21, Q32)."""

    deliveries: list[DeliveryAttempt]
    next_cursor: str | None = None
    total_count: int | None = None


class SentTest(msgspec.Struct, frozen=True, kw_only=True):
    """A test delivery on its way (Q33)."""

    delivery_id: str
    event: str
    status: str


class Event(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.event_names):
    """The envelope of an event (contract 6.6, Q35); `id` is the delivery's, the same on every attempt."""

    type: str
    timestamp: str
    data: Any
    id: str = ""


_ONE = "/v1/webhooks/{webhook_id}"
_HOSTS = (Host.AUTH,)
CREATE = Route(
    number=12, name="webhooks.create", method="POST", path="/v1/webhooks", hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.webhooks_write_scopes, ask=CreateWebhook, answer=Webhook,
    status=tuple(dict.fromkeys((PROFILE.webhook_created_status, 201, 200))),
)  # fmt: skip
LIST = Route(
    number=13, name="webhooks.list", method="GET", path="/v1/webhooks", hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.webhooks_read_scopes, ask=ListWebhooks, answer=WebhookList,
)  # fmt: skip
GET = Route(
    number=14, name="webhooks.get", method="GET", path=_ONE, hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.webhooks_read_scopes, ask=GetWebhook, answer=Webhook,
)  # fmt: skip
UPDATE = Route(
    number=15, name="webhooks.update", method="PUT", path=_ONE, hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.webhooks_write_scopes, ask=UpdateWebhook, answer=Webhook,
)  # fmt: skip
DELETE = Route(
    number=16, name="webhooks.delete", method="DELETE", path=_ONE, hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.webhooks_write_scopes, ask=GetWebhook, answer=Nothing,
    status=tuple(dict.fromkeys((PROFILE.webhook_deleted_status, 204, 200))),
)  # fmt: skip
DELIVERIES = Route(
    number=17, name="webhooks.deliveries", method="GET", path=_ONE + "/deliveries", hosts=_HOSTS,
    auth=Auth.BEARER, scopes=PROFILE.webhooks_read_scopes, ask=ListDeliveries, answer=DeliveryList,
)  # fmt: skip
SEND_TEST = Route(
    number=18, name="webhooks.test", method="POST", path=_ONE + "/test", hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.webhooks_write_scopes, ask=GetWebhook, answer=SentTest,
    status=tuple(dict.fromkeys((PROFILE.test_status, 202, 200))),
)  # fmt: skip

ROUTES = (CREATE, LIST, GET, UPDATE, DELETE, DELIVERIES, SEND_TEST)
EXAMPLES = {
    CREATE.name: CreateWebhook(url="https://integrator.example/webhooks/argus", events=["incident.updated"]),
    LIST.name: ListWebhooks(limit=50),
    GET.name: GetWebhook("wh_123"),
    UPDATE.name: UpdateWebhook(webhook_id="wh_123", events=["incident.updated"]),
    DELETE.name: GetWebhook("wh_123"),
    DELIVERIES.name: ListDeliveries(webhook_id="wh_123", limit=50),
    SEND_TEST.name: GetWebhook("wh_123"),
}
