"""Dispatch: one request in, one answer out. Finds the route, asks the gate, reads the question, calls the handler.

The whole path of a request without a socket: `Incoming` and `Outgoing` are values. Every answer carries the trace
headers (contract 1.7), refusals included. What a route does is its handler's affair.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from inspect import isawaitable
from typing import Any
from urllib.parse import unquote

import msgspec

from engine.codec.payload import encode
from engine.contract.exchange import Trace
from engine.contract.profile import PROFILE
from engine.contract.route import Host, Route
from engine.emulator import tracing
from engine.emulator.asks import Reading
from engine.emulator.call import Call, Caller, Handler, Reply
from engine.emulator.gate import Gate
from engine.emulator.margins import Margins
from engine.emulator.refusal import Dropped, OAuthRefusal, Refusal
from engine.emulator.state import State
from engine.transport.incoming import Incoming, Outgoing

RawHandler = Callable[[Incoming], Awaitable[Outgoing]]
RawRoute = tuple[str, str, RawHandler]
_log = logging.getLogger("engine.emulator")
_DROP = Outgoing(abort=True)
_JSON = "application/json"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A route with everything that answering it needs. `span` names it in traces, `host` on the live origin."""

    route: Route[Any, Any]
    handler: Handler
    reading: Reading
    span: str
    host: Host
    is_live: bool
    is_sandbox: bool


class _Node:
    """One segment of the paths: by its text, else by the name of what stands there."""

    __slots__ = ("by_text", "entries", "named", "slot")

    def __init__(self) -> None:
        self.by_text: dict[str, _Node] = {}
        self.named: _Node | None = None
        self.slot = ""
        self.entries: dict[str, Entry] = {}


class _Visit(msgspec.Struct):
    """What is known of a request while it is being answered."""

    trace: Trace
    parent_span_id: str | None
    started_ns: int
    entry: Entry | None = None
    caller: Caller | None = None


