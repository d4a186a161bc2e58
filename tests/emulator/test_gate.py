"""Who comes in: forged tokens, the two worlds, scopes, tenants and rates."""

import base64
import hashlib
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from msgspec.structs import replace

from engine.clock import ManualClock
from engine.contract.profile import PROFILE
from engine.trust.minting import SigningKey

pytestmark = pytest.mark.anyio


def _b64(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _claims(emulator, **members):
    now = int(emulator.state.now_s())
    claims = {
        "iss": emulator.base_url, "aud": "https://api.knogin.com", "sub": "app_local", "client_id": "app_local",
        "tenant_id": "tnt_local", "organization_id": "org_local", "scope": "argus:platform:admin",
        "iat": now, "exp": now + 600, "jti": "j", **members,
    }  # fmt: skip
    return {name: value for name, value in claims.items() if value is not None}


def _sign(emulator, **members):
    return emulator.keys.signer.sign(_claims(emulator, **members), typ="at+jwt")


def _stranger(emulator):
    """Signed by a key of one's own under the emulator's key name."""
    key = SigningKey(emulator.keys.signer.kid, generate_private_key(public_exponent=65537, key_size=2048))
    return key.sign(_claims(emulator), typ="at+jwt")


def _unsigned(emulator):
    header = {"alg": "none", "typ": "at+jwt", "kid": emulator.keys.signer.kid}
    return f"{_b64(header)}.{_b64(_claims(emulator))}."


def _by_public_key(emulator):
    """The oldest trick: HS256 with the public key as the secret."""
    header = {"alg": "HS256", "typ": "at+jwt", "kid": emulator.keys.signer.kid}
    text = f"{_b64(header)}.{_b64(_claims(emulator))}"
    return f"{text}.{_b64(hmac.digest(emulator.keys.document, text.encode(), hashlib.sha256))}"


def _tampered(emulator):
    header, _, signature = _sign(emulator).split(".")
    return f"{header}.{_b64(_claims(emulator, tenant_id='tnt_other'))}.{signature}"


def _unknown_kid(emulator):
    return SigningKey.generate("somebody-elses-key").sign(_claims(emulator), typ="at+jwt")


FORGERIES = {
    "none": (_unsigned, "trust.algorithm", "none"),
    "hs256": (_by_public_key, "trust.algorithm", "HS256"),
    "unknown kid": (_unknown_kid, "trust.unknown_key", "somebody-elses-key"),
    "other key, same kid": (_stranger, "trust.signature", "signature"),
    "tampered": (_tampered, "trust.signature", "signature"),
    "audience": (lambda e: _sign(e, aud="https://elsewhere"), "trust.audience", "elsewhere"),
    "the vendor's issuer": (lambda e: _sign(e, iss="https://auth.knogin.com"), "trust.issuer", "knogin"),
    "expired": (lambda e: _sign(e, exp=int(e.state.now_s()) - 1), "trust.expired", "exp"),
    "not yet": (lambda e: _sign(e, nbf=int(e.state.now_s()) + 100), "trust.not_yet_valid", "nbf"),
    "no exp": (lambda e: _sign(e, exp=None), "trust.claim", "exp"),
    "no tenant": (lambda e: _sign(e, tenant_id=None), "trust.claim", "tenant_id"),
    "no client": (lambda e: _sign(e, client_id=None), "trust.claim", "client_id"),
    "half a sandbox token": (lambda e: _sign(e, sandbox=True), "trust.claim", "sandbox"),
    "two worlds": (
        lambda e: _sign(e, aud=["sandbox", "https://api.knogin.com"], sandbox=True), "trust.claim", "sandbox",
    ),
    "two parts": (lambda e: "a.b", "trust.malformed", "3 parts"),
    "empty": (lambda e: "", "trust.malformed", "3 parts"),
}  # fmt: skip


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_token_is_refused_by_its_own_name(emulator, api, forgery):
    """Each way of being wrong answers 401 with a challenge that says which one it is."""
    forge, reason, word = FORGERIES[forgery]

    answer = await api.send("GET", "/v1/platform/scopes", headers={"Authorization": f"Bearer {forge(emulator)}"})

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token", error_description="')
    assert word in answer.headers["WWW-Authenticate"]
    assert answer.json["reason"] == reason


async def test_the_honest_token_of_these_tests_is_good(emulator, api):
    """The forgeries differ from a good token in one thing each."""
    assert (await api.send("GET", "/v1/platform/scopes", token=_sign(emulator))).status == 200


@pytest.mark.parametrize("header", [None, "Basic YTpi", "Token abc"])
async def test_no_token_is_a_plain_challenge(api, header):
    """Without a bearer token there is 401 and a challenge that names no error (RFC 6750 section 3)."""
    answer = await api.send("GET", "/v1/platform/scopes", headers={"Authorization": header} if header else {})

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


async def test_a_token_is_checked_again_when_it_is_remembered(start):
    """A token that was proved once still ends with its time."""
    clock = ManualClock()
    emulator, api = await start(clock=clock)
    token = _sign(emulator)

    answers = [(await api.send("GET", "/v1/platform/scopes", token=token)).status for _ in range(2)]
    clock.advance(600)
    answers.append((await api.send("GET", "/v1/platform/scopes", token=token)).status)

    assert answers == [200, 200, 401]


async def test_a_token_without_the_scope_is_forbidden(api):
    """403 names the scope that is missing (RFC 6750 section 3.1)."""
    answer = await api.send("GET", "/v1/platform/scopes", token=await api.token(scope="argus:jobs:read"))

    assert answer.status == 403
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="argus:platform:admin"'
    assert answer.json["code"] == "insufficient_scope"


async def test_a_live_token_stays_out_of_the_sandbox(api):
    """The sandbox refuses a live token with its reason, and traces the refusal."""
    answer = await api.send("GET", "/v1/sandbox/scenarios", sandbox=True, token=await api.token())

    assert answer.status == 403
    assert answer.headers["X-Argus-Sandbox-Reason"] == "live-token-on-sandbox-host"
    assert len(answer.headers["X-Argus-Trace-ID"]) == 32


@pytest.mark.parametrize("path", ["/v1/platform/apps", "/v1/nowhere", "/.well-known/jwks.json"])
async def test_a_sandbox_token_stays_out_of_the_live_world(api, path):
    """The live origin refuses a sandbox token before it looks at the path."""
    answer = await api.send("GET", path, token=await api.sandbox_token())

    assert answer.status == 403
    assert answer.headers["X-Argus-Sandbox-Reason"] == "sandbox-token-on-live-host"


@pytest.mark.parametrize("path", ["/v1/sandbox/scenarios", "/v1/nowhere", "/v1/platform/apps"])
async def test_the_sandbox_tells_a_stranger_nothing(api, path):
    """Without a token every path of the sandbox is 401."""
    assert (await api.send("GET", path, sandbox=True)).status == 401


async def test_a_sandbox_token_opens_the_sandbox(api):
    """In its own world it is served, and the answer says which world that is."""
    answer = await api.send("GET", "/v1/sandbox/scenarios", sandbox=True, token=await api.sandbox_token())

    assert answer.status == 200
    assert answer.headers["X-Argus-Sandbox"] == "true"


async def test_another_tenants_things_do_not_exist(api):
    """A resource of another tenant answers 404, never 403."""
    answer = await api.send("GET", "/v1/platform/apps/app_local", token=await api.token("app_other"))

    assert answer.status == 404


async def test_a_stale_token_on_a_public_route_harms_nobody(api):
    """A public route does not ask who calls."""
    answer = await api.send("GET", "/.well-known/jwks.json", headers={"Authorization": "Bearer a.b.c"})

    assert answer.status == 200


async def test_rates_are_per_tenant_and_minute(start):
    """Over the rate a tenant waits for the next minute; the other one does not."""
    clock = ManualClock()
    _, api = await start(clock=clock, profile=replace(PROFILE, rate_limit_per_minute=2))
    token, other = await api.token(), await api.token("app_other")

    async def ask(of):
        return await api.send("GET", "/v1/platform/scopes", token=of)

    statuses = [(await ask(token)).status for _ in range(3)]
    refused, neighbour = await ask(token), await ask(other)
    clock.advance(int(refused.headers["Retry-After"]))

    assert statuses == [200, 200, 429]
    assert neighbour.status == 200
    assert (await ask(token)).status == 200
