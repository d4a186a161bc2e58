"""The gate: who may come in, and the one way to say no.

Tokens are proved with the emulator's own keys; then the dual gate of the sandbox (contract 10.3), which runs
before routing and fails closed; then the scopes of the route. What a caller then gets is the handlers' affair.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Route
from engine.emulator.call import Caller
from engine.emulator.keys import Keys
from engine.emulator.refusal import Refusal
from engine.emulator.state import State
from engine.errors import TrustError
from engine.trust.bearer import Claims, verify

_REMEMBERED_MAX = 4096
_REASON = "X-Argus-Sandbox-Reason"


class Admission(msgspec.Struct, frozen=True, gc=False):
    """A proved token: whom it names, until when (Unix seconds), and its family (see `tokens.revoke`)."""

    caller: Caller
    exp: float
    family: str


class Gate:
    """Admits callers. Remembers proofs by the SHA-256 of the token; time, keys and revocation still count."""

    def __init__(self, state: State, keys: Keys) -> None:
        self._state = state
        self._keys = keys
        self._generation = keys.generation
        self._remembered: dict[bytes, Admission] = {}
        self.revoked: set[str] = set()
        # Requests a minute that governance allows an app (contract 3.5), by client id.
        self.app_ceilings: Mapping[str, int] = {}
        self._minute = 0
        self._this_minute: dict[str, int] = {}

    def admit(self, authorization: str | None, route: Route[Any, Any] | None, *, is_sandbox: bool) -> Caller | None:
        """Who calls, or None for a caller without a token where none is needed.

        `route` is None when the path leads nowhere: the gate still comes first.

        Raises:
            Refusal: 401 for a missing or bad token, 403 for a token of the other world.
        """
        needs_token = is_sandbox or (route is not None and route.auth in (Auth.BEARER, Auth.SANDBOX))
        token = _bearer(authorization)
        if token is None:
            if needs_token:
                raise _unauthorized("", "This route needs a bearer token.")
            return None
        try:
            caller = self.prove(token)
        except Refusal:
            # A public route does not ask who calls, so a stale token on it harms nobody.
            if needs_token:
                raise
            return None
        self._check_world(caller, is_sandbox=is_sandbox)
        return caller

    def check_scopes(self, caller: Caller | None, route: Route[Any, Any]) -> None:
        """Any one of the route's scopes will do.

        Raises:
            Refusal: 403 `insufficient_scope` (RFC 6750 section 3.1); 429 over the tenant's or the app's rate (Q3).
        """
        if caller is None:
            return
        if route.scopes and caller.scopes.isdisjoint(route.scopes):
            scope = " ".join(route.scopes)
            challenge = f'Bearer error="{PROFILE.scope_error}", {PROFILE.challenge_scope}="{scope}"'
            detail = f"The token lacks the scope {' or '.join(route.scopes)}."
            raise Refusal(403, PROFILE.scope_error, detail, {"WWW-Authenticate": challenge})
        if self._state.profile.rate_limit_per_minute is not None:
            self._count(caller.tenant_id, self._state.profile.rate_limit_per_minute)
        if self.app_ceilings and caller.client_id in self.app_ceilings:
            self._count(caller.client_id, self.app_ceilings[caller.client_id])

    def prove(self, token: str) -> Caller:
        """The caller a token names.

        Raises:
            Refusal: 401, with what is wrong with the token.
        """
        if self._generation != self._keys.generation:
            self._generation = self._keys.generation
            self._remembered.clear()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        admission = self._remembered.get(digest)
        now_s = self._state.now_s()
        if admission is None:
            admission = self._verify(token, now_s)
            if len(self._remembered) >= _REMEMBERED_MAX:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = admission
        elif now_s >= admission.exp:
            raise _unauthorized(PROFILE.token_error, "The token has expired.")
        if self.revoked and admission.family in self.revoked:
            raise _unauthorized(PROFILE.token_error, "The token was revoked.")
        return admission.caller

    def _verify(self, token: str, now_s: float) -> Admission:
        profile = self._state.profile
        try:
            # The emulator issues under its own address, never under the vendor's: a token of the emulator must
            # not be taken for a real one (faults T44). Issuer and verifier share a clock, so there is no leeway.
            claims = verify(
                token,
                self._keys.public,
                issuer=self._state.base_url,
                audience=(profile.audience, profile.sandbox_audience),
                now_s=now_s,
                leeway_s=0,
            )
        except TrustError as exc:
            raise _unauthorized(PROFILE.token_error, exc.message, exc.code) from exc
        return Admission(self._caller(claims), claims.exp, claims.jti.partition(".")[0])

    def _caller(self, claims: Claims) -> Caller:
        for name in ("client_id", "tenant_id", "organization_id", "jti"):
            if not getattr(claims, name):
                raise _unauthorized(PROFILE.token_error, f"expected {name}, found no such claim", "trust.claim")
        is_sandbox = self._state.profile.sandbox_audience in claims.aud
        if is_sandbox != claims.sandbox or (is_sandbox and len(claims.aud) > 1):
            # Half a sandbox token opens neither world: the gate fails closed (contract 10.3).
            raise _unauthorized(PROFILE.token_error, "aud and sandbox disagree", "trust.claim")
        return Caller(
            tenant_id=claims.tenant_id,
            organization_id=claims.organization_id,
            client_id=claims.client_id,
            scopes=frozenset(claims.scope),
            is_sandbox=is_sandbox,
            scenarios=claims.scenarios,
        )

    def _check_world(self, caller: Caller, *, is_sandbox: bool) -> None:
        """The dual gate (contract 10.3)."""
        profile = self._state.profile
        if is_sandbox and not caller.is_sandbox:
            raise Refusal(
                403,
                "wrong_environment",
                "A live token cannot be used on the sandbox.",
                {_REASON: profile.live_on_sandbox},
            )
        if caller.is_sandbox and not is_sandbox:
            raise Refusal(
                403,
                "wrong_environment",
                "A sandbox token cannot be used on live hosts.",
                {_REASON: profile.sandbox_on_live},
            )

    def _count(self, whose: str, ceiling: int) -> None:
        """Requests of a tenant or an app in this minute of the clock."""
        second = int(self._state.now_s())
        minute, passed_s = divmod(second, 60)
        if minute != self._minute:
            self._minute = minute
            self._this_minute.clear()
        count = self._this_minute[whose] = self._this_minute.get(whose, 0) + 1
        if count > ceiling:
            detail = f"More than {ceiling} requests in a minute."
            raise Refusal(429, "rate_limited", detail, {"Retry-After": str(60 - passed_s)})


def _bearer(authorization: str | None) -> str | None:
    """The token of an `Authorization` header; None when it carries another scheme, or nothing."""
    if authorization is None:
        return None
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _unauthorized(error: str, detail: str, reason: str = "") -> Refusal:
    """The 401 of RFC 6750 section 3; without `error` when no token was shown at all."""
    challenge = "Bearer"
    if error:
        # A quoted-string may hold neither quotes, backslashes nor anything beyond printable ASCII.
        text = "".join(c if " " <= c <= "~" and c not in '"\\' else "'" for c in detail)
        challenge = f'Bearer error="{error}", error_description="{text}"'
    extra = {"reason": reason} if reason else None
    return Refusal(401, error or "unauthorized", detail, {"WWW-Authenticate": challenge}, extra=extra)
