"""OAuth and service tokens, as asked (contract 4): routes 6-9.

A client that only wants to call other routes never needs these: its `Session` does.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from engine.client.call import Answered, Caller
from engine.contract import oauth
from engine.contract.exchange import Trace
from engine.contract.oauth import (
    AskToken,
    Authorize,
    MintServiceToken,
    RotatedSecret,
    RotateSecret,
    ServiceToken,
    TokenAnswer,
)
from engine.contract.profile import PROFILE
from engine.contract.route import Nothing
from engine.errors import RecordError


class OAuth:
    """The token endpoint, and what administrators do with an app's tokens and secret."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def authorize(self, ask: Authorize, *, trace: Trace | None = None) -> Answered[Nothing]:
        """Ask for an authorization code; `headers["location"]` is where the user agent is sent.

        Use a fresh `state` and PKCE with S256 (RFC 7636), and check the `iss` that comes back (RFC 9207).
        """
        return await self._caller.call(oauth.AUTHORIZE, ask, trace=trace)

    async def token(self, ask: AskToken, *, trace: Trace | None = None) -> Answered[TokenAnswer]:
        """Trade a grant for a token. The token is not verified here.

        Raises:
            RecordError: the platform offers no such grant (Q13); nothing was sent.
        """
        if ask.grant_type not in PROFILE.grant_types:
            offered = ", ".join(PROFILE.grant_types)
            raise RecordError(f"the platform offers no grant {ask.grant_type[:40]!a}", hint=f"it offers {offered}")
        return await self._caller.call(oauth.TOKEN, ask, trace=trace)

    async def service_token(
        self,
        client_id: str,
        *,
        scopes: Sequence[str] | UnsetType = UNSET,
        ttl_seconds: int | UnsetType = UNSET,
        trace: Trace | None = None,
    ) -> Answered[ServiceToken]:
        """Mint a token for an app; its life is clamped to [60, 86400] s, never refused (Q23)."""
        ask = MintServiceToken(
            client_id=client_id,
            scopes=UNSET if scopes is UNSET else list(scopes),
            ttl_seconds=ttl_seconds,
        )
        return await self._caller.call(oauth.SERVICE_TOKEN, ask, trace=trace)

    async def rotate_secret(
        self, client_id: str, *, grace_seconds: int | UnsetType = UNSET, trace: Trace | None = None
    ) -> Answered[RotatedSecret]:
        """Replace an app's secret; the new one is in this answer and never again. Twice makes two."""
        ask = RotateSecret(client_id=client_id, grace_seconds=grace_seconds)
        return await self._caller.call(oauth.ROTATE_SECRET, ask, trace=trace)
