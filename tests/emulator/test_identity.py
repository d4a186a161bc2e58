"""Apps, their scopes and their governance (contract 3)."""

import pytest

from engine.clock import ManualClock
from engine.contract.catalog import ROUTES
from engine.contract.profile import PROFILE

pytestmark = pytest.mark.anyio

WISH = {"name": "Case sync connector", "grant_types": ["client_credentials"], "scopes": ["webhooks:write"]}


async def _create(api, **members):
    return await api.send("POST", "/v1/platform/apps", token=await api.token(), json={**WISH, **members})


async def _govern(api, client_id, **patch):
    path = f"/v1/platform/apps/{client_id}/governance"
    return await api.send("PATCH", path, token=await api.token(), json=patch)


async def test_the_catalogue_names_every_scope_a_route_asks_for(api):
    """No route asks for a scope that nobody can have."""
    answer = await api.send("GET", "/v1/platform/scopes", token=await api.token())

    names = {scope["name"] for scope in answer.json["scopes"]}
    assert {scope for route in ROUTES.values() for scope in route.scopes} <= names
    assert set(PROFILE.sandbox_scopes) <= names


async def test_an_app_is_created_with_its_secret_shown_once(api):
    """The answer has the secret and where the app is; reading it again has none."""
    created = await _create(api)
    app = created.json
    read = await api.send("GET", created.headers["Location"], token=await api.token())

    assert created.status == 201
    assert created.headers["Cache-Control"] == "no-store"
    assert app["client_id"].startswith("app_")
    assert (app["tenant_id"], app["organization_id"]) == ("tnt_local", "org_local")
    assert "client_secret" not in read.json
    assert {**read.json, "client_secret": app["client_secret"]} == app


async def test_a_created_app_gets_tokens_for_its_own_scopes(api):
    """What is approved is granted, and nothing else."""
    app = (await _create(api)).json
    form = {"grant_type": "client_credentials", "client_id": app["client_id"], "client_secret": app["client_secret"]}

    granted = await api.send("POST", "/v1/oauth/token", data=form)
    refused = await api.send("POST", "/v1/oauth/token", data={**form, "scope": "argus:jobs:read"})

    assert granted.json["scope"] == "webhooks:write"
    assert refused.json["error"] == "invalid_scope"


@pytest.mark.parametrize(
    ("members", "member"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"grant_types": []}, "grant_types"),
        ({"grant_types": ["password"]}, "grant_types"),
        ({"grant_types": ["authorization_code"]}, "redirect_uris"),
        ({"grant_types": ["client_credentials"], "client_type": "public"}, "grant_types"),
        ({"client_type": "secretive"}, "client_type"),
        ({"scopes": ["argus:everything"]}, "scopes"),
        ({"scopes": "webhooks:write"}, "scopes"),
        ({"redirect_uris": ["http://client.example/"]}, "redirect_uris"),
        ({"redirect_uris": ["https://client.example/#part"]}, "redirect_uris"),
        ({"redirect_uris": ["/callback"]}, "redirect_uris"),
        ({"redirect_uris": ["https://a:b@client.example/"]}, "redirect_uris"),
    ],
)
async def test_an_app_that_breaks_a_rule_is_refused_with_the_place(api, members, member):
    """422 says which member is at fault."""
    answer = await _create(api, **members)

    assert answer.status == 422
    assert answer.json["errors"][0]["loc"][:2] == ["body", member]


async def test_apps_are_listed_page_by_page(api):
    """Newest first, each app once, no secrets, and the total of the tenant."""
    made = [(await _create(api, name=f"app {number}")).json["client_id"] for number in range(3)]
    token = await api.token()
    seen, cursor = [], None

    while True:
        question = {"limit": "2", **({"cursor": cursor} if cursor else {})}
        page = (await api.send("GET", "/v1/platform/apps", token=token, params=question)).json
        assert page["total_count"] == 4
        seen += [app["client_id"] for app in page["apps"]]
        assert not any("client_secret" in app for app in page["apps"])
        cursor = page["next_cursor"]
        if cursor is None:
            break

    # The first app was made in the same second, so its place among the others is its name's.
    assert [client_id for client_id in seen if client_id != "app_local"] == made[::-1]
    assert sorted(seen) == sorted([*made, "app_local"])


