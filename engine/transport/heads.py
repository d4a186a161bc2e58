"""Heads: a request's URL and headers as the bytes that open it on a connection, or a refusal to write them.

Pure. Nothing that could become a second header, or a second request, is ever written (RFC 9110 section 5.5,
RFC 9112 section 11.1). How a body is framed is written here alone, so no caller may say it.
"""

from __future__ import annotations

import re

from engine.contract.exchange import Request

_URL = re.compile(r"(https?)://([^/?#]*)([^#]*)(?:#.*)?", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_][A-Za-z0-9._-]*))(?::(\d{0,5}))?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PORTS = {"http": 80, "https": 443}
_PORT_MAX = 65_535
_REMEMBERED_MAX = 1024
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
    """Writes heads; remembers origins and header names it has judged once."""

    def __init__(self) -> None:
        self._by_text: dict[str, Origin] = {}
        self._origins: dict[tuple[str, str, int], Origin] = {}
        self._names: dict[str, str] = {}

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

    def write(self, request: Request, origin: Origin, target: str) -> bytes:
        """The head of a request, to its empty line.

        Raises:
            ValueError: it would not stay one request, or is not text that HTTP can carry.
        """
        if not (target.isascii() and target.isprintable()) or " " in target:
            raise ValueError(target)
        names = self._names
        lines = [
            names.get(request.method) or self._method(request.method),
            target,
            " HTTP/1.1\r\nHost: ",
            origin.authority,
        ]
        for name, value in request.headers.items():
            lines.append(names.get(name) or self._name(name))
            lines.append(value)
        ends = 3 + len(request.headers)
        if request.body:
            lines.append(f"\r\nContent-Length: {len(request.body)}\r\n\r\n")
            ends += 1
        elif request.method in _BODILESS:
            lines.append("\r\n\r\n")
        else:
            lines.append("\r\nContent-Length: 0\r\n\r\n")
            ends += 1
        text = "".join(lines)
        # Each line end is one of ours: anything else was brought in by a value.
        if text.count("\n") != ends or text.count("\r") != ends or "\0" in text:
            raise ValueError(request.method)
        return text.encode()

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
        return self._origins.setdefault(key, Origin(*key))

    def _name(self, name: str) -> str:
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            raise ValueError(name)
        return self._remember(name, f"\r\n{name}: ")

    def _method(self, method: str) -> str:
        if not _TOKEN.fullmatch(method):
            raise ValueError(method)
        return f"{method} "

    def _remember(self, name: str, line: str) -> str:
        if len(self._names) >= _REMEMBERED_MAX:
            self._names.clear()
        self._names[name] = line
        return line
