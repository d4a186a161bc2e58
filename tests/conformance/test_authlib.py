"""A standard OAuth library uses the emulator unchanged: authlib knows the RFCs, and nothing of us.

It runs on a thread, as a program of its own would; the emulator answers it over real connections.
"""

from urllib.parse import parse_qs, urlsplit

import anyio
import pytest
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oauth2.rfc6749.errors import MismatchingStateException, MissingCodeException
from authlib.oauth2.rfc6749.parameters import parse_authorization_code_response
from authlib.oauth2.rfc6750.errors import InvalidTokenError
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from authlib.oauth2.rfc9068 import JWTBearerTokenValidator
from joserfc.jwk import KeySet

from engine.contract.profile import PROFILE
from engine.emulator.server import Emulator

pytestmark = pytest.mark.anyio

CALLBACK = "https://client.example/callback"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
TIMEOUT_S = 10
APPS = "/v1/platform/apps"


@pytest.fixture
async def emulator(anyio_backend):
    async with Emulator() as running:
        yield running


@pytest.fixture
def outside(emulator):
    """Run one function on a thread, with the metadata that the emulator publishes of itself (RFC 8414)."""

    async def run(work):
        def on_thread():
            url = emulator.base_url + "/.well-known/oauth-authorization-server"
            return work(requests.get(url, timeout=TIMEOUT_S).json())

        return await anyio.to_thread.run_sync(on_thread)

    return run


def _session(emulator, **members):
    return OAuth2Session(
        **{"client_id": emulator.client_id, "client_secret": emulator.client_secret, "default_timeout": TIMEOUT_S}
        | members
    )


def _app(emulator, place, **members):
    """A session for an app that authlib itself registered, as an administrator; public without a secret."""
    wish = {
        "name": "authlib", "scopes": ["webhooks:write", "webhooks:read"], "redirect_uris": [CALLBACK],
        "grant_types": ["authorization_code", "refresh_token"], **members,
    }  # fmt: skip
    with _session(emulator) as admin:
        admin.fetch_token(place["token_endpoint"], grant_type="client_credentials")
        made = admin.post(emulator.base_url + APPS, json=wish)
    assert made.status_code == 201, made.text
    secret = made.json().get("client_secret")
    return _session(
        emulator, client_id=made.json()["client_id"], client_secret=secret, redirect_uri=CALLBACK,
        token_endpoint_auth_method="client_secret_basic" if secret else "none", code_challenge_method="S256",
    )  # fmt: skip


def _agree(session, place, **members):
    """What a browser does: follow the link, and be sent back. The address it is sent to."""
    url, _ = session.create_authorization_url(place["authorization_endpoint"], **members)
    answer = requests.get(url, allow_redirects=False, timeout=TIMEOUT_S)
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_client_credentials(emulator, outside, method) -> None:
    """A token for the scope that was asked for, by either way of showing the secret, opens a route."""

    def work(place):
        with _session(emulator, token_endpoint_auth_method=method, scope="argus:jobs:read") as session:
            token = session.fetch_token(place["token_endpoint"], grant_type="client_credentials")
            return token, session.get(emulator.base_url + "/v1/jobs"), session.post(emulator.base_url + "/v1/jobs")

    token, listed, refused = await outside(work)

    assert (token["token_type"], token["scope"], token["expires_in"]) == ("Bearer", "argus:jobs:read", 3600)
    assert token["expires_at"]
    assert listed.json()["jobs"] == []
    assert refused.status_code == 403


@pytest.mark.parametrize("kind", ["confidential", "public"])
async def test_a_code_with_pkce(emulator, outside, kind) -> None:
    """Authlib makes the challenge, checks the state, and trades the code, with and without a secret."""

    def work(place):
        with _app(emulator, place, client_type=kind) as session:
            back = _agree(session, place, code_verifier=VERIFIER, scope="webhooks:write")
            return back, session.fetch_token(
                place["token_endpoint"], authorization_response=back, code_verifier=VERIFIER
            )

    back, token = await outside(work)

    assert token["scope"] == "webhooks:write"
    assert parse_qs(urlsplit(back).query)["iss"] == [emulator.base_url]


async def test_a_refresh_token_is_traded_and_rotates(emulator, outside) -> None:
    """Authlib's refresh gives another access token and another refresh token; the old one is no good after."""

    def work(place):
        with _app(emulator, place) as session:
            back = _agree(session, place, code_verifier=VERIFIER)
            first = session.fetch_token(place["token_endpoint"], authorization_response=back, code_verifier=VERIFIER)
            second = session.refresh_token(place["token_endpoint"], first["refresh_token"])
            with pytest.raises(OAuthError) as caught:
                session.refresh_token(place["token_endpoint"], first["refresh_token"])
            return first, second, caught.value

    first, second, refused = await outside(work)

    assert first["access_token"] != second["access_token"]
    assert first["refresh_token"] != second["refresh_token"]
    assert refused.error == "invalid_grant"


