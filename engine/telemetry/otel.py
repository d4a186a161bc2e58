"""The OpenTelemetry door: facts about spans become the SDK's `ReadableSpan` and leave for a collector.

A span is built once, after its end, with its true ids and times: no tracer, no context variable, no work
at its start. What is sent where is read by `environment`; the SDK is imported only when it is needed.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Final

from engine.events import Event, SpanEnded, Warned
from engine.ports import Observer
from engine.settings import TelemetrySettings
from engine.telemetry.environment import EVERYTHING, Tell, Wanted, read
from engine.telemetry.otlp import Collector, encode_request, encode_span
from engine.telemetry.outbox import Lost, Outbox, Patience
from engine.telemetry.redact import Redactor
from engine.telemetry.spans import Cleaner, encode_usual
from engine.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

SCOPE: Final = "engine"


class Telemetry:
    """An observer that sends spans; build it with `open_telemetry`, and `close` it when the run is over.

    `notice` takes under a microsecond and never waits: spans are made, encoded and sent on a thread.
    """

    def __init__(self, outbox: Outbox[SpanEnded], bound: int, tell: Tell) -> None:
        self._outbox = outbox
        self._bound = bound
        self._tell = tell
        self._has_told = False
        self._is_closed = False

    @property
    def sent(self) -> int:
        """Spans the collector took."""
        return self._outbox.sent

    @property
    def dropped(self) -> int:
        """Spans that did not arrive; complete after `close`."""
        return self._outbox.dropped

    def is_sampled(self, trace_id: str) -> bool:
        """Whether this trace (32 hex digits) is sent: a function of its id, so a resumed run decides alike."""
        if self._bound == EVERYTHING:
            return True
        try:
            return int(trace_id[-16:], 16) < self._bound
        except ValueError:
            return False

    def notice(self, event: Event) -> None:
        """Queue a span that ended; other facts are not ours."""
        if isinstance(event, SpanEnded) and self.is_sampled(event.trace_id):
            self._outbox.offer(event)
        if not self._has_told and self._outbox.trouble is not None:
            self._has_told = True
            self._tell("telemetry.undelivered", f"spans are being lost: {self._outbox.trouble}")

    def close(self, deadline_s: float = 5.0) -> None:
        """Send what is queued and stop. Blocks, for `deadline_s` at most, whatever the collector does."""
        if self._is_closed:
            return
        self._is_closed = True
        self._outbox.close(deadline_s)
        if self.dropped:
            self._has_told = True
            reason = self._outbox.trouble or "time ran out"
            self._tell("telemetry.dropped", f"{self.dropped} spans were lost, {self.sent} arrived: {reason}")


def open_telemetry(
    settings: TelemetrySettings,
    env: Mapping[str, str],
    *,
    observer: Observer | None = None,
    redactor: Redactor | None = None,
) -> Telemetry | None:
    """Start sending spans, if `[telemetry].otlp` or the OTEL_* environment asks for it; else None.

    None also when OTEL_SDK_DISABLED is true, OTEL_TRACES_EXPORTER is `none`, or OTEL_TRACES_SAMPLER never
    samples; the SDK is not imported then. The environment goes before `settings`. `observer` is told of
    what cannot be honoured, now, and of lost spans, later, on the threads that call `notice` and `close`.

    Raises:
        ConfigError: `[telemetry].otlp` is not an http or https URL. The environment, which may be meant
            for other programs as well, never fails a run: what is wrong there is warned about and left out.
    """

    def tell(code: str, message: str) -> None:
        if observer is not None:
            observer.notice(Warned(code, message))

    wanted = read(settings, env, tell)
    if wanted is None:
        return None
    patience = Patience()
    outbox = Outbox(
        _SpanShipper(wanted, redactor or Redactor(), patience),
        patience,
        capacity=wanted.queue_spans,
        batch_items=wanted.batch_spans,
        delay_s=wanted.delay_s,
    )
    return Telemetry(outbox, wanted.bound, tell)


class _SpanShipper:
    """Makes spans of facts and sends them, on the outbox's thread."""

    def __init__(self, wanted: Wanted, redact: Redactor, patience: Patience) -> None:
        self._resource = _described(wanted.resource)
        self._cleaner = Cleaner(redact, wanted.value_characters)
        self._collector = Collector(wanted.target, patience) if wanted.target else None
        self._show = _console() if wanted.has_console else None

    @cached_property
    def _make(self) -> Callable[[SpanEnded], ReadableSpan]:
        # Made when first needed: loading the SDK takes as long as writing thousands of usual spans without it.
        return _span_maker(self._resource, self._cleaner)

    def ship(self, batch: Sequence[SpanEnded]) -> Lost | None:
        spans: list[ReadableSpan] = []
        encoded: list[bytes] = []
        for event in batch:
            # A malformed fact loses itself, not the batch it travels in.
            with suppress(ValueError, OverflowError, TypeError, AttributeError, struct.error):
                if self._show is None and (known := encode_usual(event, self._cleaner)) is not None:
                    encoded.append(known)
                    continue
                span = self._make(event)
                encoded.append(encode_span(span))
                spans.append(span)
        if self._show is not None:
            self._show(spans)
        malformed = len(batch) - len(encoded)
        lost = None
        if self._collector is not None and encoded:
            body = encode_request(encoded, self._resource, scope=SCOPE, version=__version__)
            lost = self._collector.deliver(body, len(encoded))
        if malformed:
            reason = lost.reason if lost else "a span's ids or times were malformed"
            lost = Lost(malformed + (lost.items if lost else 0), reason)
        return lost

    def abort(self) -> None:
        if self._collector is not None:
            self._collector.abort()

    def close(self) -> None:
        if self._collector is not None:
            self._collector.close()


