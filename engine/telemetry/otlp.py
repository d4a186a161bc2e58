"""OTLP over HTTP for traces, written by hand: the bytes of an export request, and the POST that carries them.

Encoding is plain functions after opentelemetry/proto/trace/v1/trace.proto (OTLP 1.x); `Collector` blocks,
and belongs on the thread of an `Outbox`. Never the environment, never a decision about what is sampled;
no OpenTelemetry, protobuf or HTTP library.
"""

from __future__ import annotations

import gzip
import http.client
import random
import socket
import ssl
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final

import msgspec

from engine.contract.problem import retry_after_s
from engine.settings import Secret
from engine.telemetry.outbox import Lost, Patience

# Encoding --------------------------------------------------------------------------------------


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
    tag = varint(number << 3 | 2)
    pairs = [_pair(key, value) for key, value in values.items()]
    return b"".join([part for pair in pairs for part in (tag, varint(len(pair)), pair)])


def _pair(key: str, value: Any) -> bytes:
    kind = type(value)
    if (kind is str and len(value) <= 64) or (kind is int and 0 <= value < 0x10000):
        return _usual_pair(key, value)
    return _key(key) + sized(2, any_value(value))


# Routes, hosts, ports, methods and codes come again with every span.
@lru_cache(maxsize=2048)
def _usual_pair(key: str, value: str | int) -> bytes:
    return _key(key) + sized(2, any_value(value))


def _flags(context: Any, parent: Any) -> bytes:
    remote = _IS_REMOTE if parent is not None and parent.is_remote else 0
    return _fixed32(context.trace_flags & 0xFF | _HAS_IS_REMOTE | remote)


def encode_span(span: Any) -> bytes:
    """A span as the message `Span`, without its field's header.

    `span` is OpenTelemetry's `ReadableSpan`, or anything with its members: this file knows no library.

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
    ids: bytes = b"\x0a\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")
    return ids + attributes(4, link.attributes or {}) + b"\x35" + _flags(context, context)


def _status(status: Any) -> bytes:
    code = int(status.status_code.value)
    if code == 0:
        return b""
    return sized(15, (text(2, status.description) if status.description else b"") + b"\x18" + varint(code))


def encode_request(spans: Iterable[bytes], resource: Mapping[str, Any], *, scope: str, version: str) -> bytes:
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


# Delivery --------------------------------------------------------------------------------------

_AGAIN: Final = frozenset({429, 502, 503, 504})
_STALE: Final = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
_ATTEMPTS: Final = 5
_LONGEST_WAIT_S: Final = 60.0
_ANSWER_BYTES: Final = 64 * 1024


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where spans go. `path` includes any query; `tls` is None for plain HTTP; header names are lower-case."""

    host: str
    port: int
    path: str
    headers: dict[str, Secret]
    timeout_s: float
    is_gzip: bool
    tls: ssl.SSLContext | None = None

    def __str__(self) -> str:
        # Without the query: it may be a credential.
        return f"http{'s' if self.tls else ''}://{self.host}:{self.port}{self.path.partition('?')[0]}"


class _Answer(msgspec.Struct, frozen=True):
    status: int
    retry_after_s: float | None
    body: bytes


class Collector:
    """One kept connection to a collector, used by one thread; `abort` alone may come from another.

    A request that fails is sent up to five times, with growing and jittered waits or the collector's own
    `Retry-After` (at most a minute). Sending again after a lost answer may double spans: collectors know
    them by their ids. Redirects are not followed and proxies not used.
    """

    def __init__(self, target: Target, patience: Patience) -> None:
        self._target = target
        self._patience = patience
        self._connection: http.client.HTTPConnection | None = None

    def deliver(self, body: bytes, spans: int) -> Lost | None:
        """POST an export request holding `spans` spans; what was lost of them, if anything. Blocks."""
        if self._target.is_gzip:
            body = gzip.compress(body, compresslevel=4, mtime=0)
        reason = ""
        for attempt in range(_ATTEMPTS):
            try:
                answer = self._exchange(body)
            except (OSError, http.client.HTTPException) as exc:
                reason, asked_s = _words(exc), None
                if self._patience.is_closing:
                    break  # Nobody is there, and the process wants to leave.
            else:
                if answer.status // 100 == 2:
                    refused = rejected_spans(answer.body)
                    return Lost(refused, f"it rejected {refused} of {spans} spans") if refused else None
                reason, asked_s = f"it answered {answer.status}", answer.retry_after_s
                if answer.status not in _AGAIN:
                    break
            if attempt + 1 == _ATTEMPTS or not self._patience.pause(_wait_s(attempt, asked_s)):
                break
        return Lost(spans, reason)

    def abort(self) -> None:
        """Break off the exchange that is running, if it has got as far as a socket."""
        connection = self._connection
        if connection is not None and (sock := connection.sock) is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next delivery opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, body: bytes) -> _Answer:
        is_reused = self._connection is not None and self._connection.sock is not None
        try:
            return self._post(body)
        except _STALE:
            self.close()
            if not is_reused:
                raise
            # The collector closed a connection that lay idle; that says nothing about a fresh one.
            return self._post(body)
        except BaseException:
            self.close()
            raise

    def _post(self, body: bytes) -> _Answer:
        target = self._target
        timeout_s = max(0.01, min(target.timeout_s, self._patience.left_s))
        connection = self._connection = self._connection or self._connect()
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        headers = {"content-type": "application/x-protobuf", "user-agent": "engine-otlp"}
        headers |= {name: value.reveal() for name, value in target.headers.items()}
        if target.is_gzip:
            headers["content-encoding"] = "gzip"
        connection.request("POST", target.path, body, headers)
        with connection.getresponse() as response:
            answer = response.read(_ANSWER_BYTES)
            after = {"retry-after": response.getheader("retry-after", "")}
            if not response.isclosed():
                self.close()  # More than any answer of OTLP: the rest would be read as the next one.
            return _Answer(response.status, retry_after_s(after, now_s=time.time()), answer)

    def _connect(self) -> http.client.HTTPConnection:
        target = self._target
        if target.tls is None:
            return http.client.HTTPConnection(target.host, target.port)
        return http.client.HTTPSConnection(target.host, target.port, context=target.tls)


def _wait_s(attempt: int, asked_s: float | None) -> float:
    if asked_s is not None:
        return min(asked_s, _LONGEST_WAIT_S)
    return 2.0**attempt * random.uniform(0.8, 1.2)


def _words(exc: Exception) -> str:
    # Never the exception's own text: http.client quotes what it was given, headers included.
    detail = exc.strerror if isinstance(exc, OSError) else None
    return f"{type(exc).__name__}: {detail}" if detail else type(exc).__name__
