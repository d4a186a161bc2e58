"""Service tokens, rotated secrets and the life of tokens (contract 4.3 and 4.4)."""

import pytest

from engine.clock import ManualClock
from engine.emulator.state import Options

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("wish", "ttl_s"), [({}, 3600), ({"ttl_seconds": 5}, 60), ({"ttl_seconds": 10**9}, 86_400)])
async def test_a_service_token_lives_within_bounds(api, wish, ttl_s):
    """A wished life is clamped, never refused."""
    answer = await api.send("POST", "/v1/platform/apps/app_local/service-token", token=await api.token(), json=wish)

    assert answer.status == 200
    assert answer.json["expires_in"] == ttl_s
    assert answer.json["audience"] == "https://api.knogin.com"
    assert (await api.send("GET", "/v1/platform/scopes", token=answer.json["token"])).status == 200


async def test_a_service_token_has_no_scope_beyond_the_apps(api):
    """Scopes the app is not approved for are refused."""
    wish = {"name": "x", "grant_types": ["client_credentials"], "scopes": ["webhooks:write"]}
    app = (await api.send("POST", "/v1/platform/apps", token=await api.token(), json=wish)).json

    answer = await api.send(
        "POST",
        f"/v1/platform/apps/{app['client_id']}/service-token",
        token=await api.token(),
        json={"scopes": ["argus:jobs:read"]},
    )

    assert answer.status == 422
    assert answer.json["errors"][0]["loc"] == ["body", "scopes"]


async def test_a_rotated_secret_ends_at_once(api):
    """Without grace the old secret is refused and the new one works."""
    token = await api.token()

    answer = await api.send("POST", "/v1/platform/apps/app_local/rotate-secret", token=token)
    form = {"grant_type": "client_credentials", "client_id": "app_local", "client_secret": "emulator-secret"}
    old = await api.send("POST", "/v1/oauth/token", data=form)

    assert answer.status == 200
    assert old.status == 401
    assert await api.token(secret=answer.json["client_secret"])
    assert (await api.send("GET", "/v1/platform/scopes", token=token)).status == 200


async def test_a_rotated_secret_may_have_its_grace(start):
    """With grace both secrets work, until the old one's time is over."""
    clock = ManualClock()
    _, api = await start(clock=clock)
    token = await api.token()

    answer = await api.send(
        "POST", "/v1/platform/apps/app_local/rotate-secret", token=token, json={"grace_seconds": 100}
    )
    assert await api.token()
    clock.advance(101)
    form = {"grant_type": "client_credentials", "client_id": "app_local", "client_secret": "emulator-secret"}
    old = await api.send("POST", "/v1/oauth/token", data=form)

    assert answer.json["previous_secret_expires_at"] > answer.json["rotated_at"]
    assert old.status == 401


async def test_the_life_of_tokens_can_be_set(start):
    """Tokens live as long as the options say, and not a second longer."""
    clock = ManualClock()
    _, api = await start(Options(token_ttl_s=30), clock=clock)
    token = await api.token()

    before = await api.send("GET", "/v1/platform/scopes", token=token)
    clock.advance(30)
    after = await api.send("GET", "/v1/platform/scopes", token=token)

    assert (before.status, after.status) == (200, 401)
    assert "expired" in after.headers["WWW-Authenticate"]
