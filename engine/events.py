"""What happened, as frozen facts: the only thing the engine tells telemetry, views and logs.

Per batch, per request, per job; never per record. No payloads, no secrets.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, gc=False):
    """The root of all facts."""


class RunStarted(Event, frozen=True):
    """A run began or was taken up again. `resumed` counts jobs by the state they were found in.

    `idle_s` since the process before this one was last known to work, `was_stopped` if it ended in order; `swept`
    files of it were discarded.
    """

    run_id: str
    pipeline: str
    platform: str
    trace_id: str
    resumed: dict[str, int]
    idle_s: float | None = None
    was_stopped: bool = False
    swept: int = 0


class BatchRead(Event, frozen=True):
    """A window of the input was read and transformed: `records` good ones, and what it took."""

    records: int
    bad: int
    filtered: int
    body_bytes: int
    took_s: float


class JobsPlanned(Event, frozen=True):
    """Jobs entered the ledger, together holding `rows` rows."""

    jobs: int
    rows: int


class JobSubmitted(Event, frozen=True):
    """The platform has the job. `replayed`: it answered 200, it already had it."""

    kind: str
    rows: int
    replayed: bool
    took_s: float


class JobSettled(Event, frozen=True):
    """A terminal state was confirmed by GET; `remote_s` since it was submitted."""

    kind: str
    status: str
    remote_s: float


class Polled(Event, frozen=True):
    """One poll answered for `answered` due jobs (a list page answers for many)."""

    answered: int
    by_page: bool


class CallbackReceived(Event, frozen=True):
    """A callback was answered: `news`, `duplicate`, `refused`, or `unsaved` (then it comes again).

    `remote_id`, `status` and `delivery_id` are only told of callbacks whose signature was proven; `reason` is the code
    of a refusal. `body_sha256` (hex) and the verdict are what a dispute about a delivery is settled with.
    """

    verdict: str
    body_sha256: str
    took_s: float
    remote_id: str | None = None
    status: str | None = None
    delivery_id: str | None = None
    reason: str | None = None


class ResultFetched(Event, frozen=True):
    """A result was streamed and matched."""

    rows: int
    body_bytes: int
    took_s: float


class PartCommitted(Event, frozen=True):
    """A part is durable and its jobs are committed."""

    name: str
    rows: int
    body_bytes: int
    jobs: int
    took_s: float


class JobGaveUp(Event, frozen=True):
    """A job ended without a result; its rows are dead letters."""

    kind: str
    rows: int
    code: str
    reason: str


class RequestDone(Event, frozen=True):
    """One HTTP exchange ended: `route` is the route's name, `status` 0 when no answer came."""

    route: str
    method: str
    template: str
    host: str
    status: int
    took_s: float
    resend: int


class Waited(Event, frozen=True):
    """A stage waited for `reason` (source, create, remote, fetch, sink, ledger, budget, memory)."""

    reason: str
    took_s: float


class LaneMoved(Event, frozen=True):
    """A lane's width changed, or it was shut or opened again; told at most twice a second but for the latter.

    `limit` requests may be on the wire, `in_use` are, `waiting` wait; `reason`: answers, pushed back, open, closed.
    """

    lane: str
    limit: int
    in_use: int
    waiting: int
    reason: str


class SpanEnded(Event, frozen=True):
    """A span of a trace, told once, at its end, with its true start (ids are lower-case hex)."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: str  # internal | client | server | producer | consumer
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    error: str | None = None
    links: tuple[tuple[str, str], ...] = ()  # (trace id, span id)


class Warned(Event, frozen=True):
    """Something an operator should know that did not fail anything."""

    code: str
    message: str


class RunEnded(Event, frozen=True):
    """A run ended; the counts are rows, `outcome` as in the report."""

    run_id: str
    pipeline: str
    outcome: str
    read: int
    accepted: int
    rejected: int
    dead: int
    filtered: int
    open: int
    took_s: float


EVENTS: tuple[type[Event], ...] = (
    RunStarted, BatchRead, JobsPlanned, JobSubmitted, JobSettled, Polled, CallbackReceived, ResultFetched,
    PartCommitted, JobGaveUp, RequestDone, Waited, LaneMoved, SpanEnded, Warned, RunEnded,
)  # fmt: skip
