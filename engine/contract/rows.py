"""Routes as givers and takers of rows: which list things, which take one thing per question. Read off their types.

A pipeline reads a listing page after page, or asks a route once for each row. Neither needs a table of routes: what
can be used so follows from method, question and answer.
"""

from __future__ import annotations

import hashlib
import uuid
from functools import cache
from typing import Any, Protocol, get_args, get_origin

import msgspec

from engine.codec.payload import decode, encode
from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Nothing, Route, Text
from engine.errors import BrokenAnswer, RecordError

IDEMPOTENCY_KEY = "Idempotency-Key"
CURSOR = "cursor"


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """How a route lists things: the member of its answer that holds them, and whether it does so by pages (Q21)."""

    member: str
    is_paged: bool


class ListPage(Protocol):
    """One page: its things as JSON text, in the platform's order, and where the next page begins; None on the last."""

    @property
    def items(self) -> list[msgspec.Raw]:
        """The things."""

    @property
    def next_cursor(self) -> str | None:
        """Where the next page begins."""


def listing_of(route: Route[Any, Any]) -> Listing | None:
    """How a route lists things; None where it does not: no GET, or not exactly one list in its answer."""
    if route.method != "GET" or not _is_struct(route.answer) or len(route.media) > 1:
        return None
    fields = msgspec.structs.fields(route.answer)
    lists = [field for field in fields if get_origin(field.type) is list]
    if len(lists) != 1 or not _is_thing(get_args(lists[0].type)[0]):
        return None
    asks = {field.name for field in msgspec.structs.fields(route.ask)}
    is_paged = CURSOR in asks and any(field.name == "next_cursor" for field in fields)
    return Listing(member=lists[0].encode_name, is_paged=is_paged)


def is_asked_per_row(route: Route[Any, Any]) -> bool:
    """Whether a route may be asked once for each row, its answers kept: it takes members and answers JSON or nothing.

    Not where answers hold a credential, which no file may keep, nor those of jobs, which have a table of their own.
    """
    return _takes_members(route) and route.answer is not Text and not _holds_credential(route)


def is_write(route: Route[Any, Any]) -> bool:
    """Whether a route changes something at the platform, and nothing is lost with its answers.

    Whoever creates what has a credential needs the answer, because it is told once.
    """
    is_one = route.method in ("PUT", "PATCH", "DELETE") or (route.method == "POST" and not _holds_credential(route))
    return _takes_members(route) and is_one


def is_repeatable(route: Route[Any, Any]) -> bool:
    """Whether asking twice is the same as once: by its method (RFC 9110 section 9.2.2), or because it takes a key."""
    return route.method in ("GET", "PUT", "DELETE") or key_member(route) is not None


def key_member(route: Route[Any, Any]) -> str | None:
    """The member of the question that travels as Idempotency-Key; None where the route takes none (contract 9.2)."""
    return next((member for member, header in route.headers.items() if header == IDEMPOTENCY_KEY), None)


def row_key(job_key: str, index: int, row: bytes) -> str:
    """The Idempotency-Key of one row of a batch: the same row of the same batch has the same one, whenever asked.

    Shaped as a UUID v4, which the contract recommends (9.2), out of a SHA-256.
    """
    text = f"{job_key}\0{index}\0".encode()
    return str(uuid.UUID(bytes=hashlib.sha256(text + row).digest()[:16], version=4))


def as_text(route: Route[Any, Any]) -> Route[Any, Any]:
    """The same route, whose answer is kept as the JSON text it came as."""
    return route if route.answer is Nothing else msgspec.structs.replace(route, answer=msgspec.Raw)


def text_of(route: Route[Any, Any], answer: Any) -> bytes:
    """The text of an answer of `as_text(route)`.

    Raises:
        BrokenAnswer: it is not of the type the route promises.
    """
    if answer is None or isinstance(answer, Nothing):
        return b"{}"
    if isinstance(answer, Text):
        return encode(answer.text)
    text = bytes(answer)
    try:
        decode(text, route.answer)
    except RecordError as exc:
        raise BrokenAnswer(f"{route.name}: the answer is not what the contract says: {exc.message}") from exc
    return text


def page_of(listing: Listing, text: bytes) -> ListPage:
    """A page of a listing out of the answer's text.

    Raises:
        RecordError: it is none.
    """
    return decode(text, _page_type(listing.member))


@cache
def _page_type(member: str) -> type[ListPage]:
    fields: list[Any] = [("items", list[msgspec.Raw]), ("next_cursor", str | None, None)]
    names = {"items": member, "next_cursor": PROFILE.page_names["next_cursor"]}
    return msgspec.defstruct("Page", fields, rename=names, frozen=True, gc=False)  # type: ignore[return-value]


def _takes_members(route: Route[Any, Any]) -> bool:
    has_members = bool(msgspec.structs.fields(route.ask)) and not route.form and not route.redirect
    return has_members and route.auth is not Auth.CLIENT and route.group != "jobs"


def _holds_credential(route: Route[Any, Any]) -> bool:
    names = [field.name for field in msgspec.structs.fields(route.answer)] if _is_struct(route.answer) else []
    return any(word in name for name in names for word in ("secret", "token"))


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _is_thing(kind: Any) -> bool:
    return _is_struct(kind) or kind is dict or get_origin(kind) is dict
