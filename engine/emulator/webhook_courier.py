"""Webhook courier: sends what subscriptions are to hear, tries again, and spares an endpoint that fails (contract 6.6).

Only 2xx succeeds, 410 turns the webhook off, redirects are not followed. While a webhook's circuit is open nothing is
sent to it and nothing is counted; then one attempt probes, and its success brings all that waited (Q34-Q36).
"""

from __future__ import annotations

import asyncio

import anyio
import msgspec

from engine.codec.payload import encode, loads
from engine.contract.exchange import Trace, new_span_id
from engine.contract.webhooks import ACTIVE, EXHAUSTED, FAILED, SUCCEEDED
from engine.emulator import callbacks, subscriptions, tracing
from engine.emulator.callbacks import Answer
from engine.emulator.state import State
from engine.emulator.subscriptions import Outcome, Subscription, Try
from engine.ports import Transport
from engine.settings import Secret
from engine.trust.webhook import as_standard, callback_key, standard_key


def headers_of(state: State, subscription: Subscription, one: Try, span: Trace) -> dict[str, str]:
    """The headers of one attempt: the platform's signature over the raw body, and those of Standard Webhooks (Q34)."""
    secret = Secret(subscription.secret)
    return {
        "Content-Type": "application/json",
        "X-Argus-Signature": callbacks.signature(callback_key(secret), one.body),
        "X-Argus-Trace-ID": one.trace_id,
        "traceparent": span.traceparent,
        **callbacks.standard_headers(state, one.delivery_id, one.body, standard_key(as_standard(secret))),
        **({"X-Argus-Sandbox": "true"} if _is_of_sandbox(one) else {}),
    }


def _is_of_sandbox(one: Try) -> bool:
    data = loads(one.body)["data"]
    return isinstance(data, dict) and data.get(subscriptions.SANDBOX) is True


