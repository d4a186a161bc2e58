"""OAuth: who may have which token (contract 4, routes 6-9; RFC 6749 with PKCE, RFC 7636 and RFC 9700).

There is no login page: whoever comes to authorize is the test user, who always agrees. Minting is `tokens`'.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_plus, urlencode, urlsplit

from msgspec import UNSET

from engine.contract import oauth as contract
from engine.contract.identity import App
from engine.contract.oauth import AskToken, Authorize, RotatedSecret, TokenAnswer
from engine.emulator import identity
from engine.emulator.call import Call, Handler, Reply
from engine.emulator.identity import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, GRANT_TYPES, PUBLIC, REFRESH_TOKEN, Apps
from engine.emulator.refusal import OAuthRefusal, Refusal, invalid
from engine.emulator.state import State
from engine.emulator.tokens import TEST_USER, Grant, Tokens, Wish
from engine.trust.minting import challenge_of

_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")


class _ToRedirect(Exception):
    """The request is at fault in a way the client is told by redirect (RFC 6749 section 4.1.2.1)."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


def handlers(state: State, apps: Apps, tokens: Tokens) -> dict[str, Handler]:
    """Routes 6-9."""

    def authorize(call: Call) -> Reply:
        return _authorize(state, apps, tokens, call.ask)

    async def token(call: Call) -> Reply:
        ask: AskToken = call.ask
        app = _authenticate(apps, ask, call.headers.get("authorization"))
        if ask.grant_type not in GRANT_TYPES:
            raise _refused("unsupported_grant_type", f"{ask.grant_type!r} is not supported.")
        if ask.grant_type not in identity.approved_grants(app):
            raise _refused("unauthorized_client", f"This app may not use {ask.grant_type}.")
        match ask.grant_type:
            case grant if grant == CLIENT_CREDENTIALS:
                return await _by_credentials(state, tokens, app, ask)
            case grant if grant == AUTHORIZATION_CODE:
                return await _by_code(state, tokens, app, ask)
            case _:
                return await _by_refresh(state, tokens, app, ask)

    async def service_token(call: Call) -> Reply:
        return await _service_token(state, apps, tokens, call)

    def rotate_secret(call: Call) -> Reply:
        return _rotate_secret(state, apps, call)

    return {
        contract.AUTHORIZE.name: authorize,
        contract.TOKEN.name: token,
        contract.SERVICE_TOKEN.name: service_token,
        contract.ROTATE_SECRET.name: rotate_secret,
    }


def _authorize(state: State, apps: Apps, tokens: Tokens, ask: Authorize) -> Reply:
    app = apps.find(ask.client_id)
    if app is None or not _is_registered(ask.redirect_uri, identity.approved_redirects(app)):
        # Never redirect to an address nobody registered: that would be an open redirector (RFC 9700 section 4.11).
        raise Refusal(400, "invalid_request", "Unknown client_id, or a redirect_uri that is not registered for it.")
    answer = {"iss": state.base_url}
    if ask.state is not None:
        answer["state"] = ask.state
    try:
        scopes = _check_authorization(app, ask)
        grant = Grant(
            kind="code",
            client_id=app.client_id,
            scopes=scopes,
            family=state.new_id(),
            user=TEST_USER,
            redirect_uri=ask.redirect_uri,
            challenge=ask.code_challenge or "",
        )
        answer = {"code": tokens.hand_out(grant), **answer}
    except _ToRedirect as fault:
        answer = {"error": fault.error, "error_description": fault.description, **answer}
    separator = "&" if urlsplit(ask.redirect_uri).query else "?"
    location = f"{ask.redirect_uri}{separator}{urlencode(answer)}"
    return Reply(status=302, headers={"Location": location, "Cache-Control": "no-store"})


def _check_authorization(app: App, ask: Authorize) -> tuple[str, ...]:
    """The scopes to grant."""
    if not ask.response_type:
        raise _ToRedirect("invalid_request", "response_type is missing")
    if ask.response_type != "code":
        raise _ToRedirect("unsupported_response_type", "only response_type=code is supported")
    if app.status != identity.ACTIVE or AUTHORIZATION_CODE not in identity.approved_grants(app):
        raise _ToRedirect("unauthorized_client", "this app may not use authorization_code")
    if ask.code_challenge is None:
        if app.client_type == PUBLIC:
            raise _ToRedirect("invalid_request", "a public client must send a code_challenge")
        if ask.code_challenge_method is not None:
            raise _ToRedirect("invalid_request", "code_challenge is missing")
    else:
        # An absent method means `plain` (RFC 7636 section 4.3), which protects nothing.
        if ask.code_challenge_method != "S256":
            raise _ToRedirect("invalid_request", "code_challenge_method must be S256")
        if not _CHALLENGE.fullmatch(ask.code_challenge):
            raise _ToRedirect("invalid_request", "code_challenge is not a SHA-256 in base64url")
    wanted, refused = _wanted_scopes(ask.scope, identity.approved_scopes(app))
    if refused:
        raise _ToRedirect("invalid_scope", f"not approved for this app: {refused[0]}")
    return wanted


