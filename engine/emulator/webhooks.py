"""Webhooks: the routes of subscriptions and their deliveries (contract 6, routes 12-18), and what they are told of.

Subscriptions belong to the live world: they are asked for at the auth host. They hear of the sandbox's jobs too, and
such an event says in its signed data that it is one.
"""

from __future__ import annotations

import base64
import secrets
from typing import Any

import msgspec
from msgspec import UNSET

from engine.codec.payload import dumps
from engine.contract import webhooks as contract
from engine.contract.exchange import Trace
from engine.contract.paging import Cursor, write_cursor
from engine.contract.webhooks import ACTIVE, DISABLED, DeliveryAttempt, DeliveryList, SentTest, Webhook, WebhookList
from engine.emulator import callbacks, entities, subscriptions
from engine.emulator.call import Call, Handler, Reply
from engine.emulator.entities import Effect
from engine.emulator.jobtable import Ending, Job
from engine.emulator.paging import limit_of, place_of
from engine.emulator.refusal import Refusal, invalid, unfit
from engine.emulator.state import State
from engine.emulator.subscriptions import Subscription
from engine.errors import ConfigError
from engine.settings import Secret
from engine.trust.webhook import as_standard, standard_key

_EVENTS_MAX = 100
_EVENT_CHARS_MAX = 128
_SECRET_CHARS_MIN, _SECRET_CHARS_MAX = 8, 512
_SECRET_BYTES = 32
_STATUSES = (ACTIVE, DISABLED)


def tell_of_job(state: State, job: Job, ending: Ending, effects: list[Effect] | None = None) -> None:
    """Emit what the end of a job means: its terminal state, and each incident it changed (Q37).

    Call inside the transaction that ends the job. A job of the sandbox changes nothing.
    """
    if job.is_sandbox and not state.profile.sandbox_events:
        return
    trace = Trace(job.trace_id, job.span_id)
    event = state.profile.job_event_prefix + ending.status
    told = callbacks.told_of(job, ending) | ({subscriptions.SANDBOX: True} if job.is_sandbox else {})
    subscriptions.emit(state, job.tenant_id, event, told, trace)
    if effects and subscriptions.hears(state, job.tenant_id, state.profile.incident_event):
        for incident in _incidents(effects, state.profile.incident_type):
            subscriptions.emit(state, job.tenant_id, state.profile.incident_event, incident, trace)


def _incidents(effects: list[Effect], incident_type: str) -> list[dict[str, Any]]:
    rows = [row for effect in effects if effect.verb == entities.PUT for row in effect.rows]
    return [
        {"id": entity_id, "external_id": external_id, "label": label, "updated_at": updated_at}
        for _, external_id, entity_id, entity_type, label, _, updated_at in rows
        if entity_type == incident_type
    ]


def handlers(state: State) -> dict[str, Handler]:
    """Routes 12-18."""
    routes = _Routes(state)
    return {
        contract.CREATE.name: routes.create,
        contract.LIST.name: routes.page,
        contract.GET.name: routes.get,
        contract.UPDATE.name: routes.update,
        contract.DELETE.name: routes.delete,
        contract.DELIVERIES.name: routes.deliveries,
        contract.SEND_TEST.name: routes.send_test,
    }