def _described(resource: Mapping[str, str]) -> dict[str, str]:
    from opentelemetry.sdk.version import __version__ as sdk_version

    sdk = {"language": "python", "name": "opentelemetry", "version": sdk_version}
    return {"service.version": __version__, **resource, **{f"telemetry.sdk.{key}": sdk[key] for key in sdk}}


def _span_maker(resource: Mapping[str, str], clean: Cleaner) -> Callable[[SpanEnded], ReadableSpan]:
    """A function from the fact to the span, with everything bound that is the same for all spans."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

    held = Resource(resource)
    scope = InstrumentationScope(SCOPE, __version__)
    kinds = {kind.name.lower(): kind for kind in SpanKind}
    sampled, no_state, unset = TraceFlags(TraceFlags.SAMPLED), TraceState(), Status(StatusCode.UNSET)

    def context(trace_id: str, span_id: str) -> SpanContext:
        made = SpanContext(int(trace_id, 16), int(span_id, 16), False, sampled, no_state)
        if not made.is_valid:
            raise ValueError("an id is all zeros or too long")
        return made

    def make(event: SpanEnded) -> ReadableSpan:
        return ReadableSpan(
            name=event.name,
            context=context(event.trace_id, event.span_id),
            parent=context(event.trace_id, event.parent_span_id) if event.parent_span_id else None,
            resource=held,
            attributes=clean.attributes(event.attributes),
            links=[Link(context(*link)) for link in event.links],
            kind=kinds.get(event.kind, SpanKind.INTERNAL),
            status=Status(StatusCode.ERROR, clean.value(event.error)) if event.error is not None else unset,
            start_time=event.start_ns,
            end_time=event.end_ns,
            instrumentation_scope=scope,
        )

    return make


def _console() -> Callable[[Sequence[ReadableSpan]], object]:
    """OTEL_TRACES_EXPORTER=console: one JSON line a span, on stderr, because stdout may carry records."""
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter(out=sys.stderr, formatter=lambda span: span.to_json(indent=None) + "\n").export