class WebhookCourier:
    """Sends what is due until cancelled, beginning with what an earlier process left unsent."""

    def __init__(self, state: State, transport: Transport) -> None:
        self._state = state
        self._transport = transport
        self._schedule = subscriptions.schedule_of(state)
        self._slots = asyncio.Semaphore(callbacks.SENDING_AT_ONCE)
        self._under_way: set[int] = set()
        self._probing: set[str] = set()
        self._waiting: dict[str, set[int]] = {}
        self._overtaken: set[str] = set()

    async def run(self) -> None:
        """Send until cancelled."""
        for number, due_ns in subscriptions.pending(self._state):
            self._schedule.put(due_ns, str(number))
        async with anyio.create_task_group() as senders:
            while True:
                for due in map(int, self._schedule.take_due()):
                    if due not in self._under_way:
                        self._under_way.add(due)
                        senders.start_soon(self._deliver, due)
                await self._schedule.wait()

    async def _deliver(self, number: int) -> None:
        try:
            async with self._slots:
                one = subscriptions.load(self._state, number)
                if one is None or one.due_ns > self._state.clock.now_ns():
                    return
                subscription = subscriptions.find(self._state, one.webhook_id)
                if subscription is not None and self._may_send(subscription, one):
                    await self._attempt_under_fire(subscription, one)
        finally:
            self._under_way.discard(number)

    def _may_send(self, subscription: Subscription, one: Try) -> bool:
        """Whether the circuit lets an attempt pass; one that it does not is put off."""
        if one.is_single or subscription.failures < self._state.profile.webhook_circuit_failures:
            return True
        if self._state.clock.now_ns() < subscription.open_until_ns:
            self._waiting.setdefault(subscription.id, set()).add(one.number)
            subscriptions.put_off(self._state, one, subscription.open_until_ns)
            return False
        if subscription.id in self._probing:
            self._waiting.setdefault(subscription.id, set()).add(one.number)
            return False
        return True

    async def _attempt_under_fire(self, subscription: Subscription, one: Try) -> None:
        """One attempt, with what the fault script does to it."""
        state = self._state
        fault = state.faults.strike("webhook", kind=one.event, subject=one.delivery_id)
        if fault is None:
            await self._attempt(subscription, one)
            return
        if fault.flag("reorder") and one.delivery_id not in self._overtaken:
            # Put off once, so that whatever comes due meanwhile overtakes it.
            self._overtaken.add(one.delivery_id)
            subscriptions.put_off(state, one, state.clock.now_ns() + int(callbacks.REORDER_S * 1e9))
            return
        self._overtaken.discard(one.delivery_id)
        await state.clock.sleep(fault.delay_s(state.faults))
        if fault.flag("lose"):
            with state.transaction():
                self._settle(one, Answer(status=200), state.clock.now_ns(), 0)
            return
        if fault.flag("forge"):
            forged = msgspec.structs.replace(one, body=encode(loads(one.body) | {"data": None}))
            stranger = msgspec.structs.replace(subscription, secret="not the secret")
            await self._post(stranger, forged, Trace(one.trace_id, new_span_id()))
        for _ in range(fault.count("duplicate")):
            await self._post(subscription, one, Trace(one.trace_id, new_span_id()))
        await self._attempt(subscription, one)

    async def _post(self, subscription: Subscription, one: Try, span: Trace) -> Answer:
        headers = headers_of(self._state, subscription, one, span)
        return await callbacks.post(self._state, self._transport, subscription.url, headers, one.body)

    async def _attempt(self, subscription: Subscription, one: Try) -> None:
        state = self._state
        span = Trace(one.trace_id, new_span_id())
        is_probe = not one.is_single and subscription.failures >= state.profile.webhook_circuit_failures
        if is_probe:
            self._probing.add(subscription.id)
        began_ns, began = state.clock.now_ns(), state.clock.monotonic()
        try:
            answer = await self._post(subscription, one, span)
        finally:
            if is_probe:
                self._probing.discard(subscription.id)
        took_ns = int((state.clock.monotonic() - began) * 1e9)
        with state.transaction():
            self._settle(one, answer, began_ns, took_ns)
        self._wake(subscription.id)
        self._trace(subscription, one, answer, (span, began_ns, took_ns))

    def _settle(self, one: Try, answer: Answer, began_ns: int, took_ns: int) -> None:
        state = self._state
        wait_s = None
        if answer.is_taken:
            status = SUCCEEDED
        else:
            tried = one.step + 1
            if not one.is_single and answer.status != state.profile.callback_gone_status:
                wait_s = callbacks.wait_after(state, one.delivery_id, tried, answer.wait_s)
            now = subscriptions.find(state, one.webhook_id)
            if now is None or now.status != ACTIVE:
                wait_s = None
            status = EXHAUSTED if wait_s is None else FAILED
        next_ns = None if wait_s is None else state.clock.now_ns() + int(wait_s * 1e9)
        outcome = Outcome(
            status=status, at_ns=began_ns, duration_ns=took_ns, response_status=answer.status, error=answer.error,
            next_ns=next_ns,
        )  # fmt: skip
        subscriptions.settle(state, one, outcome)
        subscriptions.count_answer(state, one.webhook_id, is_taken=answer.is_taken)
        if answer.status == state.profile.callback_gone_status:
            subscriptions.disable(state, one.webhook_id)

    def _wake(self, webhook_id: str) -> None:
        """What waited for this webhook's circuit is looked at again: sent if it shut, else put off."""
        for number in sorted(self._waiting.pop(webhook_id, ())):
            one = subscriptions.load(self._state, number)
            if one is not None:
                subscriptions.put_off(self._state, one, self._state.clock.now_ns())

    def _trace(self, subscription: Subscription, one: Try, answer: Answer, measured: tuple[Trace, int, int]) -> None:
        span, began_ns, took_ns = measured
        tracing.record(
            self._state,
            tracing.Span(
                tenant_id=subscription.tenant_id, trace_id=span.trace_id, span_id=span.span_id,
                parent_span_id=one.span_id, name="webhook", start_ns=began_ns, duration_ns=took_ns,
                status_code="OK" if answer.is_taken else "ERROR",
                attributes={"webhook.id": one.webhook_id, "attempt": one.attempt, "http.status": answer.status},
            ),
        )  # fmt: skip
