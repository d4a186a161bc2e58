"""`Route[Ask, Answer]`: one route of the contract as one typed value.

Client, emulator, `engine call` and the tests all read it. A route says how a question is laid out on the
wire; it sends nothing. An `Ask` is a frozen Struct whose fields go, by name, into the path (when the
template names them), into a header (`headers`), and otherwise into the query (GET, DELETE) or the body.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from engine.codec.payload import encode, to_wire

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Host(Enum):
    """Which of the platform's hosts serves a route (contract 1.1)."""

    AUTH = "auth"
    API = "api"
    SANDBOX = "sandbox"
    DOCS = "docs"


class Auth(Enum):
    """How a caller shows who it is."""

    PUBLIC = "public"
    CLIENT = "client"  # client credentials in the body or HTTP Basic
    BEARER = "bearer"
    SANDBOX = "sandbox"  # a bearer token with aud=sandbox


class Nothing(msgspec.Struct, frozen=True):
    """An empty question, or an empty answer."""


class Text(msgspec.Struct, frozen=True):
    """An answer that is text and not JSON; `media_type` without its parameters."""

    text: str
    media_type: str = "text/plain"


class Route(msgspec.Struct, Generic[Ask, Answer], frozen=True, kw_only=True):
    """One route.

    number    its row in contract table A       name      `group.verb`, as `engine call` takes it
    scopes    any one of these is enough        status    success codes, the first is the usual one; with 304 it
              has an ETag, and answers so to an If-None-Match that names it
    headers   Ask field -> header name          form      body is application/x-www-form-urlencoded
    redirect  answers 302 and no body           media     media types of the answer, the first is the usual one
    refusals  statuses of refusal that do not follow from the rest of the route (409, for one)
    whole     (Ask field, media type): when given, this field is the whole body, of that type
    """

    number: int
    name: str
    method: str
    path: str
    hosts: tuple[Host, ...]
    auth: Auth
    ask: type[Ask]
    answer: type[Answer]
    scopes: tuple[str, ...] = ()
    status: tuple[int, ...] = (200,)
    headers: dict[str, str] = {}
    form: bool = False
    redirect: bool = False
    media: tuple[str, ...] = ("application/json",)
    refusals: tuple[int, ...] = ()
    whole: tuple[str, str] | None = None

    @property
    def group(self) -> str:
        """The room this route lives in: the name before the dot."""
        return self.name.partition(".")[0]


class Wire(msgspec.Struct, frozen=True, gc=False):
    """A question laid out: path with query, headers beyond the common ones, body bytes or None."""

    target: str
    headers: dict[str, str]
    body: bytes | None


def lay_out(route: Route[Ask, Any], ask: Ask) -> Wire:
    """Lay a question out on the wire as `route` says. Absent (UNSET or None query) members are left out."""
    members: dict[str, Any] = to_wire(ask)
    path = route.path
    headers: dict[str, str] = {}
    for name in list(members):
        slot = "{" + name + "}"
        if slot in path:
            path = path.replace(slot, quote(str(members.pop(name)), safe=""))
        elif name in route.headers:
            value = members.pop(name)
            if value is not None:
                headers[route.headers[name]] = str(value)
    if route.method in ("GET", "DELETE"):
        query = urlencode({name: _text(value) for name, value in members.items() if value is not None})
        return Wire(f"{path}?{query}" if query else path, headers, None)
    if route.form:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        form = {name: _text(value) for name, value in members.items() if value is not None}
        return Wire(path, headers, urlencode(form).encode())
    if route.whole is not None and route.whole[0] in members:
        headers["Content-Type"] = route.whole[1]
        return Wire(path, headers, encode(members[route.whole[0]]))
    headers["Content-Type"] = "application/json"
    return Wire(path, headers, encode(members))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
