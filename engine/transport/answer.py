"""Answer: bytes of one connection to answers of HTTP/1.1, by llhttp; strict, and with a bound on everything.

The door of `httptools`. No socket: whoever has the bytes feeds them. What could be read in two ways is refused
(RFC 9112 sections 6.3 and 11.2): two lengths, folded lines, bare line ends, transfer codings other than chunked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import httptools

FIELDS_MAX = 128
HEAD_MAX = 32 * 1024
INTERIM_MAX = 16
NO_CAP = sys.maxsize
# What chunked framing may cost beside the body: extensions and trailers are read and thrown away.
_FRAMING_MAX = 16 * 1024
_FRAMING_PER_CHUNK = 64
_LENGTH_DIGITS = 20
_NAMES_MAX = 512
_names: dict[bytes, str] = {}


class BadAnswer(Exception):
    """It is no answer, or one that could be read in two ways."""


class Oversized(Exception):
    """The body is over the cap; `declared` is its length where it was said in advance."""

    def __init__(self, declared: int | None) -> None:
        super().__init__(declared)
        self.declared = declared


class AnswerReader:
    """Reads the answers of one connection, one after the other; `expect` before each.

    After `feed`: `is_head_read`, then `is_whole`. `keeps` is whether another answer may follow on the connection;
    it is meaningless before the answer is whole.
    """

    __slots__ = (
        "_body_max", "_chunks", "_fed", "_interim", "_is_head", "_is_interim", "_keeps_alive", "_parse", "_sink",
        "_size", "_status_of", "_until_close", "headers", "is_head_read", "is_whole", "keeps", "pieces", "status",
    )  # fmt: skip

    def __init__(self, body_max: int = NO_CAP) -> None:
        parser = httptools.HttpResponseParser(self)
        self._body_max = body_max
        self._chunks = self._interim = 0
        self._is_head = self._is_interim = self._until_close = False
        self._parse = parser.feed_data
        self._status_of = parser.get_status_code
        self._keeps_alive = parser.should_keep_alive
        self.expect()

    def expect(self, *, is_head: bool = False, sink: Callable[[bytes], None] | None = None) -> None:
        """The next answer is to a HEAD, or not; its body goes to `sink` without a cap, or is kept in `pieces`."""
        self.status = self._size = self._fed = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.is_head_read = self.is_whole = self._until_close = False
        self.keeps = True
        self._is_head = is_head
        self._sink = sink

    def feed(self, data: bytes) -> None:
        """Take what came.

        Raises:
            BadAnswer, Oversized: the connection is of no more use.
        """
        self._fed += len(data)
        try:
            self._parse(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self.keeps = False
            # An answer that was whole stays one, whatever is wrong with what came after it.
            if not self.is_whole:
                cause = exc.__context__
                raise cause if isinstance(cause, BadAnswer | Oversized) else BadAnswer from exc
        if not self.is_whole or self._chunks:
            self._bound()

    def end(self) -> bool:
        """The peer has ended the connection; whether the answer is whole by that."""
        self.keeps = False
        if self._until_close:
            self.is_whole = True
        return self.is_whole

    def _bound(self) -> None:
        if not self.is_head_read:
            if self._fed > HEAD_MAX:
                raise BadAnswer
        elif self._fed - self._size > HEAD_MAX + _FRAMING_MAX + _FRAMING_PER_CHUNK * self._chunks:
            raise BadAnswer

    # What the parser calls, in this order; a raise in them ends the feeding.

    def on_message_begin(self) -> None:
        """Another answer begins; nobody asked for a second one, and none of it is read."""
        if self.is_whole:
            raise BadAnswer

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of a head, or of the trailers, which nobody reads."""
        if self.is_head_read:
            return
        headers = self.headers
        try:
            key = _names[name]
        except KeyError:
            key = _lowered(name)
        try:
            text = value.decode().strip(" \t")
        except UnicodeDecodeError:
            text = value.decode("utf-8", "surrogateescape").strip(" \t")
        if key not in headers:
            headers[key] = text
        elif len(text) + len(headers[key]) <= HEAD_MAX:
            headers[key] = f"{headers[key]}, {text}"
        else:
            raise BadAnswer

    def on_headers_complete(self) -> None:
        """A head is whole: of the answer, or of an interim one (RFC 9110 section 15.2)."""
        headers = self.headers
        status = self._status_of()
        if status < 200:
            self._interim += 1
            self._is_interim = True
            if status == 101 or self._interim > INTERIM_MAX:
                raise BadAnswer
            return
        if len(headers) > FIELDS_MAX or (self._fed > HEAD_MAX and _size_of(headers) > HEAD_MAX):
            raise BadAnswer
        self.status = status
        self.is_head_read = True
        self.keeps = self._keeps_alive()
        self._chunks = self._interim = 0
        if self._is_head:
            # The parser cannot be told that no body follows, so it is stopped, and the connection with it.
            self.is_whole = True
            raise BadAnswer
        length = headers.get("content-length")
        if length is not None:
            if len(length) > _LENGTH_DIGITS:
                raise BadAnswer
            if self._sink is None and int(length) > self._body_max and status not in (204, 304):
                raise Oversized(int(length))
        elif (coding := headers.get("transfer-encoding")) is not None:
            if coding.lower() != "chunked":
                raise BadAnswer
        else:
            self._until_close = status not in (204, 304)

    def on_chunk_header(self) -> None:
        """One chunk more."""
        self._chunks += 1

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        self._size += len(data)
        if self._sink is not None:
            self._sink(data)
        elif self._size > self._body_max:
            raise Oversized(None)
        else:
            self.pieces.append(data)

    def on_message_complete(self) -> None:
        """The answer is whole; an interim one is forgotten."""
        if self._is_interim:
            self._is_interim = False
            self.headers = {}
        else:
            self.is_whole = True


def _size_of(headers: dict[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in headers.items())


def _lowered(name: bytes) -> str:
    text = name.decode("ascii").lower()
    if len(_names) < _NAMES_MAX and len(name) < 64:
        _names[name] = text
    return text
