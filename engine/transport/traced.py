"""Traced: a transport that tells an observer of every exchange, as one fact and one client span.

Names follow OpenTelemetry's HTTP conventions: low-cardinality template, never the URL, whose query may be a
credential. It changes nothing about the exchange, sends no header of its own, and holds no spans back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from engine.contract.exchange import Request, Response, Trace
from engine.errors import EngineError
from engine.events import RequestDone, SpanEnded
from engine.ports import BodyStream, Clock, Observer, Transport

_ORIGINS_MAX = 1024


class TracedTransport:
    """Wraps `inner`. The span of a request is the one its `traceparent` names; without one there is no span."""

    def __init__(self, inner: Transport, observer: Observer, clock: Clock) -> None:
        self._inner = inner
        self._observer = observer
        self._clock = clock
        self._hosts: dict[str, tuple[str, int]] = {}

    async def send(self, request: Request) -> Response:
        """As the inner transport; the time told is from first byte out to last byte in."""
        start_ns, start = self._clock.now_ns(), self._clock.monotonic()
        status, failure = 0, "cancelled"
        try:
            response = await self._inner.send(request)
            status, failure = response.status, ""
            return response
        except EngineError as exc:
            failure = exc.code
            raise
        finally:
            self._tell(request, status, failure, start_ns, start)

    def stream(self, request: Request) -> AbstractAsyncContextManager[BodyStream]:
        """As the inner transport; the exchange ends when the block is left."""
        return self._streaming(request)

    @asynccontextmanager
    async def _streaming(self, request: Request) -> AsyncIterator[BodyStream]:
        start_ns, start = self._clock.now_ns(), self._clock.monotonic()
        status, failure = 0, "cancelled"
        try:
            async with self._inner.stream(request) as body:
                status = body.status
                yield body
            failure = ""
        except EngineError as exc:
            failure = exc.code
            raise
        finally:
            self._tell(request, status, failure, start_ns, start)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    def _tell(self, request: Request, status: int, failure: str, start_ns: int, start: float) -> None:
        took_s = self._clock.monotonic() - start
        host, port = self._host_of(request.url)
        self._observer.notice(
            RequestDone(request.route, request.method, request.template, host, status, took_s, request.resend)
        )
        span = Trace.parse(request.headers.get("traceparent"))
        if span is None or not span.sampled:
            return
        attributes: dict[str, Any] = {
            **request.attributes,
            "http.request.method": request.method,
            "url.template": request.template,
            "server.address": host,
            "server.port": port,
        }
        if status:
            attributes["http.response.status_code"] = status
        if request.resend:
            attributes["http.request.resend_count"] = request.resend
        error = failure or (str(status) if status >= 400 else None)
        if error:
            attributes["error.type"] = error
        self._observer.notice(
            SpanEnded(
                trace_id=span.trace_id,
                span_id=span.span_id,
                parent_span_id=request.parent_span_id,
                name=f"{request.method} {request.template}",
                kind="client",
                start_ns=start_ns,
                end_ns=start_ns + int(took_s * 1e9),
                attributes=attributes,
                error=error,
            )
        )

    def _host_of(self, url: str) -> tuple[str, int]:
        at = url.find("/", 8)
        origin = url if at < 0 else url[:at]
        known = self._hosts.get(origin)
        if known is None:
            if len(self._hosts) >= _ORIGINS_MAX:
                self._hosts.clear()
            known = self._hosts[origin] = _split(origin)
        return known


def _split(origin: str) -> tuple[str, int]:
    try:
        parts = urlsplit(origin)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", 0
