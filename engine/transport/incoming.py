"""What comes in and what goes out at the listener, as values: one whole request, one answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec


class Incoming(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One whole request. `path` is as it was on the wire, percent signs included, without the query.

    Header names are lower-case; a header sent twice is joined with a comma (RFC 9110 section 5.3). Of a query
    member sent twice the last one counts. `origin` is the base URL of the listener, without a trailing slash.
    The body is as sent: a `content-encoding` is for the handler to refuse or to undo.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    origin: str


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One answer.

    `abort` closes the connection with a reset and without a byte of answer; `cut_after` sends the head and only
    so many bytes of the body before the reset. A body that is an iterator is sent chunked, unless the headers
    carry a `Content-Length`.
    """

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes | AsyncIterator[bytes] | None = None
    abort: bool = False
    cut_after: int | None = None


Handle = Callable[[Incoming], Awaitable[Outgoing]]
Refuse = Callable[[Incoming, int], Outgoing]


def plain_refusal(incoming: Incoming, status: int) -> Outgoing:
    """The door's own refusal (400, 408, 413) in no words at all."""
    return Outgoing(status=status)
