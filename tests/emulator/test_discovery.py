"""Discovery: the descriptor, the catalogue, the schemas by scope, CORS, and deprecations (contract 12)."""

import json
from fractions import Fraction
from typing import Any

import msgspec
import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from engine.clock import ManualClock
from engine.contract.catalog import ROUTES
from engine.contract.deprecation import Deprecated
from engine.contract.openapi import Places, describe, published
from engine.contract.profile import Profile
from engine.contract.route import Auth, Host, Route, Text
from engine.contract.schemas import all_schemas
from engine.emulator.discovery import places_of

pytestmark = pytest.mark.anyio

JSON, YAML = "/.well-known/openapi.json", "/.well-known/openapi.yaml"
CATALOG, SCHEMAS = "/.well-known/api-catalog", "/v1/discovery/data-schemas"
NOW_NS = 1_778_241_600_000_000_000  # 2026-05-08T12:00:00Z
ROW = Deprecated(
    method="GET", path_template="/v1/jobs", deprecated_at="2026-05-01T00:00:00Z", sunset_at="2026-06-01T00:00:00Z",
    successor="/v2/jobs", doc="https://knogin.com/docs/jobs",
)  # fmt: skip


async def test_an_independent_validator_accepts_both_forms(api):
    """JSON and YAML are valid OpenAPI 3.1, and the same as data."""
    as_json = await api.send("GET", JSON)
    as_yaml = await api.send("GET", YAML)

    assert as_json.headers["Content-Type"] == "application/json"
    assert as_yaml.headers["Content-Type"] == "application/yaml"
    assert list(OpenAPIV31SpecValidator(as_json.json).iter_errors()) == []
    read = yaml.safe_load(as_yaml.body)
    assert list(OpenAPIV31SpecValidator(read).iter_errors()) == []
    assert read == as_json.json


async def test_the_descriptor_is_the_curated_surface(emulator, api):
    """Documented head, exactly the API host's routes, nothing of the platform's own, and the emulator's address."""
    document = (await api.send("GET", JSON)).json

    assert (document["openapi"], document["info"]["title"]) == ("3.1.0", "Argus External API")
    assert document["info"]["version"] == "2026.4.0"
    assert document["servers"] == [{"url": emulator.base_url}]
    told = {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}
    assert told == {(r.method, r.path) for r in ROUTES.values() if Host.API in r.hosts}
    assert not [path for path in document["paths"] if path.startswith("/v1/platform/")]
    scopes = document["paths"]["/v1/jobs"]["post"]["security"]
    assert scopes == [{"bearer": ["argus:jobs:write"]}]


async def test_a_document_of_every_route_is_valid(emulator):
    """Not only the published part: any route that is added can be described."""
    document = describe(list(ROUTES.values()), places_of(emulator.state))

    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert sum(map(len, document["paths"].values())) == len(ROUTES)


class Strange(msgspec.Struct, rename="camel"):
    """A question with other names on the wire, and a type that msgspec has no schema for."""

    encounter_id: str
    tenant_id: str
    raw_body: msgspec.Raw
    inner_value: Fraction | None = None


def test_a_route_of_any_make_can_be_described():
    """Renamed members, plain dicts, choices and foreign types: all become valid OpenAPI, members in their places."""
    answers = (dict[str, Any], Text, Strange | None, msgspec.Raw)
    routes = [
        Route(
            number=90 + number, name=f"strange.n{number}", method="POST", path="/v9/{encounterId}/" + str(number),
            hosts=(Host.API,), auth=Auth.BEARER, ask=Strange, answer=answer, headers={"tenantId": "X-Tenant-ID"},
            media=("application/fhir+json",), refusals=(409,),
        )
        for number, answer in enumerate(answers)
    ]  # fmt: skip
    places = Places(
        auth="https://a.example", api="https://p.example", sandbox="https://s.example", docs="https://d.example"
    )

    document = describe(routes, places)

    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    operation = document["paths"]["/v9/{encounterId}/0"]["post"]
    where = {one["name"]: one["in"] for one in operation["parameters"] if "name" in one}
    assert where == {"encounterId": "path", "X-Tenant-ID": "header"}
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"innerValue", "rawBody"}
    assert {"409", "404", "401"} <= set(operation["responses"])
    assert all_schemas(routes, {})