class Dispatch:
    """The routes of one emulator. `requests` counts by route name, `statuses` by status."""

    def __init__(
        self,
        state: State,
        gate: Gate,
        routes: Mapping[str, Route[Any, Any]],
        handlers: Mapping[str, Handler],
        raw_routes: list[RawRoute],
    ) -> None:
        self._state = state
        self._gate = gate
        self._raw = raw_routes
        self._raw_prefixes = tuple(prefix for _, prefix, _ in raw_routes)
        self._margins = Margins(routes.values(), state.profile)
        self._root = _Node()
        self.requests: dict[str, int] = {}
        self.statuses: dict[int, int] = {}
        for name, handler in handlers.items():
            self._add(routes[name], handler)

    async def answer(self, incoming: Incoming, *, is_sandbox: bool) -> Outgoing:
        """Answer one request; never raises but for cancellation."""
        state = self._state
        headers = incoming.headers
        caller_trace = Trace.parse(headers.get("traceparent"))
        visit = _Visit(
            trace=caller_trace.child() if caller_trace else Trace.new(),
            parent_span_id=caller_trace.span_id if caller_trace else None,
            started_ns=state.clock.now_ns(),
        )
        try:
            raw = self._find_raw(incoming)
            if raw is not None:
                return await raw(incoming)
            outgoing = _write(await self._serve(incoming, visit, is_sandbox=is_sandbox))
        except Dropped:
            outgoing = _DROP
        except Refusal as refusal:
            outgoing = _write_refusal(refusal, incoming.path, visit.trace)
        except Exception:  # noqa: BLE001 - the last door: whatever broke, the caller gets an answer
            _log.exception("a handler failed: %s %s", incoming.method, incoming.path)
            broken = Refusal(500, "internal_error", "The emulator failed; its log says why.")
            outgoing = _write_refusal(broken, incoming.path, visit.trace)
        return self._finish(visit, outgoing, is_sandbox=is_sandbox)

    def refuse(self, incoming: Incoming, status: int) -> Outgoing:
        """Word a refusal of the listener itself."""
        caller_trace = Trace.parse(incoming.headers.get("traceparent"))
        trace = caller_trace.child() if caller_trace else Trace.new()
        details = {
            408: "The body did not come in time.",
            413: f"A request body may have {self._state.profile.body_max} bytes.",
        }
        code = HTTPStatus(status).phrase.lower().replace(" ", "_")
        outgoing = _write_refusal(
            Refusal(status, code, details.get(status, "The request cannot be read.")), incoming.path, trace
        )
        outgoing.headers.update(_trace_headers(trace))
        self.statuses[status] = self.statuses.get(status, 0) + 1
        return outgoing

    async def _serve(self, incoming: Incoming, visit: _Visit, *, is_sandbox: bool) -> Reply:
        node, in_path = self._walk(incoming.path)
        entries = node.entries if node else {}
        method = "GET" if incoming.method == "HEAD" else incoming.method
        entry = entries.get(method)
        if entry is not None and not (entry.is_sandbox if is_sandbox else entry.is_live):
            entry, entries = None, {}
        visit.entry = entry
        route = entry.route if entry else None
        if method == "OPTIONS" and not is_sandbox:
            asked = (one.route for one in entries.values())
            if (preflight := self._margins.preflight(asked, incoming.headers)) is not None:
                return preflight
        # The gate comes before routing (contract 10.3): an unknown path tells the wrong world nothing.
        visit.caller = self._gate.admit(incoming.headers.get("authorization"), route, is_sandbox=is_sandbox)
        if entry is None:
            raise _no_route(entries)
        name = entry.route.name
        self.requests[name] = self.requests.get(name, 0) + 1
        self._gate.check_scopes(visit.caller, entry.route)
        self._margins.check(entry.route, self._state.now_s())
        if self._state.faults.is_armed:
            await self._strike("request", name)
        reply = entry.handler(
            Call(
                route=entry.route,
                ask=entry.reading.read(incoming, in_path),
                caller=visit.caller,
                host=Host.SANDBOX if is_sandbox else entry.host,
                base_url=incoming.origin,
                trace=visit.trace,
                parent_span_id=visit.parent_span_id,
                headers=incoming.headers,
                body=incoming.body,
            )
        )
        if isawaitable(reply):
            reply = await reply
        if self._state.faults.is_armed:
            await self._strike("response", name)
        return reply

    async def _strike(self, point: str, route: str) -> None:
        """Let the fault script have its way before the effect, or after it."""
        faults = self._state.faults
        fault = faults.strike(point, route=route)
        if fault is None:
            return
        if delay_s := fault.delay_s(faults):
            await self._state.clock.sleep(delay_s)
        if fault.flag("drop"):
            raise Dropped
        if status := fault.count("status"):
            code = fault.text("code", "unavailable" if status >= 500 else "refused")
            extra = {"query_hint": "use_your_backend"} if route == "tracing.get" and status == 503 else None
            raise Refusal(status, code, "The fault script says so.", fault.retry_headers(), extra=extra)

    def _finish(self, visit: _Visit, outgoing: Outgoing, *, is_sandbox: bool) -> Outgoing:
        status = outgoing.status
        if not outgoing.abort:
            outgoing.headers.update(_trace_headers(visit.trace))
            if visit.entry is not None:
                self._margins.add(visit.entry.route, outgoing.headers)
            if is_sandbox:
                outgoing.headers["X-Argus-Sandbox"] = "true"
            elif self._state.profile.sandbox_header_on_live:
                outgoing.headers["X-Argus-Sandbox"] = "false"
            self.statuses[status] = self.statuses.get(status, 0) + 1
        # A span without a tenant could never be looked up.
        if visit.caller is not None:
            tenant_id = visit.caller.tenant_id
            tracing.record(
                self._state,
                tracing.Span(
                    tenant_id=tenant_id,
                    trace_id=visit.trace.trace_id,
                    span_id=visit.trace.span_id,
                    parent_span_id=visit.parent_span_id,
                    name=visit.entry.span if visit.entry else "unknown route",
                    start_ns=visit.started_ns,
                    duration_ns=max(0, self._state.clock.now_ns() - visit.started_ns),
                    status_code="OK" if status < 400 else "UNSET" if status < 500 else "ERROR",
                    attributes={"http.status_code": status, "tenant.id": tenant_id},
                ),
            )
        return outgoing

    def _find_raw(self, incoming: Incoming) -> RawHandler | None:
        if not incoming.path.startswith(self._raw_prefixes):
            return None
        method = "GET" if incoming.method == "HEAD" else incoming.method
        for raw_method, prefix, handler in self._raw:
            if incoming.path.startswith(prefix) and raw_method == method:
                return handler
        return None

    def _walk(self, path: str) -> tuple[_Node | None, dict[str, str]]:
        in_path: dict[str, str] = {}
        node: _Node | None = self._root
        for segment in path.split("/")[1:]:
            if node is None:
                break
            if following := node.by_text.get(segment):
                node = following
            elif node.named is not None and segment:
                node = node.named
                in_path[node.slot] = unquote(segment) if "%" in segment else segment
            else:
                node = None
        return node, in_path

    def _add(self, route: Route[Any, Any], handler: Handler) -> None:
        node = self._root
        for segment in route.path.split("/")[1:]:
            if segment.startswith("{"):
                if node.named is None:
                    node.named = _Node()
                    node.named.slot = segment[1:-1]
                elif node.named.slot != segment[1:-1]:
                    raise ValueError(f"two names for one place: {route.path}")
                node = node.named
            else:
                node = node.by_text.setdefault(segment, _Node())
        live_hosts = [host for host in route.hosts if host is not Host.SANDBOX]
        node.entries[route.method] = Entry(
            route=route,
            handler=handler,
            reading=Reading(route),
            span=f"{route.method} {route.path}",
            host=live_hosts[0] if live_hosts else Host.SANDBOX,
            is_live=bool(live_hosts),
            is_sandbox=Host.SANDBOX in route.hosts,
        )


