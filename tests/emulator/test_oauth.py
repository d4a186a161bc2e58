"""The token endpoint and the authorization code with PKCE (contract 4.1 and 4.2)."""

import base64
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.clock import ManualClock
from engine.trust.bearer import parse_jwks, verify
from engine.trust.minting import challenge_of

pytestmark = pytest.mark.anyio

CALLBACK = "https://client.example/callback"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


async def _app(api, **members):
    wish = {
        "name": "Case sync connector",
        "grant_types": ["authorization_code"],
        "scopes": ["webhooks:write", "argus:platform:admin"],
        "redirect_uris": [CALLBACK],
        **members,
    }
    answer = await api.send("POST", "/v1/platform/apps", token=await api.token(), json=wish)
    assert answer.status == 201, answer.body
    return answer.json


async def _authorize(api, app, **members):
    question = {
        "response_type": "code", "client_id": app["client_id"], "redirect_uri": CALLBACK, "state": "af0ifjsldkj",
        "code_challenge": challenge_of(VERIFIER), "code_challenge_method": "S256", **members,
    }  # fmt: skip
    question = {name: value for name, value in question.items() if value is not None}
    return await api.send("GET", "/v1/oauth/authorize", params=question)


def _said(answer):
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["Location"]).query).items()}


async def _redeem(api, app, code, **members):
    form = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK,
        "client_id": app["client_id"], "code_verifier": VERIFIER, **members,
    }  # fmt: skip
    if "client_secret" in app:
        form.setdefault("client_secret", app["client_secret"])
    form = {name: value for name, value in form.items() if value is not None}
    return await api.send("POST", "/v1/oauth/token", data=form)


async def test_client_credentials_in_the_body(emulator, api):
    """Id and secret in the form give a bearer token for every approved scope."""
    form = {"grant_type": "client_credentials", "client_id": "app_local", "client_secret": "emulator-secret"}

    answer = await api.send("POST", "/v1/oauth/token", data=form)

    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.json["token_type"] == "Bearer"
    assert answer.json["expires_in"] == 3600
    assert "argus:platform:admin" in answer.json["scope"].split()
    assert "refresh_token" not in answer.json


async def test_client_credentials_in_http_basic(api):
    """The same by HTTP Basic, with id and secret percent-encoded."""
    basic = base64.b64encode(b"app%5Flocal:emulator-secret").decode()

    answer = await api.send(
        "POST",
        "/v1/oauth/token",
        headers={"Authorization": f"Basic {basic}"},
        data={"grant_type": "client_credentials", "scope": "argus:jobs:read"},
    )

    assert answer.status == 200
    assert answer.json["scope"] == "argus:jobs:read"


async def test_a_token_says_what_the_contract_says(emulator, api):
    """The claims are those of the contract, and the issuer is the emulator, never the vendor (T44)."""
    token = await api.token(scope="argus:jobs:read argus:jobs:write")
    keys = parse_jwks((await api.send("GET", "/.well-known/jwks.json")).body)

    claims = verify(
        token,
        keys,
        issuer=emulator.base_url,
        audience="https://api.knogin.com",
        now_s=emulator.state.now_s(),
    )

    assert claims.client_id == claims.sub == "app_local"
    assert claims.tenant_id == "tnt_local"
    assert claims.organization_id == "org_local"
    assert claims.scope == ("argus:jobs:read", "argus:jobs:write")
    assert claims.exp - claims.iat == 3600
    assert claims.jti
    assert not claims.sandbox