def _is_registered(uri: str, registered: Sequence[str]) -> bool:
    """Exact match; on loopback the port is the client's choice (RFC 8252 section 7.3)."""
    if uri in registered:
        return True
    portless = _without_port(uri)
    return portless is not None and any(_without_port(known) == portless for known in registered)


def _without_port(uri: str) -> tuple[str, str, str] | None:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return None
    if parts.scheme != "http" or parts.hostname not in ("127.0.0.1", "::1") or parts.fragment or "@" in parts.netloc:
        return None
    return (parts.hostname, parts.path, parts.query)


def _authenticate(apps: Apps, ask: AskToken, authorization: str | None) -> App:
    """The app that asks, by secret in the body or by HTTP Basic (RFC 6749 section 2.3.1), never by both."""
    client_id = None if ask.client_id is UNSET else ask.client_id
    secret = None if ask.client_secret is UNSET else ask.client_secret
    by_header = _read_basic(authorization)
    if by_header is not None:
        if secret is not None or (client_id is not None and client_id != by_header[0]):
            raise _refused("invalid_request", "Use either HTTP Basic or the body, not both.")
        client_id, secret = by_header
    if not client_id:
        raise _unknown_client()
    app = apps.find(client_id)
    if app is None or app.status == identity.REVOKED:
        raise _unknown_client()
    if app.client_type == PUBLIC:
        if secret is not None:
            raise _unknown_client()
    elif secret is None or not apps.has_secret(client_id, secret):
        raise _unknown_client()
    if app.status != identity.ACTIVE:
        raise _refused("unauthorized_client", f"This app is {app.status}.")
    return app


def _read_basic(authorization: str | None) -> tuple[str, str] | None:
    if authorization is None:
        return None
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise _unknown_client() from None
    name, colon, secret = text.partition(":")
    if not colon:
        raise _unknown_client()
    return unquote_plus(name), unquote_plus(secret)


async def _by_credentials(state: State, tokens: Tokens, app: App, ask: AskToken) -> Reply:
    wanted, refused = _wanted_scopes(None if ask.scope is UNSET else ask.scope, identity.approved_scopes(app))
    if refused:
        raise _refused("invalid_scope", f"Not approved for this app: {' '.join(refused)}.")
    wish = Wish(scopes=wanted, ttl_s=tokens.ttl_s, audience=state.profile.audience, subject=app.client_id)
    return await _grant(tokens, app, wish, None)


async def _by_code(state: State, tokens: Tokens, app: App, ask: AskToken) -> Reply:
    if not ask.code:
        raise _refused("invalid_request", "code is missing.")
    grant = tokens.take_back(ask.code, "code", app.client_id)
    if grant is None:
        raise _refused("invalid_grant", "The code is unknown, expired or used.")
    if (None if ask.redirect_uri is UNSET else ask.redirect_uri) != grant.redirect_uri:
        raise _refused("invalid_grant", "redirect_uri is not the one the code was asked for with.")
    verifier = None if ask.code_verifier is UNSET else ask.code_verifier
    if not _is_proof(verifier, grant.challenge):
        raise _refused("invalid_grant", "code_verifier does not match the code_challenge.")
    return await _by_grant(state, tokens, app, grant)


async def _by_refresh(state: State, tokens: Tokens, app: App, ask: AskToken) -> Reply:
    if not ask.refresh_token:
        raise _refused("invalid_request", "refresh_token is missing.")
    grant = tokens.take_back(ask.refresh_token, "refresh", app.client_id)
    if grant is None:
        raise _refused("invalid_grant", "The refresh token is unknown, expired or used.")
    still_approved = tuple(scope for scope in grant.scopes if scope in identity.approved_scopes(app))
    wanted, refused = _wanted_scopes(None if ask.scope is UNSET else ask.scope, still_approved)
    if refused:
        raise _refused("invalid_scope", f"Not granted before: {' '.join(refused)}.")
    return await _by_grant(state, tokens, app, grant, wanted)


async def _by_grant(
    state: State, tokens: Tokens, app: App, grant: Grant, scopes: tuple[str, ...] | None = None
) -> Reply:
    """Tokens for the user who agreed; a refresh token only for an app that lists the grant (Q13)."""
    wish = Wish(
        scopes=grant.scopes if scopes is None else scopes,
        ttl_s=tokens.ttl_s,
        audience=state.profile.audience,
        subject=grant.user,
        family=grant.family,
    )
    refresh = None
    if REFRESH_TOKEN in identity.approved_grants(app):
        refresh = Grant(
            kind="refresh", client_id=app.client_id, scopes=grant.scopes, family=grant.family, user=grant.user
        )
    return await _grant(tokens, app, wish, refresh)