@pytest.mark.parametrize("question", [{"cursor": "nonsense"}, {"limit": "many"}])
async def test_a_bad_page_is_refused(api, question):
    """A cursor that is none, and a limit that is no number, are 422."""
    answer = await api.send("GET", "/v1/platform/apps", token=await api.token(), params=question)

    assert answer.status == 422
    assert answer.json["errors"][0]["loc"] == ["query", next(iter(question))]


@pytest.mark.parametrize("limit", ["0", "-5", "100000"])
async def test_a_page_size_is_clamped(api, limit):
    """A limit out of bounds is brought inside, never refused."""
    answer = await api.send("GET", "/v1/platform/apps", token=await api.token(), params={"limit": limit})

    assert answer.status == 200
    assert len(answer.json["apps"]) == 1


async def test_governance_is_a_merge_patch(api):
    """Given members change, null takes one away, absent ones stay."""
    client_id = (await _create(api)).json["client_id"]

    await _govern(api, client_id, notes="reviewed", data_residency="eu")
    answer = await _govern(api, client_id, notes=None, rate_limit_per_minute=60)

    assert answer.status == 200
    assert answer.json["governance"] == {"status": "active", "data_residency": "eu", "rate_limit_per_minute": 60}


@pytest.mark.parametrize(("status", "error"), [("suspended", "unauthorized_client"), ("revoked", "invalid_client")])
async def test_a_stopped_app_gets_no_tokens_until_it_is_active_again(api, status, error):
    """Suspended and revoked apps are refused at the token endpoint, and served again afterwards."""
    app = (await _create(api)).json
    form = {"grant_type": "client_credentials", "client_id": app["client_id"], "client_secret": app["client_secret"]}

    await _govern(api, app["client_id"], status=status)
    stopped = await api.send("POST", "/v1/oauth/token", data=form)
    minted = await api.send("POST", f"/v1/platform/apps/{app['client_id']}/service-token", token=await api.token())
    await _govern(api, app["client_id"], status="active")
    served = await api.send("POST", "/v1/oauth/token", data=form)

    assert stopped.json["error"] == error
    assert (minted.status, minted.json["code"]) == (409, f"app_{status}")
    assert served.status == 200


async def test_governance_narrows_scopes_and_grants(api):
    """What governance does not allow is not granted, whatever was registered."""
    app = (await _create(api, scopes=["webhooks:write", "argus:jobs:read"])).json
    form = {"grant_type": "client_credentials", "client_id": app["client_id"], "client_secret": app["client_secret"]}

    await _govern(api, app["client_id"], allowed_scopes=["argus:jobs:read"])
    narrowed = await api.send("POST", "/v1/oauth/token", data=form)
    await _govern(api, app["client_id"], allowed_grant_types=[])
    barred = await api.send("POST", "/v1/oauth/token", data=form)

    assert narrowed.json["scope"] == "argus:jobs:read"
    assert barred.json["error"] == "unauthorized_client"


@pytest.mark.parametrize(
    ("patch", "member"),
    [
        ({"colour": "red"}, "colour"),
        ({"status": "asleep"}, "status"),
        ({"status": None}, "status"),
        ({"allowed_scopes": ["argus:everything"]}, "allowed_scopes"),
        ({"rate_limit_per_minute": 0}, "rate_limit_per_minute"),
        ({"notes": 3}, "notes"),
    ],
)
async def test_governance_refuses_what_it_does_not_know(api, patch, member):
    """Unknown members and values are 422, and nothing changes."""
    answer = await _govern(api, "app_local", **patch)

    assert answer.status == 422
    assert answer.json["errors"][0]["loc"][:2] == ["body", member]


async def test_governance_can_limit_the_rate_of_one_app(start):
    """An app over its own ceiling waits for the next minute; the tenant's other apps do not."""
    clock = ManualClock()
    _, api = await start(clock=clock)
    app = (await _create(api, scopes=["argus:platform:admin"])).json
    token, other = await api.token(app["client_id"], app["client_secret"]), await api.token()
    await _govern(api, app["client_id"], rate_limit_per_minute=1)

    statuses = [(await api.send("GET", "/v1/platform/scopes", token=token)).status for _ in range(2)]
    neighbour = await api.send("GET", "/v1/platform/scopes", token=other)
    clock.advance(60)
    later = await api.send("GET", "/v1/platform/scopes", token=token)

    assert statuses == [200, 429]
    assert (neighbour.status, later.status) == (200, 200)
