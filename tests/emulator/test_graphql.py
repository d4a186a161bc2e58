"""GraphQL over HTTP: approved documents alone, statuses by media type, indicators of the tenant (contract 7.1, 7.8)."""

import pytest

from engine.contract.graphql import ACQI_METRICS, GRAPHQL_TYPE, HEALTH_CHECK

pytestmark = pytest.mark.anyio

MODERN = {"Accept": GRAPHQL_TYPE}
LEGACY = {"Accept": "application/json"}
DAYS = {"fromDate": "2026-05-01", "toDate": "2026-05-31"}


async def ask(api, *, token=None, headers=MODERN, **members):
    """One request to /graphql."""
    return await api.send("POST", "/graphql", token=token or await api.token(), json=members, headers=headers)


def code_of(answer):
    """The code of the first error."""
    return answer.json["errors"][0]["extensions"]["code"]


async def test_an_approved_document_runs(api):
    """However its white space is laid out, with a charset-free media type that was asked for."""
    plain = await ask(api, query=HEALTH_CHECK)
    spread = await ask(api, query="query HealthCheck {\n  viewer {\n    id\n  }\n}\n", operationName="HealthCheck")

    assert (plain.status, plain.json) == (200, {"data": {"viewer": {"id": "app_local"}}})
    assert spread.json == plain.json
    assert plain.headers["Content-Type"].startswith(GRAPHQL_TYPE)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"query": "query Q { __schema { types { name } } }"}, "INTROSPECTION_DISABLED"),
        ({"query": '{ __type(name: "Job") { name } }'}, "INTROSPECTION_DISABLED"),
        ({"query": "query Other { viewer { id name } }"}, "OPERATION_NOT_ALLOWED"),
        ({"query": ""}, "BAD_REQUEST"),
        ({}, "BAD_REQUEST"),
        ({"query": HEALTH_CHECK, "operationName": "Another"}, "BAD_REQUEST"),
        ({"query": ACQI_METRICS}, "BAD_USER_INPUT"),
        ({"query": ACQI_METRICS, "variables": DAYS | {"toDate": "May"}}, "BAD_USER_INPUT"),
        ({"query": ACQI_METRICS, "variables": DAYS | {"toDate": "2026-02-30"}}, "BAD_USER_INPUT"),
    ],
)  # fmt: skip
async def test_what_cannot_be_run_has_a_code_and_the_status_of_its_media_type(api, members, code):
    """A request error is 400 in the GraphQL media type and 200 in plain JSON, and has no data in either."""
    modern, legacy = await ask(api, **members), await ask(api, headers=LEGACY, **members)

    assert (modern.status, legacy.status) == (400, 200)
    assert code_of(modern) == code_of(legacy) == code
    assert "data" not in modern.json


async def test_an_error_while_running_is_200_with_null_data(api):
    """Dates in the wrong order are found by the field: data is null, the path says where."""
    answer = await ask(api, query=ACQI_METRICS, variables={"fromDate": "2026-06-01", "toDate": "2026-05-01"})

    assert (answer.status, answer.json["data"]) == (200, None)
    assert (code_of(answer), answer.json["errors"][0]["path"]) == ("BAD_USER_INPUT", ["acqiMetrics"])


@pytest.mark.parametrize(
    ("accept", "status", "media"),
    [
        ("*/*", 200, "application/json"), ("application/json", 200, "application/json"),
        (f"{GRAPHQL_TYPE}; charset=utf-8, application/json; q=0.9", 200, GRAPHQL_TYPE),
        ("text/html", 406, "application/problem+json"),
    ],
)  # fmt: skip
async def test_the_answer_has_a_media_type_that_was_asked_for(api, accept, status, media):
    """GraphQL's own where it is named, plain JSON for everybody else, 406 for who takes neither."""
    answer = await ask(api, headers={"Accept": accept}, query=HEALTH_CHECK)

    assert (answer.status, answer.headers["Content-Type"].partition(";")[0]) == (status, media)


async def test_only_json_by_post_is_taken(api):
    """GET is 405, another media type 415, broken JSON 400."""
    token = await api.token()

    assert (await api.send("GET", "/graphql", token=token, params={"query": HEALTH_CHECK})).status == 405
    for kind, data, status in (("text/plain", "{}", 415), ("application/json", "{", 400)):
        answer = await api.send("POST", "/graphql", token=token, data=data, headers={"Content-Type": kind})
        assert answer.status == status


async def test_the_tenant_is_the_tokens(api):
    """X-Tenant-ID may be left out or name the token's own tenant; another one does not exist."""
    token = await api.token()
    own = (await api.send("GET", "/v1/platform/apps/app_local", token=token)).json["tenant_id"]

    fit = await ask(api, token=token, headers=MODERN | {"X-Tenant-Id": own}, query=HEALTH_CHECK)
    unfit = await ask(api, token=token, headers=MODERN | {"X-Tenant-ID": "ten_else"}, query=HEALTH_CHECK)

    assert (fit.status, unfit.status, code_of(unfit)) == (200, 404, "TENANT_NOT_FOUND")


async def test_indicators_count_the_encounters_of_the_tenant(api):
    """Only encounters that began within the days count, both days included, and no other tenant's."""
    token = await api.token()
    vital = {"code": "8867-4", "value": 88, "unit": "/min"}
    for start, members in (
        ("2026-05-01T00:00:00Z", {"vitals": [vital | {"taken_at": "2026-05-01T00:09:00Z"}]}),
        ("2026-05-31T23:59:59Z", {"vitals": [vital | {"taken_at": "2026-06-01T00:30:00Z"}], "status": "finished"}),
        ("2026-05-31T10:00:00Z", {"triage": {"protocol": "START", "category": "red"}}),
        ("2026-06-01T00:00:00Z", {}),
        ("2026-04-30T23:59:59Z", {}),
    ):
        wish = {"incident_id": "inc_1", "started_at": start} | members
        assert (await api.send("POST", "/api/v1/epcr/encounters", token=token, json=wish)).status == 201

    own = (await ask(api, token=token, query=ACQI_METRICS, variables=DAYS)).json["data"]["acqiMetrics"]
    other = (await ask(api, token=await api.token("app_other"), query=ACQI_METRICS, variables=DAYS)).json

    assert [(one["numerator"], one["denominator"], one["value"]) for one in own] == [
        (2, 3, 66.67), (1, 2, 50.0), (1, 3, 33.33), (0, 1, 0.0)
    ]  # fmt: skip
    assert {(one["periodStart"], one["periodEnd"]) for one in own} == {("2026-05-01", "2026-05-31")}
    assert {(one["denominator"], one["value"]) for one in other["data"]["acqiMetrics"]} == {(0, None)}


async def test_it_has_a_scope(api):
    """`argus:graphql:execute`, or 403."""
    answer = await ask(api, token=await api.token(scope="argus:jobs:read"), query=HEALTH_CHECK)

    assert (answer.status, answer.json["code"]) == (403, "insufficient_scope")