async def _grant(tokens: Tokens, app: App, wish: Wish, refresh: Grant | None) -> Reply:
    try:
        minted = await tokens.mint(app, wish)
    except Refusal as refusal:
        raise OAuthRefusal(refusal.status, refusal.code, refusal.detail, refusal.headers) from refusal
    answer = TokenAnswer(
        access_token=minted.token,
        token_type="Bearer",
        expires_in=minted.expires_in,
        scope=" ".join(minted.scopes),
        refresh_token=tokens.hand_out(refresh) if refresh else None,
    )
    return Reply(body=answer, headers=_NO_STORE)


def _is_proof(verifier: str | None, challenge: str) -> bool:
    """PKCE (RFC 7636 section 4.6); a verifier without a challenge is refused too (RFC 9700 section 2.1.1)."""
    if verifier is None or not challenge:
        return verifier is None and not challenge
    return bool(_VERIFIER.fullmatch(verifier)) and hmac.compare_digest(challenge_of(verifier), challenge)


def _wanted_scopes(scope: str | None, approved: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """What is asked for (all that is approved, when nothing is named), and what of it is not approved."""
    if scope is None or not scope.strip():
        return tuple(approved), []
    wanted = tuple(dict.fromkeys(scope.split()))
    return wanted, [name for name in wanted if name not in approved]


async def _service_token(state: State, apps: Apps, tokens: Tokens, call: Call) -> Reply:
    app = active_app(apps, call)
    approved = identity.approved_scopes(app)
    wanted = approved if call.ask.scopes is UNSET else tuple(dict.fromkeys(call.ask.scopes))
    if refused := [scope for scope in wanted if scope not in approved]:
        raise invalid(
            "body", state.profile.service_token_names["scopes"], f"not approved for this app: {', '.join(refused)}"
        )
    ttl_s = tokens.clamp_ttl(None if call.ask.ttl_seconds is UNSET else call.ask.ttl_seconds)
    audience = state.profile.audience
    minted = await tokens.mint(app, Wish(scopes=wanted, ttl_s=ttl_s, audience=audience, subject=app.client_id))
    names = state.profile.service_token_names
    body: dict[str, Any] = {
        names["token"]: minted.token,
        "token_type": "Bearer",
        names["expires_at"]: minted.expires_at,
        names["expires_in"]: minted.expires_in,
        names["audience"]: audience,
        names["scopes"]: list(minted.scopes),
    }
    return Reply(body=body, headers=_NO_STORE)


def _rotate_secret(state: State, apps: Apps, call: Call) -> Reply:
    app = apps.of(call.caller, call.ask.client_id)
    if app.client_type == PUBLIC:
        raise Refusal(409, "no_secret", "A public client has no secret.")
    profile = state.profile
    grace_s = profile.secret_grace_s if call.ask.grace_seconds is UNSET else call.ask.grace_seconds
    if not 0 <= grace_s <= profile.secret_grace_max_s:
        raise invalid(
            "body", profile.rotation_names["grace_seconds"], f"must be from 0 to {profile.secret_grace_max_s}"
        )
    secret, ends_ns = apps.rotate_secret(app.client_id, grace_s)
    answer = RotatedSecret(
        client_id=app.client_id,
        client_secret=secret,
        rotated_at=state.now_text(),
        previous_secret_expires_at=state.now_text(ends_ns),
    )
    return Reply(body=answer, headers=_NO_STORE)


def active_app(apps: Apps, call: Call) -> App:
    """The app a token is to be minted for.

    Raises:
        Refusal: 404 for an unknown one, 409 for one that is suspended or revoked.
    """
    app = apps.of(call.caller, call.ask.client_id)
    if app.status != identity.ACTIVE:
        raise Refusal(409, f"app_{app.status}", f"This app is {app.status}.")
    return app


def metadata(base_url: str) -> dict[str, Any]:
    """Authorization server metadata (RFC 8414), an extra that nobody needs (Q15)."""
    return {
        "issuer": base_url,
        "authorization_endpoint": base_url + contract.AUTHORIZE.path,
        "token_endpoint": base_url + contract.TOKEN.path,
        "jwks_uri": base_url + "/.well-known/jwks.json",
        "scopes_supported": list(identity.SCOPE_NAMES),
        "response_types_supported": ["code"],
        "grant_types_supported": list(GRANT_TYPES),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic", "none"],
        "authorization_response_iss_parameter_supported": True,
    }


def _refused(error: str, detail: str) -> OAuthRefusal:
    return OAuthRefusal(400, error, detail, dict(_NO_STORE))


def _unknown_client() -> OAuthRefusal:
    """The same answer for an unknown client and a wrong secret."""
    headers = {**_NO_STORE, "WWW-Authenticate": 'Basic realm="argus", charset="UTF-8"'}
    return OAuthRefusal(401, "invalid_client", "Unknown client, or wrong credentials.", headers)