@pytest.mark.parametrize("path", [JSON, YAML, CATALOG, "/api/docs", "/llms.txt"])
async def test_an_unchanged_document_is_not_sent_again(api, path):
    """A strong ETag of the content; the same ETag answers 304 without a body, another one the document."""
    first = await api.send("GET", path)
    etag = first.headers["ETag"]

    same = await api.send("GET", path, headers={"If-None-Match": f'"other", {etag}'})
    other = await api.send("GET", path, headers={"If-None-Match": '"other"'})
    head = await api.send("HEAD", path)

    assert etag.startswith('"')
    assert "max-age=3600" in first.headers["Cache-Control"]
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", etag)
    assert (other.status, other.body) == (200, first.body)
    assert (head.status, head.body, head.headers["ETag"]) == (200, b"", etag)


async def test_each_form_has_its_own_etag(api):
    """JSON and YAML differ in bytes, so they differ in tag."""
    tags = {(await api.send("GET", path)).headers["ETag"] for path in (JSON, YAML)}

    assert len(tags) == 2


async def test_the_catalogue_is_a_link_set(emulator, api):
    """RFC 9727: the API first, each link of the emulator's own and alive, and a Link header that says where it is."""
    answer = await api.send("GET", CATALOG)

    assert answer.headers["Content-Type"].partition(";")[0] == "application/linkset+json"
    assert answer.headers["Link"] == f'<{emulator.base_url}{CATALOG}>; rel="api-catalog"'
    contexts = answer.json["linkset"]
    assert [context["anchor"] for context in contexts] == [f"{emulator.base_url}/", f"{emulator.sandbox_url}/"]
    for name in ("service-desc", "service-doc", "service-meta"):
        for target in contexts[0][name]:
            path = target["href"].removeprefix(emulator.base_url)
            assert (await api.send("GET", path)).status == 200, target


async def test_a_caller_sees_the_schemas_its_scopes_reach(api):
    """Every schema is valid by its own dialect; a narrower token sees fewer, and only what it may use."""
    wide = await api.send("GET", SCHEMAS, token=await api.token())
    narrow = await api.send("GET", SCHEMAS, token=await api.token(scope="argus:discovery:read argus:jobs:write"))
    none = await api.send("GET", SCHEMAS, token=await api.token(scope="argus:jobs:write"))

    every, some = wide.json["schemas"], narrow.json["schemas"]
    for one in every:
        Draft202012Validator.check_schema(one["schema"])
    assert [one["id"] for one in every] == sorted({one["id"] for one in every})
    assert wide.json["total_count"] == len(every) > len(some) > 0
    assert "argus.job.intelligence.enrich.bulk.payload" in {one["id"] for one in some}
    allowed = {"argus:discovery:read", "argus:jobs:write"}
    assert all(not one["required_scopes"] or allowed & set(one["required_scopes"]) for one in some)
    assert not [one["id"] for one in some if one["id"].startswith("argus.identity.")]
    assert wide.headers["ETag"] != narrow.headers["ETag"]
    assert none.status == 403


async def test_a_payload_schema_judges_as_the_platform_does(api):
    """What the schema of an enrichment refuses, creating the job refuses too."""
    token = await api.token()
    listed = (await api.send("GET", SCHEMAS, token=token)).json["schemas"]
    schema = next(one["schema"] for one in listed if one["id"] == "argus.job.intelligence.enrich.bulk.payload")
    for payload, is_good in (({"profile_ids": ["p1"]}, True), ({"profile_ids": "p1"}, False), ({}, False)):
        job = {"kind": "intelligence.enrich.bulk", "payload": payload}
        answer = await api.send("POST", "/v1/jobs", token=token, json=job)
        assert (Draft202012Validator(schema).is_valid(payload), answer.status == 201) == (is_good, is_good)


