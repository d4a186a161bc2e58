"""Completion callbacks: what is sent when a job ends, how it is signed, and how often it is tried (contract 9.7).

The body is canonical JSON and the signature is over exactly those bytes. Deliveries are stored with the terminal
state they tell of, so a restart sends what was not sent yet; receivers may see one twice (Q36, Q38, Q39).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec

from engine.codec.canonical import canonical
from engine.codec.payload import encode, loads
from engine.contract.exchange import Request, Trace, new_span_id
from engine.contract.jobs import SUCCEEDED
from engine.contract.problem import FieldFault, retry_after_s
from engine.emulator import results, tracing
from engine.emulator.faults import Fault
from engine.emulator.jobtable import Ending, Job
from engine.emulator.schedule import Schedule
from engine.emulator.state import State
from engine.errors import EngineError
from engine.ports import Transport
from engine.settings import Secret
from engine.transport.guard import Guard, is_forbidden
from engine.transport.pooled import PooledTransport
from engine.trust.webhook import FAMILIES, as_standard, callback_key, standard_key

SCHEMA = """
CREATE TABLE IF NOT EXISTS callbacks (
    id TEXT PRIMARY KEY, job_id TEXT NOT NULL, tenant_id TEXT NOT NULL, client_id TEXT NOT NULL, url TEXT NOT NULL,
    body BLOB NOT NULL, trace_id TEXT NOT NULL, span_id TEXT NOT NULL, is_sandbox INTEGER NOT NULL,
    status TEXT NOT NULL, attempt INTEGER NOT NULL, due_ns INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS callbacks_by_status ON callbacks (status, due_ns);
CREATE TABLE IF NOT EXISTS callback_attempts (
    callback_id TEXT NOT NULL, job_id TEXT NOT NULL, attempt INTEGER NOT NULL, at_ns INTEGER NOT NULL,
    duration_ns INTEGER NOT NULL, response_status INTEGER, error TEXT
);
CREATE INDEX IF NOT EXISTS callback_attempts_by_job ON callback_attempts (job_id);
CREATE TABLE IF NOT EXISTS callback_secrets (client_id TEXT PRIMARY KEY, secret TEXT NOT NULL) WITHOUT ROWID;
"""

# The secret of the app that the emulator registers for itself, so that a receiver works without any setting.
LOCAL_APP = "app_local"
LOCAL_NAMES = (LOCAL_APP, "tnt_local")
LOCAL_SECRET = "emulator-callback-secret"
PENDING, DELIVERED, EXHAUSTED, DISABLED = "pending", "delivered", "exhausted", "disabled"
SENDING_AT_ONCE = 32
# The spellings of loopback a callback may use, as URLs write them; any other way to this machine is refused.
LOOPBACK = frozenset(("127.0.0.1", "localhost", "[::1]"))
_LOOPBACK_HOSTS = frozenset(name.strip("[]") for name in LOOPBACK)
_JITTER = 0.1
REORDER_S = 0.25


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One callback on its way; `attempt` counts the tries so far."""

    id: str
    job_id: str
    tenant_id: str
    client_id: str
    url: str
    body: bytes
    trace_id: str
    span_id: str
    is_sandbox: bool
    status: str
    attempt: int
    due_ns: int


_FIELDS = Delivery.__struct_fields__
_COLUMNS = ", ".join(_FIELDS)


def check_url(state: State, url: str, *, member: str = "callback_url") -> FieldFault | None:
    """What is wrong with a URL we are to post to: https only, no credentials, no private address.

    Loopback where the options allow it. `member` is the member of the body that holds the URL.
    """
    loc: list[str | int] = ["body", member]
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return FieldFault(loc, "not a URL", "url_parsing")
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        return FieldFault(loc, "give a URL with a host, without credentials or fragment", "url_parsing")
    if host in _LOOPBACK_HOSTS:
        if state.options.allow_loopback_callbacks and parts.scheme in ("http", "https"):
            return None
        return FieldFault(loc, "loopback is not allowed here", "url_forbidden")
    if parts.scheme != "https":
        return FieldFault(loc, "only https is allowed", "url_scheme")
    if not _is_public(host):
        return FieldFault(loc, "private and reserved addresses are not allowed", "url_forbidden")
    return None


def _is_public(host: str) -> bool:
    """Whether a host may be public. What a name leads to is checked when it is resolved, by the transport."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        # Digits and dots that are no address are old spellings of one (`127.1`, `0x7f000001`), never a name.
        return not host.replace(".", "").isdigit() and not host.lower().startswith("0x") and "." in host
    return not is_forbidden(host)


def transport_for(state: State) -> PooledTransport:
    """Connections for callbacks: to public addresses, and to loopback by name where the options allow it."""
    allowed = LOOPBACK if state.options.allow_loopback_callbacks else frozenset()
    # Twice: callbacks and webhooks leave by it, and slow receivers of the one must not hold up the other.
    return PooledTransport(concurrency=2 * SENDING_AT_ONCE, guard=Guard(allowed_hosts=allowed))


def set_secret(state: State, whose: str, secret: str) -> None:
    """Set the secret that callbacks are signed with: an app's, or a tenant's where the profile says so (Q38)."""
    state.db.execute("INSERT OR REPLACE INTO callback_secrets VALUES (?, ?)", (whose, secret))


def secret_of(state: State, whose: str) -> bytes:
    """The HMAC key of an app's, or a tenant's, callbacks, never its OAuth secret (Q38)."""
    return callback_key(_secret_of(state, whose))


def _secret_of(state: State, whose: str) -> Secret:
    row = state.db.execute("SELECT secret FROM callback_secrets WHERE client_id = ?", (whose,)).fetchone()
    if row is not None:
        return Secret(str(row[0]))
    return Secret(LOCAL_SECRET if whose in LOCAL_NAMES else state.secret(f"callback:{whose}").hex())


def signature(secret: bytes, body: bytes) -> str:
    """The value of `X-Argus-Signature`: HMAC-SHA256 over the bytes on the wire (FIPS 198-1)."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def told_of(job: Job, ending: Ending) -> dict[str, Any]:
    """What is told of a job that ends (contract 9.7)."""
    told: dict[str, Any] = {
        "id": job.id,
        "kind": job.kind,
        "status": ending.status,
        "trace_id": job.trace_id,
        "result_ref": results.reference(job.id) if ending.status == SUCCEEDED else None,
    }
    if ending.error is not None:
        told["error"] = msgspec.to_builtins(ending.error)
    return told


def enqueue(state: State, job: Job, ending: Ending) -> str | None:
    """Store the callback of a job that ends, inside the transaction that ends it; its id, or None if none is due."""
    profile = state.profile
    if job.callback_url is None or ending.status not in profile.callback_statuses:
        return None
    if job.is_sandbox and not profile.sandbox_callbacks:
        return None
    told = told_of(job, ending)
    body = canonical(told) if profile.callback_signs == "body" else encode(told)
    delivery = Delivery(
        id=state.new_id("dlv_"), job_id=job.id, tenant_id=job.tenant_id, client_id=job.client_id,
        url=job.callback_url, body=body, trace_id=job.trace_id, span_id=job.span_id,
        is_sandbox=job.is_sandbox, status=PENDING, attempt=0, due_ns=state.clock.now_ns(),
    )  # fmt: skip
    state.db.execute(
        f"INSERT INTO callbacks ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))})",  # noqa: S608 - constants
        msgspec.structs.astuple(delivery),
    )
    return delivery.id


def purge(state: State) -> None:
    """Forget the deliveries of jobs that are forgotten."""
    with state.transaction() as db:
        for table in ("callbacks", "callback_attempts"):
            db.execute(f"DELETE FROM {table} WHERE job_id NOT IN (SELECT id FROM jobs)")  # noqa: S608 - constants


def attempts(state: State, job_id: str) -> list[dict[str, Any]]:
    """What was sent about a job: each attempt with its answer, in order."""
    rows = state.db.execute(
        "SELECT attempt, at_ns, duration_ns, response_status, error FROM callback_attempts WHERE job_id = ?"
        " ORDER BY rowid",
        (job_id,),
    )
    names = ("attempt", "at_ns", "duration_ns", "response_status", "error")
    return [dict(zip(names, row, strict=True)) for row in rows]


def standard_headers(state: State, delivery_id: str, body: bytes, key: bytes) -> dict[str, str]:
    """The Standard Webhooks headers of one attempt: id, time, and the signature over both and the body (Q34)."""
    at = str(state.clock.now_ns() // 1_000_000_000)
    mac = hmac.new(key, f"{delivery_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        f"{FAMILIES[0]}-id": delivery_id,
        f"{FAMILIES[0]}-timestamp": at,
        f"{FAMILIES[0]}-signature": "v1," + base64.b64encode(mac).decode(),
    }


def headers_of(state: State, delivery: Delivery, span: Trace, body: bytes, secret: Secret) -> dict[str, str]:
    """The headers of one attempt; signed is the body, or its canonical form (Q39)."""
    signed = body if state.profile.callback_signs == "body" else canonical(loads(body))
    headers = {
        "Content-Type": "application/json",
        "X-Argus-Signature": signature(callback_key(secret), signed),
        "X-Argus-Job-ID": delivery.job_id,
        "X-Argus-Trace-ID": delivery.trace_id,
        "traceparent": span.traceparent,
        **standard_headers(state, delivery.id, signed, standard_key(as_standard(secret))),
    }
    if delivery.is_sandbox:
        headers["X-Argus-Sandbox"] = "true"
    return headers


def wait_after(state: State, delivery_id: str, tried: int, asked_s: float | None) -> float | None:
    """Seconds until the next try after `tried` tries, at least what the receiver asked for; None after the last."""
    delays_s = state.profile.callback_delays_s
    if tried >= len(delays_s):
        return None
    jitter = 1 + _JITTER * (2 * state.random("callback", delivery_id, tried) - 1)
    return max(delays_s[tried] * jitter * state.options.callback_time_factor, asked_s or 0.0)


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a receiver said: its status, None if nothing came; the wait it asks for; why nothing came."""

    status: int | None = None
    wait_s: float | None = None
    error: str | None = None

    @property
    def is_taken(self) -> bool:
        """Only 2xx succeeds (Q36)."""
        return self.status is not None and 200 <= self.status < 300


async def post(state: State, transport: Transport, url: str, headers: dict[str, str], body: bytes) -> Answer:
    """Send one message, unless its URL may not be asked; never raises, follows no redirect."""
    if check_url(state, url) is not None:
        return Answer(error="url.forbidden")
    request = Request(
        "POST", url, headers, body, route="callback", template="", timeout_s=state.profile.callback_timeout_s
    )
    try:
        response = await transport.send(request)
    except EngineError as exc:
        return Answer(error=exc.code)
    return Answer(response.status, retry_after_s(response.headers, now_s=state.now_s()))


class Courier:
    """Sends what is due, tries again on the profile's schedule, and gives up at its end."""

    def __init__(self, state: State, transport: Transport) -> None:
        self._state = state
        self._transport = transport
        self._schedule = Schedule(state.clock)
        self._slots = asyncio.Semaphore(SENDING_AT_ONCE)
        self._under_way: set[str] = set()
        self._overtaken: set[str] = set()

    def notice(self, delivery_id: str | None) -> None:
        """A callback was stored: send it."""
        if delivery_id is not None:
            self._schedule.put(self._state.clock.now_ns(), delivery_id)

    async def run(self) -> None:
        """Send until cancelled, beginning with what an earlier process left unsent."""
        for waiting, due_ns in self._state.db.execute("SELECT id, due_ns FROM callbacks WHERE status = ?", (PENDING,)):
            self._schedule.put(due_ns, waiting)
        async with anyio.create_task_group() as senders:
            while True:
                for due in self._schedule.take_due():
                    if due not in self._under_way:
                        self._under_way.add(due)
                        senders.start_soon(self._deliver, due)
                await self._schedule.wait()

    async def _deliver(self, id: str) -> None:
        try:
            async with self._slots:
                delivery = self._load(id)
                if delivery is not None and delivery.due_ns <= self._state.clock.now_ns():
                    await self._attempt(delivery)
        finally:
            self._under_way.discard(id)

    def _load(self, id: str) -> Delivery | None:
        row = self._state.db.execute(
            f"SELECT {_COLUMNS} FROM callbacks WHERE id = ? AND status = ?",  # noqa: S608 - constants
            (id, PENDING),
        ).fetchone()
        return None if row is None else Delivery(**dict(zip(_FIELDS, row, strict=True)))

    async def _attempt(self, delivery: Delivery) -> None:
        fault = self._state.faults.strike("callback", kind=loads(delivery.body)["kind"], subject=delivery.job_id)
        if fault is not None:
            if fault.flag("reorder") and delivery.id not in self._overtaken:
                # Put back once, so that whatever comes due meanwhile overtakes it.
                self._overtaken.add(delivery.id)
                self._put_back(delivery, REORDER_S)
                return
            await self._state.clock.sleep(fault.delay_s(self._state.faults))
            if fault.flag("lose"):
                self._settle(delivery, DELIVERED, delivery.attempt + 1)
                return
            if fault.flag("forge"):
                await self._send_forged(delivery)
        span = Trace(delivery.trace_id, new_span_id())
        answer = await self._send(delivery, span)
        await self._send_again(delivery, span, fault)
        self._decide(delivery, answer)

    async def _send(self, delivery: Delivery, span: Trace) -> Answer:
        """One try, written down."""
        is_apps = self._state.profile.callback_secret_of == "app"
        secret = _secret_of(self._state, delivery.client_id if is_apps else delivery.tenant_id)
        began_ns, began = self._state.clock.now_ns(), self._state.clock.monotonic()
        headers = headers_of(self._state, delivery, span, delivery.body, secret)
        answer = await post(self._state, self._transport, delivery.url, headers, delivery.body)
        took_ns = int((self._state.clock.monotonic() - began) * 1e9)
        self._state.db.execute(
            "INSERT INTO callback_attempts VALUES (?, ?, ?, ?, ?, ?, ?)",
            (delivery.id, delivery.job_id, delivery.attempt + 1, began_ns, took_ns, answer.status, answer.error),
        )
        tracing.record(
            self._state,
            tracing.Span(
                tenant_id=delivery.tenant_id, trace_id=span.trace_id, span_id=span.span_id,
                parent_span_id=delivery.span_id, name="callback", start_ns=began_ns, duration_ns=took_ns,
                status_code="OK" if answer.is_taken else "ERROR",
                attributes={"job.id": delivery.job_id, "attempt": delivery.attempt + 1, "http.status": answer.status},
            ),
        )  # fmt: skip
        return answer

    async def _send_again(self, delivery: Delivery, span: Trace, fault: Fault | None) -> None:
        for _ in range(fault.count("duplicate") if fault else 0):
            await self._send(delivery, span)

    async def _send_forged(self, delivery: Delivery) -> None:
        """A message that is not ours: another status, signed with a key that nobody gave."""
        told = loads(delivery.body)
        told["status"] = "failed" if told["status"] == SUCCEEDED else SUCCEEDED
        body = canonical(told)
        span = Trace(delivery.trace_id, new_span_id())
        headers = headers_of(self._state, delivery, span, body, Secret("not the secret"))
        await post(self._state, self._transport, delivery.url, headers, body)

    def _decide(self, delivery: Delivery, answer: Answer) -> None:
        """Settle or try again: only 2xx succeeds, 410 ends it, redirects are not followed (Q36)."""
        tried = delivery.attempt + 1
        wait_s = wait_after(self._state, delivery.id, tried, answer.wait_s)
        if answer.is_taken:
            self._settle(delivery, DELIVERED, tried)
        elif answer.status == self._state.profile.callback_gone_status:
            self._settle(delivery, DISABLED, tried)
        elif wait_s is None:
            self._settle(delivery, EXHAUSTED, tried)
        else:
            self._put_back(msgspec.structs.replace(delivery, attempt=tried), wait_s)

    def _settle(self, delivery: Delivery, status: str, attempt: int) -> None:
        self._overtaken.discard(delivery.id)
        self._state.db.execute(
            "UPDATE callbacks SET status = ?, attempt = ? WHERE id = ?", (status, attempt, delivery.id)
        )

    def _put_back(self, delivery: Delivery, after_s: float) -> None:
        due_ns = self._state.clock.now_ns() + int(after_s * 1e9)
        self._state.db.execute(
            "UPDATE callbacks SET due_ns = ?, attempt = ? WHERE id = ?", (due_ns, delivery.attempt, delivery.id)
        )
        self._schedule.put(due_ns, delivery.id)