@pytest.mark.parametrize(
    ("members", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "app_unknown"}, 401, "invalid_client"),
        ({"client_id": None}, 401, "invalid_client"),
        ({"client_secret": None}, 401, "invalid_client"),
        ({"scope": "argus:everything"}, 400, "invalid_scope"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, 400, "unauthorized_client"),
        ({"grant_type": None}, 400, "invalid_request"),
    ],
)
async def test_the_token_endpoint_refuses_in_its_own_words(api, members, status, error):
    """Refusals are RFC 6749 section 5.2 bodies, and 401 carries a challenge."""
    form = {
        "grant_type": "client_credentials", "client_id": "app_local", "client_secret": "emulator-secret", **members,
    }  # fmt: skip

    answer = await api.send("POST", "/v1/oauth/token", data={k: v for k, v in form.items() if v is not None})

    assert answer.status == status
    assert answer.json["error"] == error
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)
    assert len(answer.headers["X-Argus-Trace-ID"]) == 32


async def test_an_unknown_client_and_a_wrong_secret_look_the_same(api):
    """Nobody can find out which client ids exist."""
    form = {"grant_type": "client_credentials", "client_id": "app_local", "client_secret": "wrong"}

    wrong = await api.send("POST", "/v1/oauth/token", data=form)
    unknown = await api.send("POST", "/v1/oauth/token", data={**form, "client_id": "app_nobody"})

    assert wrong.body == unknown.body


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("grant_type=client_credentials&client_id=app_local&client_id=app_other", "application/x-www-form-urlencoded"),
        ('{"grant_type":"client_credentials"}', "application/json"),
        (b"grant_type=\xff\xfe", "application/x-www-form-urlencoded"),
    ],
    ids=["a member twice", "json", "not utf-8"],
)
async def test_a_form_is_read_strictly(api, body, kind):
    """What is no form, or says a thing twice, is an invalid request."""
    answer = await api.send("POST", "/v1/oauth/token", data=body, headers={"Content-Type": kind})

    assert answer.status == 400
    assert answer.json["error"] == "invalid_request"


async def test_two_ways_of_showing_a_secret_at_once_are_refused(api):
    """HTTP Basic and a secret in the body together are an invalid request."""
    basic = base64.b64encode(b"app_local:emulator-secret").decode()
    form = {"grant_type": "client_credentials", "client_id": "app_local", "client_secret": "emulator-secret"}

    answer = await api.send("POST", "/v1/oauth/token", headers={"Authorization": f"Basic {basic}"}, data=form)

    assert answer.json["error"] == "invalid_request"


async def test_a_code_with_pkce_gives_a_token(emulator, api):
    """Authorize redirects with code, state and issuer; the code and its verifier give the user's token."""
    app = await _app(api)

    answer = await _authorize(api, app, scope="webhooks:write")
    said = _said(answer)
    redeemed = await _redeem(api, app, said["code"])

    assert answer.status == 302
    assert answer.headers["Location"].startswith(CALLBACK + "?")
    assert said["state"] == "af0ifjsldkj"
    assert said["iss"] == emulator.base_url
    assert redeemed.status == 200
    assert redeemed.json["scope"] == "webhooks:write"


async def test_a_code_is_good_once_and_a_second_try_takes_the_token_back(api):
    """A replayed code is refused, and the token it gave stops working."""
    app = await _app(api)
    code = _said(await _authorize(api, app))["code"]
    token = (await _redeem(api, app, code)).json["access_token"]
    before = await api.send("GET", "/v1/platform/scopes", token=token)

    again = await _redeem(api, app, code)
    after = await api.send("GET", "/v1/platform/scopes", token=token)

    assert before.status == 200
    assert again.json["error"] == "invalid_grant"
    assert after.status == 401
    assert "revoked" in after.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "members",
    [
        {"code_verifier": VERIFIER[:-1] + "x"},
        {"code_verifier": None},
        {"redirect_uri": "https://client.example/other"},
        {"redirect_uri": None},
        {"code": "nonsense"},
    ],
    ids=["wrong verifier", "no verifier", "other redirect", "no redirect", "unknown code"],
)
async def test_a_code_is_bound_to_its_request(api, members):
    """Without the verifier, the redirect URI or the code of the request there is no token."""
    app = await _app(api)
    code = _said(await _authorize(api, app))["code"]

    answer = await _redeem(api, app, members.get("code", code), **{k: v for k, v in members.items() if k != "code"})

    assert answer.status == 400
    assert answer.json["error"] == "invalid_grant"


