"""GraphQL over HTTP as a suite of others judges it: the audits of the npm package graphql-http (contract 7.1, Q61)."""

import asyncio
import json
import os
import shutil
from pathlib import Path

import pytest

from engine.contract.graphql import ACQI_METRICS, HEALTH_CHECK

pytestmark = pytest.mark.anyio

SCRIPT = Path(__file__).with_name("graphql_audit.cjs")
# Where .ci/run puts the packages; another folder may be named.
MODULES = Path(os.environ.get("ENGINE_NODE_MODULES") or Path.home() / ".cache" / "engine-node" / "node_modules")
DAYS = {"fromDate": "2026-05-01", "toDate": "2026-05-31"}
# What the suite runs to see whether anything runs; nothing of it is approved, and two are introspection (contract 7.1).
APPROVED = {
    "{ __typename }": {"query": HEALTH_CHECK},
    "query Query { __typename }": {"query": HEALTH_CHECK, "operationName": "HealthCheck"},
    "query Type($name: String!) { __type(name: $name) { name } }": {"query": ACQI_METRICS, "variables": DAYS},
}
# Of what a server MAY do, what this one does not: GET (405 by contract 7.1), and 400 for members of a wrong kind, where
# every route of the API answers 422, or for a missing query in plain JSON, where it is 200 with an error.
LEFT_OUT = {"5A70", "D6D5", "6A70", "A5BF", "8764", "3E3A"}
WRONG_KINDS = {f"{group}{number}" for group in ("LKJ", "6C0", "476", "58B") for number in range(4)}


async def test_the_audits_of_graphql_http(emulator, api):
    """No MUST and no SHOULD is broken; of what a server MAY do, exactly what the contract leaves out is missing."""
    node = shutil.which("node")
    if node is None or not (MODULES / "graphql-http").is_dir():
        pytest.skip(
            f"node with graphql-http not found: npm install --prefix {MODULES.parent} graphql-http@1.23.1 graphql@16"
        )
    token = await api.token()
    tenant = (await api.send("GET", "/v1/platform/apps/app_local", token=token)).json["tenant_id"]
    words = (SCRIPT, MODULES, f"{emulator.base_url}/graphql", token, tenant, json.dumps(APPROVED))

    process = await asyncio.create_subprocess_exec(node, *map(str, words), stdout=asyncio.subprocess.PIPE)
    told, _ = await process.communicate()

    assert process.returncode == 0
    verdicts = json.loads(told)
    assert [one for one in verdicts if one["status"] in ("error", "warn")] == []
    assert {one["id"] for one in verdicts if one["status"] == "notice"} == LEFT_OUT | WRONG_KINDS
    assert len(verdicts) >= 61


async def test_what_the_suite_would_run_is_not_approved(api):
    """Its own documents are refused as any other that nobody approved; that is why the audits ask with ours."""
    token = await api.token()
    codes = {}
    for document in APPROVED:
        answer = await api.send("POST", "/graphql", token=token, json={"query": document})
        codes[document] = answer.json["errors"][0]["extensions"]["code"]

    assert list(codes.values()) == ["OPERATION_NOT_ALLOWED", "OPERATION_NOT_ALLOWED", "INTROSPECTION_DISABLED"]
