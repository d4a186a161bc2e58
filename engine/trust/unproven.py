"""Unproven: what a token says of itself, for a human to look at. It proves nothing, and nobody may act on it."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.errors import MalformedToken
from engine.trust.strict import base64url, json_object

_TOKEN_CHARS_MAX = 16 * 1024


class Unproven(msgspec.Struct, frozen=True):
    """The header and the claims of a compact JWS (RFC 7515 section 7.1), as they are written."""

    header: dict[str, Any]
    claims: dict[str, Any]


def read_unproven(token: str) -> Unproven:
    """Take a token apart. Its signature is not looked at.

    Raises:
        MalformedToken: it is no compact JWS, or its parts are not what the contract says.
    """
    if not token.isascii() or len(token) > _TOKEN_CHARS_MAX:
        raise MalformedToken(f"a token is ASCII text of at most {_TOKEN_CHARS_MAX} characters")
    parts = token.encode().split(b".")
    if len(parts) != 3:
        raise MalformedToken(f"a compact JWS has 3 parts, this has {len(parts)}")
    header, claims = (
        json_object(base64url(part, what=what), what=what)
        for part, what in zip(parts, ("header", "payload"), strict=False)
    )
    return Unproven(header, claims)