async def test_a_code_of_another_app_is_no_good(api):
    """A code is bound to the app that asked for it."""
    app, other = await _app(api), await _app(api)
    code = _said(await _authorize(api, app))["code"]

    assert (await _redeem(api, other, code)).json["error"] == "invalid_grant"


async def test_a_code_lives_sixty_seconds(start):
    """After a minute the code is no good."""
    clock = ManualClock()
    _, api = await start(clock=clock)
    app = await _app(api)
    code = _said(await _authorize(api, app))["code"]

    clock.advance(61)

    assert (await _redeem(api, app, code)).json["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": "argus:jobs:read"}, "invalid_scope"),
    ],
)
async def test_faults_of_an_authorization_go_to_the_client(api, members, error):
    """With a good redirect URI the client is told by redirect, with its state."""
    answer = await _authorize(api, await _app(api), **members)

    assert answer.status == 302
    assert _said(answer)["error"] == error
    assert _said(answer)["state"] == "af0ifjsldkj"


@pytest.mark.parametrize(
    "members",
    [
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": None},
        {"client_id": "app_unknown"},
        {"client_id": None},
    ],
)
async def test_nobody_is_redirected_to_an_unregistered_address(api, members):
    """A wrong redirect URI or client is told on the spot."""
    answer = await _authorize(api, await _app(api), **members)

    assert answer.status == 400
    assert "Location" not in answer.headers


async def test_on_loopback_the_port_is_the_clients_choice(api):
    """A command line program may listen for its code on any free port (RFC 8252)."""
    app = {"client_id": "app_local", "client_secret": "emulator-secret"}

    answer = await _authorize(api, app, redirect_uri="http://127.0.0.1:49152/callback")

    assert answer.status == 302
    assert answer.headers["Location"].startswith("http://127.0.0.1:49152/callback?code=")


async def test_a_public_client_needs_pkce_and_no_secret(api):
    """A public client gets no secret, must send a challenge, and is then served without one."""
    app = await _app(api, client_type="public")

    bare = await _authorize(api, app, code_challenge=None, code_challenge_method=None)
    code = _said(await _authorize(api, app))["code"]
    redeemed = await _redeem(api, app, code)

    assert "client_secret" not in app
    assert _said(bare)["error"] == "invalid_request"
    assert redeemed.status == 200


async def test_refresh_tokens_rotate_and_a_used_one_ends_the_family(api):
    """Each refresh token is good once; showing it again revokes everything that came from the code."""
    app = await _app(api, grant_types=["authorization_code", "refresh_token"])
    first = (await _redeem(api, app, _said(await _authorize(api, app))["code"])).json

    async def refresh(text):
        form = {"grant_type": "refresh_token", "refresh_token": text, "client_id": app["client_id"]}
        return await api.send("POST", "/v1/oauth/token", data={**form, "client_secret": app["client_secret"]})

    second = await refresh(first["refresh_token"])
    stolen = await refresh(first["refresh_token"])
    third = await refresh(second.json["refresh_token"])
    use = await api.send("GET", "/v1/platform/scopes", token=second.json["access_token"])

    assert second.status == 200
    assert second.json["refresh_token"] != first["refresh_token"]
    assert stolen.json["error"] == third.json["error"] == "invalid_grant"
    assert use.status == 401


async def test_metadata_names_the_endpoints(emulator, api):
    """RFC 8414 metadata is there for those who like it."""
    answer = await api.send("GET", "/.well-known/oauth-authorization-server")

    assert answer.json["issuer"] == emulator.base_url
    assert answer.json["token_endpoint"] == emulator.base_url + "/v1/oauth/token"
    assert answer.json["code_challenge_methods_supported"] == ["S256"]
