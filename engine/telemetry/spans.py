"""Spans: a fact about a span as the bytes of OTLP's `Span`, with no span made in between.

For the usual fact only: no error, no links, ids as they should be. All others take the way over OpenTelemetry's own
span, and both ways give the same bytes. Plain functions; what leaves is redacted by whoever hands in `clean`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

from engine.events import SpanEnded
from engine.telemetry.otlp import attributes, text

Clean = Callable[[Mapping[str, Any]], dict[str, Any]]

# OTLP counts kinds from 1; what we do not know is internal.
_KINDS: Final = {
    kind: b"\x30" + bytes((number,))
    for number, kind in enumerate(("internal", "server", "client", "producer", "consumer"), start=1)
}
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_ids = struct.Struct("<2s16s2s8s").pack
_times = struct.Struct("<cQcQ").pack
# Sampled, and known not to be remote (trace.proto, SpanFlags).
_FLAGS: Final = b"\x85\x01" + struct.pack("<I", 0x101)


@lru_cache(maxsize=256)
def _name(name: str) -> bytes:
    return text(5, name)


def encode_usual(event: SpanEnded, clean: Clean) -> bytes | None:
    """The bytes of a usual fact; None for one that is not.

    Raises:
        ValueError, TypeError, struct.error: its ids or times are malformed.
    """
    if event.error is not None or event.links:
        return None
    trace, span = bytes.fromhex(event.trace_id), bytes.fromhex(event.span_id)
    if len(trace) != 16 or len(span) != 8 or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    parent = b""
    if event.parent_span_id:
        above = bytes.fromhex(event.parent_span_id)
        if len(above) != 8 or above == _NO_SPAN:
            return None
        parent = b"\x22\x08" + above
    return b"".join(
        (
            _ids(b"\x0a\x10", trace, b"\x12\x08", span),
            parent,
            _name(event.name),
            _KINDS.get(event.kind, _KINDS["internal"]),
            _times(b"\x39", event.start_ns, b"\x41", event.end_ns),
            attributes(9, clean(event.attributes)),
            _FLAGS,
        )
    )
