"""The GraphQL bundle of approved partners: read by a GraphQL library, given to who may run GraphQL, cached."""

import graphql
import pytest

from engine.contract.graphql import ACQI_METRICS, HEALTH_CHECK, fingerprint
from engine.contract.reference import SDL
from engine.contract.sdl import external_graphql

pytestmark = pytest.mark.anyio


def test_the_approved_documents_fit_the_schema() -> None:
    """A library that is not ours builds the schema, and finds nothing wrong with any approved document."""
    schema = graphql.build_schema(external_graphql())

    for document in (HEALTH_CHECK, ACQI_METRICS):
        assert graphql.validate(schema, graphql.parse(document)) == []
        assert fingerprint(document) in external_graphql()
        assert document in external_graphql()
    assert graphql.validate(schema, graphql.parse("{ viewer { name } }")) != []


async def test_answers_have_the_types_of_the_schema(api) -> None:
    """What the emulator answers to the indicators is what the schema says, null or not."""
    kind = graphql.build_schema(external_graphql()).type_map["AcqiMetric"]
    days = {"fromDate": "2026-05-01", "toDate": "2026-05-31"}
    answer = await api.send(
        "POST", "/graphql", token=await api.token(), json={"query": ACQI_METRICS, "variables": days}
    )

    (first, *_) = answer.json["data"]["acqiMetrics"]
    assert set(first) == set(kind.fields)
    for name, field in kind.fields.items():
        is_needed = isinstance(field.type, graphql.GraphQLNonNull)
        plain = field.type.of_type if is_needed else field.type
        assert (first[name] is None and not is_needed) or plain.serialize(first[name]) == first[name]


async def test_the_bundle_is_for_those_who_may_run_graphql(api) -> None:
    """At the path that the index tells: 401 without a token, 403 without the scope."""
    index = (await api.send("GET", "/api/docs")).json
    path = index["partnerPortal"]["graphqlBundle"]["path"]

    unknown = await api.send("GET", path)
    unfit = await api.send("GET", path, token=await api.token(scope="argus:jobs:read"))
    answer = await api.send("GET", path, token=await api.token(scope="argus:graphql:execute"))

    assert path == SDL.path == "/partners/contract/v2026.4/external.graphql"
    assert (unknown.status, unfit.status, unfit.json["code"]) == (401, 403, "insufficient_scope")
    assert (answer.status, answer.body.decode()) == (200, external_graphql())
    assert answer.headers["Content-Type"] == "application/graphql; charset=utf-8"


async def test_the_bundle_is_asked_for_again_for_nothing(api) -> None:
    """Its ETag, named, answers 304; no shared cache keeps what a token was needed for."""
    token = await api.token()
    first = await api.send("GET", SDL.path, token=token)

    again = await api.send("GET", SDL.path, token=token, headers={"If-None-Match": first.headers["ETag"]})
    other = await api.send("GET", SDL.path, token=token, headers={"If-None-Match": '"other"'})

    assert (again.status, again.body, other.status) == (304, b"", 200)
    assert again.headers["ETag"] == first.headers["ETag"]
    assert (first.headers["Cache-Control"], first.headers["Vary"]) == ("private, no-cache", "Authorization")
