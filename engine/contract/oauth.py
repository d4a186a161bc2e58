"""OAuth and service tokens (contract 4): routes 6-9. The token endpoint is RFC 6749."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Nothing, Route


class Authorize(msgspec.Struct, frozen=True, kw_only=True):
    """The query of an authorization request with PKCE (RFC 6749 section 4.1.1, RFC 7636)."""

    response_type: str
    client_id: str
    redirect_uri: str
    scope: str | None = None
    state: str | None = None
    code_challenge: str | None = None
    code_challenge_method: str | None = None


class AskToken(msgspec.Struct, frozen=True, kw_only=True):
    """The form of a token request; which members count depends on `grant_type`."""

    grant_type: str
    client_id: str | UnsetType = UNSET
    client_secret: str | UnsetType = UNSET
    scope: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    redirect_uri: str | UnsetType = UNSET
    code_verifier: str | UnsetType = UNSET
    refresh_token: str | UnsetType = UNSET


class TokenAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An access token (RFC 6749 section 5.1); `expires_in` in seconds."""

    access_token: str
    token_type: str
    expires_in: int | None = None
    scope: str | None = None
    refresh_token: str | None = None


class MintServiceToken(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.service_token_names):
    """A service token for an app; `ttl_seconds` is clamped to [60, 86400] (Q23)."""

    client_id: str
    scopes: list[str] | UnsetType = UNSET
    ttl_seconds: int | UnsetType = UNSET


class ServiceToken(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.service_token_names):
    """A minted service token (Q23); read `access_token` first, then `token`."""

    token: str | None = None
    access_token: str | None = None
    token_type: str = "Bearer"
    expires_at: str | None = None
    expires_in: int | None = None
    audience: str | None = None
    scopes: list[str] = []


class RotateSecret(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.rotation_names):
    """Replace an app's secret; the old one stays good for `grace_seconds` (Q24, default 0)."""

    client_id: str
    grace_seconds: int | UnsetType = UNSET


class RotatedSecret(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.rotation_names):
    """The new secret, shown once (Q24)."""

    client_id: str
    client_secret: str
    rotated_at: str | None = None
    previous_secret_expires_at: str | None = None


AUTHORIZE = Route(
    number=6, name="oauth.authorize", method="GET", path="/v1/oauth/authorize", hosts=(Host.AUTH,),
    auth=Auth.PUBLIC, ask=Authorize, answer=Nothing, status=(302,), redirect=True,
)  # fmt: skip
TOKEN = Route(
    number=7, name="oauth.token", method="POST", path="/v1/oauth/token", hosts=(Host.AUTH,),
    auth=Auth.CLIENT, ask=AskToken, answer=TokenAnswer, form=True,
)  # fmt: skip
SERVICE_TOKEN = Route(
    number=8, name="oauth.service_token", method="POST", path="/v1/platform/apps/{client_id}/service-token",
    hosts=(Host.AUTH,), auth=Auth.BEARER, scopes=PROFILE.admin_scopes, ask=MintServiceToken, answer=ServiceToken,
    status=(200, 201), refusals=(409,),
)  # fmt: skip
ROTATE_SECRET = Route(
    number=9, name="oauth.rotate_secret", method="POST", path="/v1/platform/apps/{client_id}/rotate-secret",
    hosts=(Host.AUTH,), auth=Auth.BEARER, scopes=PROFILE.admin_scopes, ask=RotateSecret, answer=RotatedSecret,
    refusals=(409,),
)  # fmt: skip

ROUTES = (AUTHORIZE, TOKEN, SERVICE_TOKEN, ROTATE_SECRET)
EXAMPLES = {
    AUTHORIZE.name: Authorize(
        response_type="code", client_id="app_123", redirect_uri="https://client.example/callback",
        scope="webhooks:write", state="af0ifjsldkj", code_challenge="E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
        code_challenge_method="S256",
    ),
    TOKEN.name: AskToken(grant_type="client_credentials", client_id="app_123", client_secret="s3cr3t"),
    SERVICE_TOKEN.name: MintServiceToken(client_id="app_123", ttl_seconds=600),
    ROTATE_SECRET.name: RotateSecret(client_id="app_123"),
}  # fmt: skip
