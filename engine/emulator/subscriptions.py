"""Subscriptions: the webhooks of each tenant, the events they are to hear, and every attempt to tell them (contract 6).

Rows only; nothing is sent here. An event is stored in the transaction that makes it true, once for each webhook that
hears it. The attempt that is to be made next is a row that is still pending, so a restart knows what is due.
"""

from __future__ import annotations

import weakref
from typing import Any

import msgspec

from engine.codec.payload import encode, loads
from engine.contract.exchange import Trace
from engine.contract.webhooks import ACTIVE, DISABLED, EXHAUSTED, PENDING, Event
from engine.emulator.schedule import Schedule
from engine.emulator.state import State

SCHEMA = """
CREATE TABLE IF NOT EXISTS webhooks (
    id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, url TEXT NOT NULL, events TEXT NOT NULL, secret TEXT NOT NULL,
    status TEXT NOT NULL, created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL,
    failures INTEGER NOT NULL, open_until_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS webhooks_by_tenant ON webhooks (tenant_id, id);
CREATE TABLE IF NOT EXISTS webhook_messages (
    id TEXT PRIMARY KEY, webhook_id TEXT NOT NULL, event TEXT NOT NULL, event_id TEXT NOT NULL, body BLOB NOT NULL,
    trace_id TEXT NOT NULL, span_id TEXT NOT NULL, is_single INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS webhook_messages_by_webhook ON webhook_messages (webhook_id);
CREATE TABLE IF NOT EXISTS webhook_attempts (
    number INTEGER PRIMARY KEY AUTOINCREMENT, delivery_id TEXT NOT NULL, webhook_id TEXT NOT NULL,
    attempt INTEGER NOT NULL, step INTEGER NOT NULL, status TEXT NOT NULL, due_ns INTEGER NOT NULL,
    at_ns INTEGER, duration_ns INTEGER, response_status INTEGER, error TEXT, next_ns INTEGER
);
CREATE INDEX IF NOT EXISTS webhook_attempts_by_webhook ON webhook_attempts (webhook_id, number);
CREATE INDEX IF NOT EXISTS webhook_attempts_by_delivery ON webhook_attempts (delivery_id);
CREATE INDEX IF NOT EXISTS webhook_attempts_pending ON webhook_attempts (due_ns) WHERE status = 'pending';
"""
WITHDRAWN = "webhook.disabled"
# The member of an event's data that says it is of the sandbox.
SANDBOX = "sandbox"


