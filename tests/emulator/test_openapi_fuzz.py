"""The descriptor put to the proof: a fuzzer that knows nothing but it asks a running emulator what it says.

Schemathesis draws questions, good and bad, from the schemas, and compares every answer with what is promised: no 5xx,
only statuses that are named, bodies and headers as described, bad questions refused. The seed is fixed.
"""

import sys

import anyio
import pytest

from engine.codec.payload import dumps
from engine.contract.catalog import EXAMPLES, ROUTES
from engine.contract.openapi import describe
from engine.contract.route import Host
from engine.emulator.discovery import places_of
from engine.emulator.state import Options

pytestmark = pytest.mark.anyio

# Rules beyond types (a known kind, an approved scope) are not in the schemas, so what fits a schema may still be
# refused; that is the one check left out.
LEFT_OUT = "positive_data_acceptance"
DEADLINE_S = 90


def _routes(*, sandbox):
    """The routes of one origin."""
    return [r for r in ROUTES.values() if (Host.SANDBOX in r.hosts if sandbox else r.hosts != (Host.SANDBOX,))]


def _document(emulator, *, sandbox):
    """Every route of one origin, and without the `default` answer, which would excuse every status."""
    document = describe(_routes(sandbox=sandbox), places_of(emulator.state), examples=EXAMPLES)
    for operations in document["paths"].values():
        for operation in operations.values():
            del operation["responses"]["default"]
            operation.pop("servers", None)
    return document


async def _fuzz(folder, url, token, document, *, parameters=""):
    """Run the fuzzer in a process of its own; its verdict and its words."""
    (folder / "openapi.json").write_bytes(dumps(document))
    (folder / "schemathesis.toml").write_text(parameters, encoding="utf-8")
    command = [
        sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", "schemathesis.toml",
        "run", "openapi.json", "--url", url, "--header", f"Authorization: Bearer {token}",
        "--seed", "1", "--max-examples", "5", "--exclude-checks", LEFT_OUT, "--warnings", "off",
    ]  # fmt: skip
    with anyio.fail_after(DEADLINE_S):
        done = await anyio.run_process(command, cwd=folder, check=False)
    return done.returncode, done.stdout.decode()


@pytest.mark.parametrize("sandbox", [False, True], ids=["live", "sandbox"])
async def test_what_is_promised_is_kept(start, tmp_path, sandbox):
    """Every route of the origin answers as its description says, whatever it is asked."""
    emulator, api = await start(Options(latency_s=0.01))
    token = await (api.sandbox_token() if sandbox else api.token())
    job = {"kind": "export.bulk", "payload": {}}
    made = await api.send("POST", "/v1/jobs", token=token, json=job, sandbox=sandbox)
    known = {"id": made.json["id"], "client_id": emulator.client_id, "topic": "async-jobs"}
    parameters = "[parameters]\n" + "\n".join(f'"path.{name}" = "{value}"' for name, value in known.items())
    url = emulator.sandbox_url if sandbox else emulator.base_url

    code, said = await _fuzz(tmp_path, url, token, _document(emulator, sandbox=sandbox), parameters=parameters)

    assert code == 0, said
    assert not [status for status in emulator._dispatch.statuses if status >= 500]
    assert {route.name for route in _routes(sandbox=sandbox)} <= set(emulator._dispatch.requests)


async def test_the_fuzzer_would_see_a_broken_promise(emulator, api, tmp_path):
    """Of a document that promises another body it says so: the proof can fail."""
    document = _document(emulator, sandbox=False)
    path = "/.well-known/jwks.json"
    document["paths"] = {path: document["paths"][path]}
    document["components"]["schemas"]["KeySet"]["required"] = ["keys", "never"]

    code, said = await _fuzz(tmp_path, emulator.base_url, await api.token(), document)

    assert code == 1
    assert "'never' is a required property" in said or '"never" is a required property' in said
