"""Heads: a request's URL and headers as the bytes that open it on a connection, or a refusal to write them.

Pure. Nothing that could become a second header, or a second request, is ever written (RFC 9110 section 5.5,
RFC 9112 section 11.1). How a body is framed is written here alone, so no caller may say it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from engine.contract.exchange import Request

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_][A-Za-z0-9._-]*))(?::(\d{0,5}))?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_field = ": ".join
_PORTS = {"http": 80, "https": 443}
_PORT_MAX = 65_535
_REMEMBERED_MAX = 1024
_URL_SHORT = 200
# Written by this file, from the URL and the body; Expect would wait for an answer that nobody here waits for.
_OURS = frozenset(("host", "content-length", "transfer-encoding", "expect", "upgrade", "te", "trailer"))
# A body is not expected with these, so its absence needs no word (RFC 9110 section 8.6).
_BODILESS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))


class NoUrl(Exception):
    """There is no host, or no scheme we speak."""


class Origin:
    """Where connections go: one scheme, host and port. `text` is how a URL begins that leads here."""

    __slots__ = ("authority", "host", "is_tls", "port", "scheme", "text")

    def __init__(self, scheme: str, host: str, port: int) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.is_tls = scheme == "https"
        name = f"[{host}]" if ":" in host else host
        self.authority = name if port == _PORTS[scheme] else f"{name}:{port}"


class Heads:
    """Writes heads; remembers what it has judged once: origins, first lines, header names."""

    def __init__(self) -> None:
        self._by_text: dict[str, Origin] = {}
        self._origins: dict[tuple[str, str, int], Origin] = {}
        self._names: set[str] = set()
        self._openings: dict[tuple[str, str], tuple[Origin, str]] = {}

    def locate(self, url: str) -> tuple[Origin, str]:
        """The origin of a URL, always the same object for the same one, and the target to ask it for.

        Raises:
            NoUrl: it has none.
        """
        # What is remembered has neither query nor fragment in it, so a hit is the whole origin.
        at = url.find("/", 8)
        if at > 0 and (origin := self._by_text.get(url[:at])) is not None and "#" not in url:
            return origin, url[at:]
        match = _URL.fullmatch(url)
        if match is None:
            raise NoUrl
        scheme, authority, target = match.groups()
        origin = self._origin(scheme.lower(), authority)
        if len(self._by_text) >= _REMEMBERED_MAX:
            self._by_text.clear()
        self._by_text[f"{scheme}://{authority}"] = origin
        return origin, target if target.startswith("/") else f"/{target}"

    def write(self, request: Request) -> tuple[Origin, bytes]:
        """Where a request goes, and its head, to its empty line.

        Raises:
            NoUrl: it goes nowhere. ValueError: it would not stay one request, or is no text that HTTP can carry.
        """
        method, body, headers = request.method, request.body, request.headers
        opening = self._openings.get((method, request.url)) or self._judge(method, request.url)
        if not self._names.issuperset(headers):
            self._learn(headers)
        # The values alone: every line end in the head is to be one of ours.
        values = "".join(headers.values())
        if "\n" in values or "\r" in values or "\0" in values:
            raise ValueError(method)
        if body:
            end = f"Content-Length: {len(body)}\r\n\r\n"
        else:
            end = "\r\n" if method in _BODILESS else "Content-Length: 0\r\n\r\n"
        origin, lines = opening
        if headers:
            fields = "\r\n".join(map(_field, headers.items()))
            return origin, f"{lines}{fields}\r\n{end}".encode()
        return origin, f"{lines}{end}".encode()

    def _judge(self, method: str, url: str) -> tuple[Origin, str]:
        """The origin, and the head's lines that are the same for every request with this method and URL."""
        origin, target = self.locate(url)
        if not _TOKEN.fullmatch(method):
            raise ValueError(method)
        if not (target.isascii() and target.isprintable()) or " " in target:
            raise ValueError(target)
        opening = origin, f"{method} {target} HTTP/1.1\r\nHost: {origin.authority}\r\n"
        # Long ones are signed URLs, which are asked for once.
        if len(url) <= _URL_SHORT:
            if len(self._openings) >= _REMEMBERED_MAX:
                self._openings.clear()
            self._openings[method, url] = opening
        return opening

    def _origin(self, scheme: str, authority: str) -> Origin:
        match = _AUTHORITY.fullmatch(authority)
        if match is None:
            raise NoUrl
        address, name, port_text = match.groups()
        port = int(port_text) if port_text else _PORTS[scheme]
        if port > _PORT_MAX:
            raise NoUrl
        key = scheme, (address or name).lower(), port
        if len(self._origins) >= _REMEMBERED_MAX:
            self._origins.clear()
            self._by_text.clear()
            self._openings.clear()
        return self._origins.setdefault(key, Origin(*key))

    def _learn(self, headers: Mapping[str, str]) -> None:
        """Judge the names that are new."""
        if len(self._names) >= _REMEMBERED_MAX:
            self._names.clear()
        for name in headers:
            if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
                raise ValueError(name)
            self._names.add(name)