def _no_route(entries: Mapping[str, Entry]) -> Refusal:
    if not entries:
        return Refusal(PROFILE.no_path_status, "not_found", "Nothing lives at this path.")
    allowed = sorted({*entries, *(["HEAD"] if "GET" in entries else [])})
    said = f"This path answers to {', '.join(allowed)}."
    return Refusal(PROFILE.no_method_status, "method_not_allowed", said, {"Allow": ", ".join(allowed)})


def _write(reply: Reply) -> Outgoing:
    body = reply.body
    headers = dict(reply.headers)
    if body is None:
        return Outgoing(status=reply.status, headers=headers)
    headers["Content-Type"] = reply.content_type
    return Outgoing(status=reply.status, headers=headers, body=body if isinstance(body, bytes) else encode(body))


def _write_refusal(refusal: Refusal, path: str, trace: Trace) -> Outgoing:
    headers = dict(refusal.headers)
    if isinstance(refusal, OAuthRefusal):
        headers["Content-Type"] = _JSON
        document: dict[str, Any] = {"error": refusal.code, "error_description": refusal.detail}
    else:
        headers["Content-Type"] = PROFILE.problem_type
        names = PROFILE.problem_names
        document = {
            "type": "about:blank",
            "title": _phrase(refusal.status),
            "status": refusal.status,
            names["detail"]: refusal.detail,
            "instance": path,
            names["code"]: refusal.code,
            names["trace_id"]: trace.trace_id,
            **refusal.extra,
        }
        if refusal.errors:
            document[names["errors"]] = refusal.errors
    return Outgoing(status=refusal.status, headers=headers, body=encode(document))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"


def _trace_headers(trace: Trace) -> dict[str, str]:
    return {
        "X-Argus-Trace-ID": trace.trace_id,
        "X-Argus-Span-ID": trace.span_id,
        "traceparent": trace.traceparent,
    }
