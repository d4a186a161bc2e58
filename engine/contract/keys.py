"""Token verification keys (contract 5): routes 10 and 11, the same key set at two paths."""

from __future__ import annotations

import msgspec

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Nothing, Route


class Key(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A JSON Web Key (RFC 7517); an RSA one has `n` and `e` (RFC 7518 section 6.3)."""

    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    n: str | None = None
    e: str | None = None


class KeySet(msgspec.Struct, frozen=True):
    """A JSON Web Key Set (RFC 7517 section 5)."""

    keys: list[Key]


WELL_KNOWN = Route(
    number=10, name="keys.well_known", method="GET", path="/.well-known/jwks.json", hosts=(Host.AUTH,),
    auth=Auth.PUBLIC, ask=Nothing, answer=KeySet, status=(200, 304), media=(PROFILE.jwks_type,),
)  # fmt: skip
VERSIONED = Route(
    number=11, name="keys.versioned", method="GET", path="/v1/auth/jwks.json", hosts=(Host.AUTH,),
    auth=Auth.PUBLIC, ask=Nothing, answer=KeySet, status=(200, 304), media=(PROFILE.jwks_type,),
)  # fmt: skip

ROUTES = (WELL_KNOWN, VERSIONED)
EXAMPLES = {WELL_KNOWN.name: Nothing(), VERSIONED.name: Nothing()}
