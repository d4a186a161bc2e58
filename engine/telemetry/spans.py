"""Spans: a fact about a span as the bytes of OTLP's `Span`, with no span made in between.

For the usual fact only, whose ids are as they should be. All others go by OpenTelemetry's own span, and both
ways give the same bytes. What leaves is redacted and cut on the way. Plain functions; no library.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from engine.events import SpanEnded
from engine.telemetry.otlp import any_value, attributes, sized, text
from engine.telemetry.redact import Redactor

# OTLP counts kinds from 1; what we do not know is internal.
_KINDS: Final = {
    kind: b"\x30" + bytes((number,))
    for number, kind in enumerate(("internal", "server", "client", "producer", "consumer"), start=1)
}
_BYTES: Final = tuple(bytes((number,)) for number in range(128))
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_ids = struct.Struct("<2s16s2s8s").pack
_times = struct.Struct("<cQcQ").pack
# Sampled, and known not to be remote (trace.proto, SpanFlags).
_FLAG_BITS: Final = struct.pack("<I", 0x101)
_FLAGS: Final = b"\x85\x01" + _FLAG_BITS


# What belongs to one span alone: looking it up would find nothing, and push out what is looked up.
_NEVER_AGAIN: Final = frozenset({"engine.job.remote_id", "engine.job.seq", "engine.result.bytes", "engine.part"})


@lru_cache(maxsize=256)
def _key(key: str) -> bytes:
    return text(1, key)


@lru_cache(maxsize=256)
def _name(name: str) -> bytes:
    return text(5, name)


class Cleaner:
    """Attributes as they may leave: text redacted, then cut; None left out."""

    def __init__(self, redact: Redactor, characters: int) -> None:
        self._redact = redact
        self._characters = characters
        # Most text comes again with every span; the bound keeps what does not from piling up.
        self._cleaned = lru_cache(maxsize=2048)(self._clean)
        self._usual = lru_cache(maxsize=2048)(self._encoded)

    def attributes(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All of them, in order."""
        return {key: self.value(value) for key, value in values.items() if value is not None}

    def encoded(self, values: Mapping[str, Any]) -> bytes:
        """All of them as a span's attributes; each pair that comes again is looked up whole."""
        pieces: list[bytes] = []
        for key, value in values.items():
            kind = type(value)
            if key in _NEVER_AGAIN and value is not None:
                pieces.append(self._once(key, value))
            elif (kind is str and len(value) <= 64) or (kind is int and 0 <= value < 0x10000):
                pieces.append(self._usual(key, value))
            elif value is not None:
                pieces.append(self._encoded(key, value))
        return b"".join(pieces)

    def _once(self, key: str, value: Any) -> bytes:
        body = any_value(self._clean(value) if type(value) is str else value)
        name = _key(key)
        # Of fewer than 128 bytes, as nearly all are, a length is one byte.
        if len(name) + len(body) > 125:
            return self._encoded(key, value)
        return b"\x4a" + _BYTES[len(name) + len(body) + 2] + name + b"\x12" + _BYTES[len(body)] + body

    def _encoded(self, key: str, value: Any) -> bytes:
        return attributes(9, {key: self.value(value)})

    def value(self, value: Any) -> Any:
        """One of them, or a text that says what went wrong."""
        if isinstance(value, str):
            return self._cleaned(value) if len(value) <= 64 else self._clean(value)
        if isinstance(value, (list, tuple)):
            return tuple(map(self.value, value))
        return value

    def _clean(self, value: str) -> str:
        return self._redact(value)[: self._characters]


def encode_usual(event: SpanEnded, cleaner: Cleaner) -> bytes | None:
    """The bytes of a fact whose ids are as they should be; None for any other.

    Raises:
        ValueError, TypeError, struct.error: its ids or times are malformed.
    """
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
            cleaner.encoded(event.attributes),
            *[_link(*link) for link in event.links],
            b"" if event.error is None else _failed(cleaner.value(event.error)),
            _FLAGS,
        )
    )


def _link(trace_id: str, span_id: str) -> bytes:
    trace, span = bytes.fromhex(trace_id), bytes.fromhex(span_id)
    if len(trace) != 16 or len(span) != 8 or trace == _NO_TRACE or span == _NO_SPAN:
        raise ValueError("the ids of a link are malformed")
    return sized(13, _ids(b"\x0a\x10", trace, b"\x12\x08", span) + b"\x35" + _FLAG_BITS)


def _failed(error: str) -> bytes:
    """Status: an error, and what was said of it."""
    return sized(15, (text(2, error) if error else b"") + b"\x18\x02")