@pytest.mark.parametrize(
    ("session", "request_", "error"),
    [
        ({"client_secret": "wrong"}, {"grant_type": "client_credentials"}, "invalid_client"),
        ({"client_id": "app_none"}, {"grant_type": "client_credentials"}, "invalid_client"),
        ({"scope": "argus:none:read"}, {"grant_type": "client_credentials"}, "invalid_scope"),
        ({}, {"grant_type": "password", "username": "u", "password": "p"}, "unsupported_grant_type"),
        ({}, {"grant_type": "refresh_token", "refresh_token": "x"}, "unauthorized_client"),
        ({}, {"grant_type": "authorization_code", "code": "x"}, "invalid_grant"),
        ({}, {"grant_type": "authorization_code", "code": ""}, "invalid_request"),
    ],
    ids=["secret", "client", "scope", "grant type", "not for this app", "code", "no code"],
)
async def test_refusals_are_those_of_the_rfc(emulator, outside, session, request_, error) -> None:
    """Authlib reads each refusal of the token endpoint as its error (RFC 6749 section 5.2)."""

    def work(place):
        with _session(emulator, **session) as asking, pytest.raises(OAuthError) as caught:
            asking.fetch_token(place["token_endpoint"], **request_)
        return caught.value

    refused = await outside(work)

    assert refused.error == error
    assert refused.description


@pytest.mark.parametrize(
    ("verifier", "redirect"),
    [("x" * 43, CALLBACK), (None, CALLBACK), (VERIFIER, "https://client.example/other")],
    ids=["another verifier", "no verifier", "another address"],
)
async def test_a_code_without_its_proof_is_refused(emulator, outside, verifier, redirect) -> None:
    """`invalid_grant`, and the code is not given back."""

    def work(place):
        with _app(emulator, place) as session:
            back = _agree(session, place, code_verifier=VERIFIER)
            session.redirect_uri = redirect
            proof = {"code_verifier": verifier} if verifier else {}
            with pytest.raises(OAuthError) as caught:
                session.fetch_token(place["token_endpoint"], authorization_response=back, **proof)
            return caught.value

    assert (await outside(work)).error == "invalid_grant"


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"scope": "argus:none:read", "code_verifier": VERIFIER}, "invalid_scope"),
        ({"response_type": "token", "code_verifier": VERIFIER}, "unsupported_response_type"),
        ({"code_challenge": "short", "code_challenge_method": "S256"}, "invalid_request"),
    ],
)
async def test_a_refused_authorization_says_why(emulator, outside, members, error) -> None:
    """The redirect carries error and state (RFC 6749 section 4.1.2.1), and authlib finds no code in it."""

    def work(place):
        with _app(emulator, place) as session:
            back = _agree(session, place, state="s1", **members)
        with pytest.raises(MissingCodeException):
            parse_authorization_code_response(back, state="s1")
        return parse_qs(urlsplit(back).query)

    said = await outside(work)

    assert (said["error"], said["state"], said["iss"]) == ([error], ["s1"], [emulator.base_url])
    assert said["error_description"]


async def test_the_state_comes_back_as_it_was_sent(emulator, outside) -> None:
    """Odd characters included; another state is refused by authlib before anything is asked."""

    def work(place):
        with _app(emulator, place) as session:
            back = _agree(session, place, state="a&b=c é", code_verifier=VERIFIER)
            said = parse_qs(urlsplit(back).query)["state"]
            session.state = "another"
            with pytest.raises(MismatchingStateException):
                session.fetch_token(place["token_endpoint"], authorization_response=back, code_verifier=VERIFIER)
            return said

    assert await outside(work) == ["a&b=c é"]


async def test_a_token_is_good_at_a_resource_server_of_authlib(emulator, outside) -> None:
    """Its validator of RFC 9068 takes the token with the published keys, and refuses one for the sandbox."""

    class Validator(JWTBearerTokenValidator):
        def __init__(self, keys) -> None:
            super().__init__(issuer=emulator.base_url, resource_server=PROFILE.audience)
            self.keys = keys

        def get_jwks(self):
            return self.keys

    def work(place):
        with _session(emulator) as session:
            token = session.fetch_token(place["token_endpoint"], grant_type="client_credentials")["access_token"]
            minted = session.post(f"{emulator.base_url}{APPS}/{emulator.client_id}/sandbox-token", json={})
            keys = session.get(place["jwks_uri"]).json()
        validator = Validator(KeySet.import_key_set(keys))
        claims = validator.authenticate_token(token)
        validator.validate_token(claims, ["argus:jobs:read"], None)
        with pytest.raises(InvalidTokenError):
            validator.validate_token(validator.authenticate_token(minted.json()["token"]), [], None)
        return claims

    claims = await outside(work)

    assert (claims["client_id"], claims["tenant_id"]) == ("app_local", "tnt_local")


async def test_the_metadata_is_in_order(outside) -> None:
    """Authlib finds every member of RFC 8414 well-formed, but for https, which loopback has not."""
    place = await outside(lambda place: place)

    AuthorizationServerMetadata(
        {name: text.replace("http://", "https://") if isinstance(text, str) else text for name, text in place.items()}
    ).validate()
