"""OTLP over HTTP for traces, written by hand: bytes of an export request, and a thread that delivers them.

Encoding is plain functions after opentelemetry/proto/trace/v1/trace.proto (OTLP 1.x). Delivery never
touches the event loop, holds a bounded number of spans, counts what it drops, and ends by a deadline.
Never the environment, never a decision about what is sampled; no OpenTelemetry, protobuf or HTTP library.
"""

from __future__ import annotations

import gzip
import http.client
import math
import random
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from engine.contract.problem import retry_after_s
from engine.settings import Secret

# Encoding --------------------------------------------------------------------------------------


class ContextLike(Protocol):
    """The ids of a span."""

    @property
    def trace_id(self) -> int: ...
    @property
    def span_id(self) -> int: ...
    @property
    def trace_flags(self) -> int: ...
    @property
    def is_remote(self) -> bool: ...


class SpanLike(Protocol):
    """What is read of a span; OpenTelemetry's `ReadableSpan` is one. `Any` where its own types are loose."""

    @property
    def name(self) -> str: ...
    @property
    def context(self) -> Any: ...
    @property
    def parent(self) -> Any: ...
    @property
    def kind(self) -> Any: ...
    @property
    def start_time(self) -> int | None: ...
    @property
    def end_time(self) -> int | None: ...
    @property
    def attributes(self) -> Any: ...
    @property
    def links(self) -> Sequence[Any]: ...
    @property
    def status(self) -> Any: ...


_I64: Final = 1 << 63
_BYTES: Final = tuple(bytes((number,)) for number in range(128))
# Bits of `flags` above the W3C byte (trace.proto, SpanFlags): is_remote is known; is_remote is true.
_HAS_IS_REMOTE: Final = 0x100
_IS_REMOTE: Final = 0x200
_fixed64 = struct.Struct("<Q").pack
_fixed32 = struct.Struct("<I").pack
_double = struct.Struct("<d").pack


def varint(number: int) -> bytes:
    """A non-negative number in base 128, lowest group first."""
    if number < 0x80:
        return _BYTES[number]
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def sized(number: int, body: bytes) -> bytes:
    """Field `number` with a length in front: bytes, text or a message."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def text(number: int, value: str) -> bytes:
    """A text field. Lone surrogates become `?`: a collector refuses a whole request over one bad byte."""
    return sized(number, value.encode("utf-8", "replace"))


@lru_cache(maxsize=1024)
def _key(key: str) -> bytes:
    return text(1, key)


def any_value(value: Any) -> bytes:
    """A value as `AnyValue`; integers beyond 64 bits and foreign types as their text, None as empty."""
    match value:
        case str():
            return text(1, value)
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case int() if -_I64 <= value < _I64:
            return b"\x18" + varint(value & 0xFFFF_FFFF_FFFF_FFFF)
        case float():
            return b"\x21" + _double(value)
        case None:
            return b""
        case bytes() | bytearray():
            return sized(7, bytes(value))
        case Mapping():
            return sized(6, attributes(1, {str(key): item for key, item in value.items()}))
        case list() | tuple():
            return sized(5, b"".join([sized(1, any_value(item)) for item in value]))
        case _:
            return text(1, str(value))


def attributes(number: int, values: Mapping[str, Any]) -> bytes:
    """Repeated `KeyValue` fields."""
    return b"".join(
        [sized(number, _key(key) + sized(2, any_value(value))) for key, value in values.items()]
    )


def _flags(context: ContextLike, parent: ContextLike | None) -> bytes:
    remote = _IS_REMOTE if parent is not None and parent.is_remote else 0
    return _fixed32(context.trace_flags & 0xFF | _HAS_IS_REMOTE | remote)


def encode_span(span: SpanLike) -> bytes:
    """A span as the message `Span`, without its field's header.

    Raises:
        OverflowError, struct.error: an id or a time does not fit its field.
    """
    context, parent = span.context, span.parent
    pieces = [
        b"\x0a\x10", context.trace_id.to_bytes(16, "big"),
        b"\x12\x08", context.span_id.to_bytes(8, "big"),
    ]  # fmt: skip
    if parent is not None:
        pieces += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
    pieces += (
        text(5, span.name),
        b"\x30", varint(span.kind.value + 1),  # OTLP counts kinds from 1: 0 is unspecified.
        b"\x39", _fixed64(span.start_time or 0),
        b"\x41", _fixed64(span.end_time or 0),
        attributes(9, span.attributes),
    )  # fmt: skip
    pieces += [sized(13, _link(link)) for link in span.links]
    pieces.append(_status(span.status))
    pieces += (b"\x85\x01", _flags(context, parent))
    return b"".join(pieces)


def _link(link: Any) -> bytes:
    context = link.context
    ids = b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")
    return ids + attributes(4, link.attributes or {}) + b"\x35" + _flags(context, context)


def _status(status: Any) -> bytes:
    code: int = status.status_code.value
    if code == 0:
        return b""
    return sized(15, (text(2, status.description) if status.description else b"") + b"\x18" + varint(code))


def encode_request(
    spans: Iterable[bytes], resource: Mapping[str, Any], *, scope: str, version: str
) -> bytes:
    """Encoded spans of one resource and one scope as an `ExportTraceServiceRequest`."""
    scope_spans = sized(1, text(1, scope) + text(2, version)) + b"".join([sized(2, span) for span in spans])
    return sized(1, sized(1, attributes(1, resource)) + sized(2, scope_spans))


def rejected_spans(answer: bytes) -> int:
    """How many spans an `ExportTraceServiceResponse` says were refused; 0 when it is not one."""
    with suppress(IndexError, ValueError):
        for number, value in _message(answer):
            if number == 1 and isinstance(value, bytes):
                return next((n for field, n in _message(value) if field == 1 and isinstance(n, int)), 0)
    return 0


def _message(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    position = 0
    while position < len(data):
        tag, position = _read_varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _read_varint(data, position)
            yield number, value
            continue
        if wire not in {1, 2, 5}:
            raise ValueError("not a protobuf message")
        size, position = _read_varint(data, position) if wire == 2 else (8 if wire == 1 else 4, position)
        yield number, data[position : position + size]
        position += size


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a varint of more than ten bytes")


