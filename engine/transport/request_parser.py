"""Requests out of bytes, by llhttp (`httptools`), and stricter: what two servers could read differently is refused.

Knows no socket. Heads, bodies and what surrounds chunks are bounded; nothing is inflated.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httptools
import msgspec

from engine.transport.incoming import Incoming

HEAD_MAX = 64 * 1024
_LINE_MAX = 8190
_HEADERS_MAX = 100
_QUERY_FIELDS_MAX = 100
# What chunk sizes, their extensions and trailers may add to a body.
_FRAMING_MAX = 64 * 1024


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """A request that is whole, or as much of it as stands when it is refused with `status` (0: not refused)."""

    incoming: Incoming
    is_kept: bool
    status: int = 0


class Malformed(Exception):
    """These bytes are no request that may be answered with more than 400."""


class RequestParser:
    """Feed it what was read; it gives back whole requests, in order. After `Malformed`, or a refused one, no more."""

    def __init__(self, *, origin: str, body_max: int) -> None:
        self._origin = origin
        self._body_max = body_max
        self._parser: Any = httptools.HttpRequestParser(self)
        self._found: list[Parsed] = []
        self._head_bytes = 0
        self._wire_bytes = 0
        self._fault: str | None = None
        self.is_over = False
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._names = 0
        self._hosts = 0
        self._codings: list[str] = []
        self._has_length = False
        self._pieces: list[bytes] = []
        self._size = 0
        self.is_in_head = False
        self.is_in_body = False
        self.wants_word = False

    @property
    def is_idle(self) -> bool:
        """Whether the next request has not begun."""
        return not (self.is_in_head or self.is_in_body)

    def feed(self, data: bytes) -> list[Parsed]:
        """The requests that these bytes complete.

        Raises:
            Malformed: what came is not a request, or one that could be read in two ways.
        """
        if self.is_over:
            return []
        self._count(len(data))
        if self.is_idle and data.strip(b"\r\n"):
            self.is_in_head = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.is_over = True  # Nobody changes protocols here: the request is answered, and that is the end.
        except httptools.HttpParserError as exc:
            if not self.is_over:
                self.is_over = True
                raise Malformed from exc
        found, self._found = self._found, []
        return found

    def refuse(self, status: int) -> Parsed:
        """The request that is coming in, refused; nothing of it is read any more."""
        self.is_over = True
        return Parsed(self._incoming(b"", {}), is_kept=False, status=status)

    # What llhttp calls ------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begin()
        self._head_bytes = self._wire_bytes = 0
        self.is_in_head = True

    def on_url(self, piece: bytes) -> None:
        """A piece of the request target."""
        self._url += piece
        if len(self._url) > _LINE_MAX:
            raise Malformed

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line; a trailer after a body is passed over."""
        if self.is_in_body:
            return
        self._names += 1
        if self._names > _HEADERS_MAX or len(name) + len(value) > _LINE_MAX:
            raise Malformed
        key, text = _name_of(name), value.decode("latin-1").strip(" \t")
        if key == "host":
            self._hosts += 1
        elif key == "transfer-encoding":
            self._codings.append(text.lower())
        elif key == "content-length":
            self._has_length = True
        self._headers[key] = f"{self._headers[key]},{text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """The head is whole: judge how the body is framed before any of it is read."""
        version = self._parser.get_http_version()
        has_coding = bool(self._codings)
        is_ambiguous = has_coding and (self._has_length or self._codings != ["chunked"] or version != "1.1")
        if is_ambiguous or self._hosts > 1 or (not self._hosts and version == "1.1") or version not in ("1.0", "1.1"):
            raise Malformed
        self.is_in_head, self.is_in_body = False, True
        self._kept = bool(self._parser.should_keep_alive())
        self.wants_word = self._headers.get("expect", "").lower() == "100-continue"
        declared = self._headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._body_max:
            self._found.append(self.refuse(413))

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if self.is_over:
            return
        self.wants_word = False
        self._size += len(piece)
        if self._size > self._body_max:
            self._found.append(self.refuse(413))
            return
        self._pieces.append(piece)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.is_in_body = False
        if self.is_over:
            return
        query: dict[str, str] = {}
        status = 0
        _, _, text = _origin_form(self._url).partition("?")
        if text:
            try:
                query = dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX))
            except ValueError:
                status = 400
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._found.append(Parsed(self._incoming(body, query), is_kept=self._kept, status=status))

    def _incoming(self, body: bytes, query: dict[str, str]) -> Incoming:
        return Incoming(
            method=self._parser.get_method().decode("ascii"),
            path=_origin_form(self._url).partition("?")[0],
            query=query,
            headers=self._headers,
            body=body,
            origin=self._origin,
        )

    def _count(self, size: int) -> None:
        """Bound what is no body: heads, and what stands around chunks."""
        if self.is_in_body:
            self._wire_bytes += size
            if self._wire_bytes > self._body_max + self._body_max // 2 + _FRAMING_MAX and not self.is_over:
                self._found.append(self.refuse(413))
        elif self.is_in_head:
            self._head_bytes += size
            if self._head_bytes > HEAD_MAX:
                self.is_over = True
                raise Malformed


@lru_cache(maxsize=256)
def _name_of(name: bytes) -> str:
    """A header's name in small letters; everybody sends the same few."""
    return name.decode("ascii").lower()


def _origin_form(target: bytes) -> str:
    """The path and query of a request target, also of the absolute form (RFC 9112 section 3.2.2)."""
    text = target.decode("latin-1")
    if text.startswith("/"):
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