class Subscription(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A webhook as stored. `failures` are in a row; until `open_until_ns` (wall) its circuit is open."""

    id: str
    tenant_id: str
    url: str
    events: str
    secret: str
    status: str
    created_ns: int
    updated_ns: int
    failures: int = 0
    open_until_ns: int = 0


class Try(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A pending attempt with the message it is to deliver; `step` counts the tries of this round so far."""

    number: int
    delivery_id: str
    webhook_id: str
    attempt: int
    step: int
    due_ns: int
    event: str
    body: bytes
    trace_id: str
    span_id: str
    is_single: bool


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an attempt went; `next_ns` is when the following one is due, None if none is."""

    status: str
    at_ns: int
    duration_ns: int
    response_status: int | None
    error: str | None
    next_ns: int | None = None


_FIELDS = Subscription.__struct_fields__
_COLUMNS = ", ".join(_FIELDS)
_SCHEDULES: weakref.WeakKeyDictionary[State, Schedule] = weakref.WeakKeyDictionary()


def schedule_of(state: State) -> Schedule:
    """The one schedule of a state: attempts by number. Whoever stores one puts it there, the courier takes it."""
    schedule = _SCHEDULES.get(state)
    if schedule is None:
        schedule = _SCHEDULES[state] = Schedule(state.clock)
    return schedule


def put(state: State, subscription: Subscription) -> None:
    """Store a subscription, new or changed."""
    state.db.execute(
        f"INSERT OR REPLACE INTO webhooks ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))})",  # noqa: S608
        msgspec.structs.astuple(subscription),
    )


def find(state: State, webhook_id: str, *, tenant_id: str | None = None) -> Subscription | None:
    """One subscription; None when unknown, or when it is another tenant's (contract 1.5)."""
    row = state.db.execute(f"SELECT {_COLUMNS} FROM webhooks WHERE id = ?", (webhook_id,)).fetchone()  # noqa: S608
    found = None if row is None else Subscription(**dict(zip(_FIELDS, row, strict=True)))
    return found if found is not None and tenant_id in (None, found.tenant_id) else None


def page(state: State, tenant_id: str, *, before: str | None, limit: int) -> tuple[list[Subscription], int]:
    """A tenant's subscriptions older than the id `before`, newest first, and how many there are in all."""
    rows = state.db.execute(
        f"SELECT {_COLUMNS} FROM webhooks WHERE tenant_id = ? AND id < ? ORDER BY id DESC LIMIT ?",  # noqa: S608
        (tenant_id, before or "~", limit),
    ).fetchall()
    total = state.db.execute("SELECT count(*) FROM webhooks WHERE tenant_id = ?", (tenant_id,)).fetchone()[0]
    return [Subscription(**dict(zip(_FIELDS, row, strict=True))) for row in rows], total


def remove(state: State, webhook_id: str) -> None:
    """Forget a subscription and everything that was or was to be sent to it."""
    with state.transaction() as db:
        db.execute("DELETE FROM webhooks WHERE id = ?", (webhook_id,))
        db.execute("DELETE FROM webhook_messages WHERE webhook_id = ?", (webhook_id,))
        db.execute("DELETE FROM webhook_attempts WHERE webhook_id = ?", (webhook_id,))


def disable(state: State, webhook_id: str) -> None:
    """Turn a subscription off; what is pending is given up."""
    with state.transaction() as db:
        db.execute(
            "UPDATE webhooks SET status = ?, updated_ns = ? WHERE id = ?",
            (DISABLED, state.clock.now_ns(), webhook_id),
        )
        db.execute(
            "UPDATE webhook_attempts SET status = ?, error = ? WHERE webhook_id = ? AND status = ?",
            (EXHAUSTED, WITHDRAWN, webhook_id, PENDING),
        )


def hears(state: State, tenant_id: str, event: str) -> list[str]:
    """The ids of the tenant's active webhooks that asked for this event, oldest first."""
    rows = state.db.execute(
        "SELECT id FROM webhooks w WHERE tenant_id = ? AND status = ?"
        " AND EXISTS (SELECT 1 FROM json_each(w.events) e WHERE e.value = ?) ORDER BY id",
        (tenant_id, ACTIVE, event),
    )
    return [row[0] for row in rows]


def emit(state: State, tenant_id: str, event: str, data: Any, trace: Trace) -> list[str]:
    """Store an event for each webhook that hears it, inside the transaction that makes it true; the delivery ids."""
    hearing = hears(state, tenant_id, event)
    if not hearing:
        return []
    event_id = state.new_id("evt_")
    return [enqueue(state, webhook_id, event, event_id, (data, trace)) for webhook_id in hearing]


def enqueue(
    state: State, webhook_id: str, event: str, event_id: str, said: tuple[Any, Trace], *, is_single: bool = False
) -> str:
    """Store one delivery, due at once: `said` is the event's data and its trace. A single one is never retried."""
    data, trace = said
    delivery_id = state.new_id("dlv_")
    # `webhook-id` goes into the signed text, so it may hold no dot; ours never does.
    body = encode(Event(id=delivery_id, type=event, timestamp=state.now_text(), data=data))
    state.db.execute(
        "INSERT INTO webhook_messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (delivery_id, webhook_id, event, event_id, body, trace.trace_id, trace.span_id, is_single),
    )
    plan(state, delivery_id, webhook_id, (1, 0), state.clock.now_ns())
    return delivery_id


def plan(state: State, delivery_id: str, webhook_id: str, count: tuple[int, int], due_ns: int) -> None:
    """Store the attempt that comes next: `count` is its number among all, and the tries of its round so far."""
    cursor = state.db.execute(
        "INSERT INTO webhook_attempts (delivery_id, webhook_id, attempt, step, status, due_ns, next_ns)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (delivery_id, webhook_id, *count, PENDING, due_ns, due_ns),
    )
    schedule_of(state).put(due_ns, str(cursor.lastrowid))


def replay(state: State, delivery_id: str) -> bool:
    """Send a delivery again, whatever became of it: the same id and bytes, a new round of the schedule.

    False when there is none, its webhook is off, or an attempt of it is pending already.
    """
    row = state.db.execute(
        "SELECT w.id, max(a.attempt), max(a.status = ?) FROM webhook_attempts a JOIN webhooks w ON w.id = a.webhook_id"
        " WHERE a.delivery_id = ? AND w.status = ? GROUP BY w.id",
        (PENDING, delivery_id, ACTIVE),
    ).fetchone()
    if row is None or row[2]:
        return False
    plan(state, delivery_id, row[0], (row[1] + 1, 0), state.clock.now_ns())
    return True


def pending(state: State) -> list[tuple[int, int]]:
    """(number, due_ns) of every attempt that is still to be made."""
    rows = state.db.execute("SELECT number, due_ns FROM webhook_attempts WHERE status = 'pending'")
    return [(row[0], row[1]) for row in rows]


def load(state: State, number: int) -> Try | None:
    """A pending attempt; None when it was made, or given up."""
    names = Try.__struct_fields__
    row = state.db.execute(
        "SELECT a.number, a.delivery_id, a.webhook_id, a.attempt, a.step, a.due_ns, m.event, m.body, m.trace_id,"
        " m.span_id, m.is_single FROM webhook_attempts a JOIN webhook_messages m ON m.id = a.delivery_id"
        " WHERE a.number = ? AND a.status = ?",
        (number, PENDING),
    ).fetchone()
    return None if row is None else Try(**dict(zip(names, row, strict=True)))


def settle(state: State, one: Try, outcome: Outcome) -> None:
    """Write how an attempt went, and store the next one where there is one."""
    with state.transaction() as db:
        changed = db.execute(
            "UPDATE webhook_attempts SET status = ?, at_ns = ?, duration_ns = ?, response_status = ?, error = ?,"
            " next_ns = ? WHERE number = ?",
            (*msgspec.structs.astuple(outcome), one.number),
        )
        if changed.rowcount == 1 and outcome.next_ns is not None:
            plan(state, one.delivery_id, one.webhook_id, (one.attempt + 1, one.step + 1), outcome.next_ns)


def put_off(state: State, one: Try, until_ns: int) -> None:
    """Have a pending attempt come due later, without counting it."""
    state.db.execute(
        "UPDATE webhook_attempts SET due_ns = ?, next_ns = ? WHERE number = ? AND status = ?",
        (until_ns, until_ns, one.number, PENDING),
    )
    schedule_of(state).put(until_ns, str(one.number))


def count_answer(state: State, webhook_id: str, *, is_taken: bool) -> None:
    """Count failures in a row; enough of them open the circuit, and one success shuts it (contract 6.6)."""
    if is_taken:
        state.db.execute("UPDATE webhooks SET failures = 0, open_until_ns = 0 WHERE id = ?", (webhook_id,))
        return
    profile = state.profile
    until_ns = state.clock.now_ns() + int(profile.webhook_circuit_s * state.options.callback_time_factor * 1e9)
    state.db.execute(
        "UPDATE webhooks SET failures = failures + 1,"
        " open_until_ns = CASE WHEN failures + 1 >= ? THEN ? ELSE open_until_ns END WHERE id = ?",
        (profile.webhook_circuit_failures, until_ns, webhook_id),
    )


def attempts(
    state: State, webhook_id: str, *, before: int | None, limit: int
) -> tuple[list[tuple[int, dict[str, Any]]], int]:
    """Attempts older than the number `before`, newest first, each with its number; and how many there are in all."""
    names = (
        "id", "attempt", "status", "at_ns", "duration_ns", "response_status", "error", "next_ns", "event", "event_id",
    )  # fmt: skip
    rows = state.db.execute(
        "SELECT a.number, a.delivery_id, a.attempt, a.status, a.at_ns, a.duration_ns, a.response_status, a.error,"
        " a.next_ns, m.event, m.event_id FROM webhook_attempts a JOIN webhook_messages m ON m.id = a.delivery_id"
        " WHERE a.webhook_id = ? AND a.number < ? ORDER BY a.number DESC LIMIT ?",
        (webhook_id, before if before is not None else 1 << 62, limit),
    ).fetchall()
    total = state.db.execute("SELECT count(*) FROM webhook_attempts WHERE webhook_id = ?", (webhook_id,)).fetchone()[0]
    return [(row[0], dict(zip(names, row[1:], strict=True))) for row in rows], total


def purge(state: State) -> None:
    """Forget attempts past their retention or beyond the count that is kept, and messages without any (Q32)."""
    oldest_ns = state.clock.now_ns() - state.profile.delivery_retention_s * 1_000_000_000
    with state.transaction() as db:
        db.execute("DELETE FROM webhook_attempts WHERE status <> ? AND at_ns < ?", (PENDING, oldest_ns))
        db.execute(
            "DELETE FROM webhook_attempts WHERE status <> ? AND number IN (SELECT number FROM (SELECT number,"
            " row_number() OVER (PARTITION BY webhook_id ORDER BY number DESC) AS place FROM webhook_attempts)"
            " WHERE place > ?)",
            (PENDING, state.profile.deliveries_max),
        )
        db.execute("DELETE FROM webhook_messages WHERE id NOT IN (SELECT delivery_id FROM webhook_attempts)")


def events_of(subscription: Subscription) -> list[str]:
    """What a subscription asked for."""
    return list(loads(subscription.events.encode()))
