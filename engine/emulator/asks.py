"""Asks: from a request on the wire back to the question it stands for; the mirror of `contract.route.lay_out`.

Pure. Unparsable is 400, well-formed but wrong is 422 with every missing member named (Q1). Members nobody knows
are passed over, as tolerant servers do; where the contract says otherwise (3.5) the handler looks itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import parse_qsl

import msgspec

from engine.codec.payload import check_caps, decode, from_plain, loads, replaced
from engine.contract.problem import FieldFault
from engine.contract.profile import PROFILE, Profile
from engine.contract.route import Route
from engine.emulator.refusal import OAuthRefusal, Refusal, invalid, unfit
from engine.errors import RecordError
from engine.transport.incoming import Incoming

_FORM = "application/x-www-form-urlencoded"
_AT = re.compile(r"^(?P<said>.*) - at `\$(?P<path>[^`]*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_FORM_FIELDS_MAX = 50
_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")


class Reading:
    """How one route's questions are read; built once per route."""

    __slots__ = ("_headers", "_is_document", "_kind", "_not_text", "_required", "_route", "_where")

    def __init__(self, route: Route[Any, Any]) -> None:
        self._route = route
        self._kind = route.ask
        self._headers = {field: header.lower() for field, header in route.headers.items()}
        fields = msgspec.structs.fields(route.ask)
        self._required = tuple(field.encode_name for field in fields if field.required)
        self._not_text = frozenset(field.encode_name for field in fields if not _takes_text(field.type))
        self._where = "query" if route.method in ("GET", "DELETE") else "body"
        # The question is what the body says and nothing else.
        self._is_document = self._where == "body" and not (route.form or route.whole or route.redirect)

    def read(self, incoming: Incoming, in_path: Mapping[str, str]) -> Any:
        """The question.

        Raises:
            Refusal: 400, 415 or 422.
        """
        if self._is_document and not in_path and (asked := self._at_once(incoming)) is not None:
            return asked
        if self._where == "query":
            members: dict[str, Any] = dict(incoming.query)
            self._check_null(members)
        elif self._route.form:
            members = _read_form(incoming)
        else:
            members = _read_json(incoming)
            if self._route.whole is not None and _kind_of(incoming) == self._route.whole[1]:
                members = {self._route.whole[0]: members}
        for name, header in self._headers.items():
            members.pop(name, None)
            if header in incoming.headers:
                members[name] = incoming.headers[header]
        members.update(in_path)
        if self._route.redirect:
            # Whoever follows a link to here is a browser: what is missing is told to it by redirect or on a page.
            for name in self._required:
                members.setdefault(name, "")
        try:
            return from_plain(members, self._kind, strict=self._where == "body" and not self._route.form)
        except RecordError as exc:
            raise self._wrong(exc.message, members, in_path) from exc

    def _at_once(self, incoming: Incoming) -> Any:
        """The question of a body that needs no second look; None of any other, whether it is wrong or not."""
        body, headers = incoming.body, incoming.headers
        if headers.get("content-type") != "application/json" or "content-encoding" in headers or not body.isascii():
            return None
        said = {field: headers[header] for field, header in self._headers.items() if header in headers}
        if len(said) != len(self._headers):
            return None
        try:
            return replaced(decode(body, self._kind), said)
        except RecordError:
            return None

    def _check_null(self, members: Mapping[str, Any]) -> None:
        """A query has no null, but reading its text as numbers would take the word for one."""
        for name, text in members.items():
            if name in self._not_text and text.lower() == "null":
                raise invalid(self._where, name, "expected a value, got null", "type_error")

    def _wrong(self, said: str, members: Mapping[str, Any], in_path: Mapping[str, str]) -> Refusal:
        """Every missing member, or the first one of the wrong type."""
        faults = [
            FieldFault([self._where, name], "is required", "missing") for name in self._required if name not in members
        ]
        if not faults:
            match = _AT.match(said)
            steps = (
                [name or int(index) for name, index in _STEP.findall(match["path"]) if index != "..."] if match else []
            )
            first = steps[0] if steps else None
            where = "path" if first in in_path else "header" if first in self._headers else self._where
            faults = [FieldFault([where, *steps], match["said"] if match else said, "type_error")]
        text = "; ".join(f"{'.'.join(map(str, fault.loc))}: {fault.msg}" for fault in faults)
        if self._route.form:
            return OAuthRefusal(400, "invalid_request", text, {"Cache-Control": "no-store"})
        return unfit(text, faults)


def _takes_text(kind: Any) -> bool:
    """Whether a member of this type may be any text."""
    return kind in (str, Any) or str in get_args(kind)


def _read_json(incoming: Incoming) -> dict[str, Any]:
    if not incoming.body:
        return {}
    _check_encoding(incoming)
    kind = _kind_of(incoming)
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refusal(415, "unsupported_media_type", f"The body must be application/json, not {kind[:80]}.")
    try:
        check_caps(incoming.body)
        document = loads(incoming.body)
    except RecordError as exc:
        raise Refusal(PROFILE.malformed_status, "malformed_json", f"The body cannot be read: {exc.message}.") from exc
    if not isinstance(document, dict):
        fault = FieldFault(["body"], f"expected an object, got {type(document).__name__}", "type_error")
        raise unfit("The body must be a JSON object.", [fault])
    return document


def key_of(key: str | None, profile: Profile) -> str | None:
    """An Idempotency-Key that may be one (Q40).

    Raises:
        Refusal: 422.
    """
    longest = profile.idempotency_key_max
    if key is not None and (not _VISIBLE_ASCII.fullmatch(key) or len(key) > longest):
        raise invalid("header", "Idempotency-Key", f"must be 1 to {longest} visible ASCII characters")
    return key


def _kind_of(incoming: Incoming) -> str:
    return incoming.headers.get("content-type", "application/json").partition(";")[0].strip().lower()


def _read_form(incoming: Incoming) -> dict[str, Any]:
    """A form without empty members; one that is there twice is an error (RFC 6749 section 3.2)."""
    _check_encoding(incoming)
    kind = incoming.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise OAuthRefusal(400, "invalid_request", f"The body must be {_FORM}.")
    try:
        pairs = parse_qsl(incoming.body.decode("utf-8"), max_num_fields=_FORM_FIELDS_MAX)
    except ValueError:
        raise OAuthRefusal(400, "invalid_request", "The body is not a form in UTF-8.") from None
    members = dict(pairs)
    if len(members) != len(pairs):
        raise OAuthRefusal(400, "invalid_request", "A member is there twice.")
    return members


def _check_encoding(incoming: Incoming) -> None:
    """No compressed requests (Q5): nobody needs them, and a bomb would come that way."""
    encoding = incoming.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise Refusal(415, "unsupported_encoding", "The body must not be compressed.", {"Accept-Encoding": "identity"})