class _Routes:
    def __init__(self, state: State) -> None:
        self._state = state

    def create(self, call: Call) -> Reply:
        """Store a subscription; a secret of our making is in this answer and in no other (Q30)."""
        ask: contract.CreateWebhook = call.ask
        self._check_url(ask.url)
        if ask.secret is UNSET and self._state.profile.webhook_secret_required:
            raise invalid("body", "secret", "is required", "missing")
        given = None if ask.secret is UNSET else _checked_secret(ask.secret)
        secret = given or new_secret()
        now_ns = self._state.clock.now_ns()
        made = Subscription(
            id=self._state.new_id("wh_"), tenant_id=call.known.tenant_id, url=ask.url,
            events=_checked_events(ask.events), secret=secret, status=ACTIVE, created_ns=now_ns, updated_ns=now_ns,
        )  # fmt: skip
        subscriptions.put(self._state, made)
        shown = msgspec.structs.replace(self._view(made), secret=None if given else secret)
        headers = {"Location": f"/v1/webhooks/{made.id}", "Cache-Control": "no-store"}
        return Reply(status=self._state.profile.webhook_created_status, body=shown, headers=headers)

    def page(self, call: Call) -> Reply:
        """A page of the tenant's subscriptions, newest first."""
        limit, place = limit_of(call.ask.limit, self._state.profile), place_of(call.ask.cursor)
        before = place.id if place else None
        found, total = subscriptions.page(self._state, call.known.tenant_id, before=before, limit=limit + 1)
        following = None
        if len(found) > limit:
            found = found[:limit]
            following = write_cursor(Cursor(self._state.now_text(found[-1].created_ns), found[-1].id))
        shown = [self._view(one) for one in found]
        return Reply(body=WebhookList(webhooks=shown, next_cursor=following, total_count=total))

    def get(self, call: Call) -> Reply:
        """One subscription."""
        return Reply(body=self._view(self._find(call)))

    def update(self, call: Call) -> Reply:
        """Change what is named, keep the rest (Q31). Turned on again, a webhook begins with a shut circuit."""
        ask: contract.UpdateWebhook = call.ask
        found = self._find(call)
        for name, value in (("url", ask.url), ("events", ask.events)):
            if value is UNSET and not self._state.profile.webhook_put_is_partial:
                raise invalid("body", name, "is required", "missing")
        changes: dict[str, Any] = {"updated_ns": self._state.clock.now_ns()}
        if ask.url is not UNSET:
            self._check_url(ask.url)
            changes["url"] = ask.url
        if ask.events is not UNSET:
            changes["events"] = _checked_events(ask.events)
        if ask.secret is not UNSET:
            changes["secret"] = _checked_secret(ask.secret)
        if ask.status is not UNSET and ask.status not in _STATUSES:
            raise invalid("body", "status", f"must be one of: {', '.join(_STATUSES)}")
        if ask.status == ACTIVE:
            changes |= {"status": ACTIVE, "failures": 0, "open_until_ns": 0}
        with self._state.transaction():
            subscriptions.put(self._state, msgspec.structs.replace(found, **changes))
            if ask.status == DISABLED:
                subscriptions.disable(self._state, found.id)
        return Reply(body=self._view(self._find(call)))

    def delete(self, call: Call) -> Reply:
        """Forget a subscription with its deliveries."""
        subscriptions.remove(self._state, self._find(call).id)
        return Reply(status=self._state.profile.webhook_deleted_status)

    def deliveries(self, call: Call) -> Reply:
        """A page of delivery attempts, newest first (Q32)."""
        webhook = self._find(call)
        limit, place = limit_of(call.ask.limit, self._state.profile), place_of(call.ask.cursor)
        before = place.id if place else None
        if before is not None and not before.isdecimal():
            raise invalid("query", self._state.profile.page_names["cursor"], "is not a cursor of this list")
        at = None if before is None else min(int(before[:19]), 1 << 62)
        found, total = subscriptions.attempts(self._state, webhook.id, before=at, limit=limit + 1)
        following = None
        if len(found) > limit:
            found = found[:limit]
            following = write_cursor(Cursor("", str(found[-1][0])))
        shown = [self._attempt(webhook.id, row) for _, row in found]
        return Reply(body=DeliveryList(deliveries=shown, next_cursor=following, total_count=total))

    def send_test(self, call: Call) -> Reply:
        """Store one test delivery, tried once (Q33)."""
        webhook = self._find(call)
        if webhook.status != ACTIVE:
            raise Refusal(409, "webhook_disabled", "The webhook is disabled; turn it on again first.")
        state, event = self._state, self._state.profile.test_event
        said = ({"webhook_id": webhook.id}, call.trace)
        with state.transaction():
            delivery_id = subscriptions.enqueue(state, webhook.id, event, state.new_id("evt_"), said, is_single=True)
        return Reply(
            status=state.profile.test_status,
            body=SentTest(delivery_id=delivery_id, event=event, status=contract.PENDING),
        )

    def _find(self, call: Call) -> Subscription:
        """The webhook asked for; another tenant's is as unknown as one that never was (contract 1.5)."""
        found = subscriptions.find(self._state, call.ask.webhook_id, tenant_id=call.known.tenant_id)
        if found is None:
            raise Refusal(404, "not_found", "No webhook of this id.")
        return found

    def _view(self, one: Subscription) -> Webhook:
        return Webhook(
            id=one.id, url=one.url, events=subscriptions.events_of(one), status=one.status,
            created_at=self._state.now_text(one.created_ns), updated_at=self._state.now_text(one.updated_ns),
        )  # fmt: skip

    def _attempt(self, webhook_id: str, row: dict[str, Any]) -> DeliveryAttempt:
        def text(at_ns: int | None) -> str | None:
            return None if at_ns is None else self._state.now_text(at_ns)

        return DeliveryAttempt(
            id=row["id"], webhook_id=webhook_id, event=row["event"], event_id=row["event_id"],
            attempt=row["attempt"], status=row["status"], response_status=row["response_status"],
            duration_ms=None if row["duration_ns"] is None else row["duration_ns"] // 1_000_000,
            error=row["error"], attempted_at=text(row["at_ns"]), next_attempt_at=text(row["next_ns"]),
        )  # fmt: skip

    def _check_url(self, url: str) -> None:
        fault = callbacks.check_url(self._state, url, member="url")
        if fault is not None:
            raise unfit(f"body.url: {fault.msg}", [fault])


def new_secret() -> str:
    """A secret as Standard Webhooks writes them: `whsec_` and the Base64 of 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _checked_secret(text: str) -> str:
    if not _SECRET_CHARS_MIN <= len(text) <= _SECRET_CHARS_MAX or not text.isascii() or not text.isprintable():
        raise invalid(
            "body", "secret", f"must have {_SECRET_CHARS_MIN} to {_SECRET_CHARS_MAX} printable ASCII characters"
        )
    try:
        standard_key(as_standard(Secret(text)))
    except ConfigError:
        raise invalid("body", "secret", "must be Base64 after whsec_") from None
    return text


def _checked_events(events: list[str]) -> str:
    """Event names are open strings (Q37); doubled ones count once."""
    if not 1 <= len(events) <= _EVENTS_MAX:
        raise invalid("body", "events", f"must name 1 to {_EVENTS_MAX} events")
    if not all(0 < len(event) <= _EVENT_CHARS_MAX and event.isprintable() for event in events):
        raise invalid("body", "events", f"each must have 1 to {_EVENT_CHARS_MAX} printable characters")
    return dumps(list(dict.fromkeys(events))).decode()
