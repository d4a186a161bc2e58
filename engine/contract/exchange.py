"""One HTTP exchange as values: what is sent, what comes back, and the trace it belongs to.

No socket and no library: the transport turns these into bytes on a wire, the emulator into answers.
Header names in `Response.headers` are lower-case.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_ZERO_TRACE = "0" * 32
_ZERO_SPAN = "0" * 16
_DRAWN_BYTES = 2048
_drawn: deque[str] = deque()


class Trace(msgspec.Struct, frozen=True, gc=False):
    """Where in which trace we are (W3C Trace Context): ids in lower-case hex, 32 and 16 digits."""

    trace_id: str
    span_id: str
    sampled: bool = True

    @property
    def traceparent(self) -> str:
        """The header value that makes a callee our child."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"

    def child(self) -> Trace:
        """A fresh span of the same trace."""
        return Trace(self.trace_id, new_span_id(), self.sampled)

    @classmethod
    def new(cls) -> Trace:
        """A fresh trace."""
        return cls(new_trace_id(), new_span_id())

    @classmethod
    def parse(cls, header: str | None) -> Trace | None:
        """Read a `traceparent`; None when absent or malformed, which starts a new trace (contract 1.7).

        Version `ff` and all-zero ids are malformed; a higher version may carry more after the flags
        (W3C Trace Context, section 4.3).
        """
        match = _TRACEPARENT.fullmatch(header.strip(" \t")) if header else None
        if match is None:
            return None
        version, trace_id, span_id, flags, rest = match.groups()
        if version == "ff" or trace_id == _ZERO_TRACE or span_id == _ZERO_SPAN:
            return None
        if version == "00" and rest:
            return None
        return cls(trace_id, span_id, bool(int(flags, 16) & 1))


def new_trace_id() -> str:
    """32 random hex digits, never all zero."""
    return new_span_id() + new_span_id()


def new_span_id() -> str:
    """16 random hex digits, never all zero; safe to call from any thread."""
    try:
        return _drawn.popleft()
    except IndexError:
        _draw()
        return new_span_id()


def _draw() -> None:
    """Random ids of the system, many at a time: each request needs one, and asking for each costs more than the id."""
    digits = os.urandom(_DRAWN_BYTES).hex()
    ids = [digits[at : at + 16] for at in range(0, len(digits), 16)]
    _drawn.extend([one for one in ids if one != _ZERO_SPAN])


if hasattr(os, "register_at_fork"):
    # A forked process must draw its own, or both would give the same ids.
    os.register_at_fork(after_in_child=_drawn.clear)


class Request(msgspec.Struct, frozen=True, gc=False):
    """What leaves. `route` names it for telemetry; `template` is its low-cardinality path.

    The span of the request is the one in its `traceparent` header; `parent_span_id` and `attributes` are for
    that span only and never sent.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = None
    route: str = ""
    template: str = ""
    timeout_s: float = 30.0
    resend: int = 0
    parent_span_id: str | None = None
    attributes: Mapping[str, Any] = {}


class Response(msgspec.Struct, frozen=True, gc=False):
    """What came back, whole. `body` was read under a cap and is as it was on the wire (never inflated)."""

    status: int
    headers: Mapping[str, str]
    body: bytes