async def test_every_public_document_is_open_to_browsers_and_nothing_else_is(api):
    """CORS stands on public GETs, refusals included, and not where a token is asked for (Q94)."""
    for route in ROUTES.values():
        if route.method != "GET" or Host.SANDBOX in route.hosts:
            continue
        path = route.path.replace("{topic}", "async-jobs").replace("{slug}", "nothing")
        allowed = (await api.send("GET", path)).headers.get("Access-Control-Allow-Origin")
        assert allowed == ("*" if route.auth is Auth.PUBLIC and not route.redirect else None), route.name


async def test_a_browser_may_ask_with_a_condition(api):
    """A preflight for a public document says which headers may be sent; for any other route it is refused."""
    ask = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}

    public = await api.send("OPTIONS", JSON, headers=ask)
    other = await api.send("OPTIONS", "/v1/jobs", headers=ask)

    assert (public.status, public.headers["Access-Control-Allow-Origin"]) == (204, "*")
    assert "If-None-Match" in public.headers["Access-Control-Allow-Headers"]
    assert other.status == 405
    assert "Access-Control-Allow-Origin" not in other.headers


async def test_nothing_is_deprecated_unless_the_matrix_says_so(api):
    """The matrix is empty by default."""
    answer = await api.send("GET", "/v1/jobs", token=await api.token())

    assert not {"Deprecation", "Sunset", "Link"} & set(answer.headers)


async def test_a_row_of_the_matrix_marks_its_route_alone(start):
    """Deprecation, Sunset and links on successes and refusals of the route, and the mark in the descriptor."""
    _, api = await start(clock=ManualClock(now_ns=NOW_NS), profile=Profile(deprecations=(ROW,)))
    token = await api.token()

    for answer, status in (
        (await api.send("GET", "/v1/jobs", token=token), 200),
        (await api.send("GET", "/v1/jobs"), 401),
    ):
        assert answer.status == status
        assert answer.headers["Deprecation"] == "@1777593600"
        assert answer.headers["Sunset"] == "Mon, 01 Jun 2026 00:00:00 GMT"
        assert answer.headers["Link"] == (
            '<https://knogin.com/docs/jobs>; rel="deprecation", <https://knogin.com/docs/jobs>; rel="sunset",'
            ' </v2/jobs>; rel="successor-version"'
        )
    created = await api.send("POST", "/v1/jobs", token=token, json={"kind": "export.bulk", "payload": {}})
    assert "Deprecation" not in created.headers
    path = (await api.send("GET", JSON)).json["paths"]["/v1/jobs"]
    assert (path["get"].get("deprecated"), path["post"].get("deprecated")) == (True, None)


async def test_after_its_sunset_a_route_is_gone(start):
    """From that second on it answers 410 and names the successor; before, it works."""
    clock = ManualClock(now_ns=NOW_NS + 23 * 86_400 * 10**9 + 43_199 * 10**9)
    _, api = await start(clock=clock, profile=Profile(deprecations=(ROW,)))
    token = await api.token()
    assert (await api.send("GET", "/v1/jobs", token=token)).status == 200

    clock.advance(1)
    gone = await api.send("GET", "/v1/jobs", token=token)

    assert (gone.status, gone.json["code"]) == (410, "sunset")
    assert "/v2/jobs" in gone.json["detail"]


def test_a_matrix_cannot_say_what_makes_no_sense():
    """A sunset before the deprecation, or a time that is none, is refused where it is written."""
    for times in ({"deprecated_at": "soon"}, {"deprecated_at": "2026-05-02T00:00:00Z", "sunset_at": "2026-05-01"}):
        with pytest.raises(ValueError, match=r"RFC 3339|never before"):
            Deprecated(method="GET", path_template="/v1/jobs", **times)


def test_the_profile_hides_routes():
    """Another profile row, another descriptor."""
    hidden = published(ROUTES.values(), Profile(openapi_hidden=("/v1/jobs",)))

    assert "/v1/jobs" not in {route.path for route in hidden}
    assert json.dumps([route.path for route in hidden])
