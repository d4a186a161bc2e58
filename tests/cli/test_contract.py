"""`engine contract routes|openapi|graphql|diff`: the contract as it is spoken, and where a document differs."""

import hashlib
import json
from pathlib import Path

import pytest

from engine.contract.catalog import ROUTES
from engine.contract.openapi import published
from engine.contract.sdl import external_graphql
from engine.errors import Exit


@pytest.fixture
def document(engine, folder):
    """Our own document, to be changed."""
    return json.loads(engine("contract", "openapi").stdout)


@pytest.fixture
def compare(engine, folder):
    """Compare a document with ours; exit code and the differences."""

    def run(document):
        Path("theirs.json").write_text(json.dumps(document))
        answer = engine("contract", "diff", "theirs.json", "--json")
        return answer.exit_code, [json.loads(line) for line in answer.stdout.splitlines()]

    return run


def test_routes_are_listed(engine) -> None:
    """All of them, one line each; of one group on demand; as objects for programs."""
    plain = engine("contract", "routes").stdout.splitlines()
    jobs = engine("contract", "routes", "--group", "jobs", "--json").stdout.splitlines()

    assert [line.split()[1] for line in plain] == list(ROUTES)
    told = [json.loads(line) for line in jobs]
    assert {one["name"] for one in told} == {name for name in ROUTES if name.startswith("jobs.")}
    assert told[0] == {
        "number": 28, "name": "jobs.create", "method": "POST", "path": "/v1/jobs", "hosts": ["api", "sandbox"],
        "auth": "bearer", "scopes": ["argus:jobs:write"], "status": [201, 200], "title": told[0]["title"],
    }  # fmt: skip
    assert engine("contract", "routes", "--group", "no").exit_code == Exit.USAGE


def test_openapi_is_printed(engine, folder) -> None:
    """The API's own descriptor, or all routes; as JSON or YAML; to stdout or to a file."""
    own = json.loads(engine("contract", "openapi").stdout)
    every = json.loads(engine("contract", "openapi", "--all").stdout)
    saved = engine("contract", "openapi", "--yaml", "-o", "argus.yaml")
    nowhere = engine("contract", "openapi", "-o", "absent/argus.json")

    assert set(own["paths"]) == {route.path for route in published(ROUTES.values())}
    assert set(every["paths"]) == {route.path for route in ROUTES.values()}
    assert (saved.exit_code, saved.stdout) == (0, "")
    assert "/v1/jobs" in Path("argus.yaml").read_text()
    assert nowhere.exit_code == Exit.OUTPUT


def test_graphql_documents_are_known_by_their_digest(engine) -> None:
    """Each with the SHA-256 of its text."""
    told = [json.loads(line) for line in engine("contract", "graphql", "--json").stdout.splitlines()]

    assert {one["document"].split()[1].partition("(")[0] for one in told} == {"HealthCheck", "AcqiMetrics"}
    assert all(hashlib.sha256(one["document"].encode()).hexdigest() == one["sha256"] for one in told)
    assert engine("contract", "graphql").stdout.count("query ") == len(told)


def test_the_partners_schema_is_printed_as_it_is_published(engine) -> None:
    """The text that `reference.sdl` answers."""
    assert engine("contract", "graphql", "--schema").stdout.strip() == external_graphql().strip()


def test_a_document_does_not_differ_from_itself(compare, document) -> None:
    """Exit 0 and not a word, however its prose and its order are."""
    document["info"]["description"] = "Other words."
    document["paths"] = dict(reversed(document["paths"].items()))

    assert compare(document) == (0, [])


def test_routes_that_one_side_lacks_are_told(compare, document) -> None:
    """By which side has them."""
    document["paths"]["/v1/news"] = {"get": {"responses": {"200": {"description": "OK"}}}}
    del document["paths"]["/graphql"]

    code, found = compare(document)

    assert code == Exit.FAILED
    assert [(one["side"], one["at"], one["what"]) for one in found] == [
        ("theirs", "GET /v1/news", "route"),
        ("ours", "POST /graphql", "route"),
    ]


def test_members_statuses_and_scopes_are_compared(compare, document) -> None:
    """Of a question, of an answer, required or not, through references and compositions."""
    create = document["paths"]["/v1/jobs"]["post"]
    body = create["requestBody"]["content"]["application/json"]["schema"]
    body["required"].remove("payload")
    body["properties"]["priority"] = {"type": "integer"}
    create["responses"]["202"] = create["responses"].pop("200")
    create["security"] = [{"bearer": ["argus:jobs:create"]}]
    document["components"]["schemas"]["Extra"] = {"type": "object", "properties": {"queue": {"type": "string"}}}
    told = create["responses"]["201"]["content"]["application/json"]
    told["schema"] = {"allOf": [told["schema"], {"$ref": "#/components/schemas/Extra"}]}
    create["parameters"] = [one for one in create["parameters"] if one.get("name") != "Idempotency-Key"]

    _, found = compare(document)

    assert [(one["side"], one["what"], one["said"]) for one in found] == [
        ("theirs", "answer.queue", "answered"),
        ("both", "body.payload", "ours required, theirs optional"),
        ("theirs", "body.priority", "optional"),
        ("ours", "header.idempotency-key", "optional"),
        ("theirs", "scope.argus:jobs:create", "any of"),
        ("ours", "scope.argus:jobs:write", "any of"),
        ("ours", "status.200", "answered"),
        ("theirs", "status.202", "answered"),
    ]
    assert {one["at"] for one in found} == {"POST /v1/jobs"}


def test_a_person_sees_signs_and_no_control_characters(engine, folder, document) -> None:
    """+ theirs, - ours, ~ both, and a count at the end."""
    document["paths"]["/v1/\x1b[2J"] = {"get": {}}
    Path("theirs.json").write_text(json.dumps(document))

    answer = engine("contract", "diff", "theirs.json")

    assert answer.exit_code == Exit.FAILED
    assert answer.stdout.startswith("+ ")
    assert "\x1b" not in answer.stdout
    assert "theirs.json: 1 difference" in answer.stderr


def test_references_in_circles_and_out_of_the_document_end(compare, document) -> None:
    """They stand for nothing."""
    schemas = document["components"]["schemas"]
    schemas["CreatedJob"] = {"$ref": "#/components/schemas/CreatedJob"}
    document["paths"]["/v1/jobs"]["get"]["parameters"] = [{"$ref": "https://elsewhere.example/limit.json"}]

    code, found = compare(document)

    assert code == Exit.FAILED
    assert all(one["side"] in ("ours", "theirs") for one in found)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"openapi": "3.1.0"}', "openapi: 3.1.0"])
def test_what_is_no_document_is_refused(engine, folder, text) -> None:
    """A matter of usage, which is another exit code than that of a difference; so is a missing file."""
    Path("theirs.json").write_text(text)

    answer = engine("contract", "diff", "theirs.json")

    assert (answer.exit_code, answer.stdout) == (Exit.USAGE, "")
    assert "give an OpenAPI 3 document as JSON" in answer.stderr
    assert engine("contract", "diff", "none.json").exit_code == Exit.USAGE
