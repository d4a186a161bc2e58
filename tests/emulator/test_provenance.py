"""Chains of custody on the emulator: grown by jobs, told as transcripts, verified, kept from others (contract 11)."""

import json

import pytest

from engine.clock import ManualClock
from engine.contract.profile import Profile
from engine.contract.provenance import VerifyKey, VerifyKeys
from engine.emulator import jobs, provenance_chain, tracing
from engine.emulator.provenance import tenant_key
from engine.emulator.provenance_chain import Note
from engine.emulator.state import Options, State
from engine.trust.signers import HmacSigner, MlDsaVerifier
from engine.trust.transcript import verify

pytestmark = pytest.mark.anyio

PATH = "/v1/evidence/ev_1/provenance"
KEYS = "/.well-known/provenance-keys/ml-dsa-65"
NOW_NS = 1_778_241_600_000_000_000
QUICK = Options(latency_s=0.01)


async def do(api, kind, payload, *, token=None, **members):
    """One job from its creation to its success."""
    token = token or await api.token()
    made = await api.send("POST", "/v1/jobs", token=token, json={"kind": kind, "payload": payload, **members})
    assert made.status == 201, made.body
    while True:
        job = (await api.send("GET", f"/v1/jobs/{made.json['id']}", token=token)).json
        if job["status"] not in ("queued", "running"):
            assert job["status"] == "succeeded", job
            return job


async def bring(api, *names, entity_type="evidence", **members):
    """Import these names as evidence."""
    rows = [{"external_id": name, "label": name, "size": 1} for name in names]
    return await do(api, "import.bulk", {"source": {"inline": rows}, "entity_type": entity_type}, **members)


async def read(api, *, client_id="app_local", path=PATH, **params):
    return await api.send("GET", path, token=await api.token(client_id), params=params)


async def judge(api, body, *, path=PATH):
    answer = await api.send("POST", path + "/verify", token=await api.token(), json=body)
    assert answer.status == 200, answer.body
    return answer.json


async def test_a_chain_grows_with_every_deed(start):
    """Import, import again, enrich, compute and export each leave a record that names the job and its trace."""
    emulator, api = await start(QUICK)
    done = [
        await bring(api, "ev_1"),
        await bring(api, "ev_1"),
        await do(api, "intelligence.enrich.bulk", {"profile_ids": ["ev_1"]}),
        await do(api, "graph.compute", {"algorithm": "betweenness", "scope": {"node_ids": ["ev_1"]}}),
        await do(api, "export.bulk", {"filter": {"ids": ["ev_1"]}}),
    ]

    transcript = (await read(api)).json

    records = transcript["records"]
    assert [record["operation"].removeprefix("evidence.") for record in records] == [
        "create", "update", "update", "view", "export",
    ]  # fmt: skip
    assert [record["job_id"] for record in records] == [job["id"] for job in done]
    assert [record["trace_id"] for record in records] == [job["trace_id"] for job in done]
    assert {(record["actor_id"], record["actor_kind"]) for record in records} == {("app_local", "service")}
    hashes = [record["content_hash"] for record in records]
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3] == hashes[4]
    verdict = verify(transcript, [HmacSigner(tenant_key(emulator.state, "tnt_local"))])
    assert verdict.is_proven


async def test_a_transcript_has_the_documented_members(start):
    """Nothing more and nothing less, the first record without a parent."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")

    answer = await read(api)

    assert answer.headers["Content-Type"] == "application/json"
    assert set(answer.json) == {
        "evidence_id", "tenant_id", "records", "merkle_root", "root_signature", "root_signature_alg", "format",
        "version",
    }  # fmt: skip
    assert (answer.json["format"], answer.json["version"], answer.json["tenant_id"]) == ("json", "2026.4", "tnt_local")
    (record,) = answer.json["records"]
    assert set(record) == {
        "id", "operation", "actor_id", "actor_kind", "content_hash", "parent_id", "parent_hash", "signature",
        "signature_alg", "signed_at", "trace_id", "job_id",
    }  # fmt: skip
    assert (record["parent_id"], record["parent_hash"], record["signature_alg"]) == (None, None, "hmac-sha256")


async def test_ml_dsa_transcripts_are_proved_with_the_published_key(start):
    """Signed with ML-DSA-65, verified with what is published, and the same record is not signed twice."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")
    first = (await read(api, algorithm="ml-dsa-65")).json
    await bring(api, "ev_1")
    second = (await read(api, algorithm="ml-dsa-65")).json

    published = (await api.send("GET", KEYS)).json

    (key,) = published["keys"]
    assert (key["kty"], key["alg"], key["use"], published["algorithm"]) == ("AKP", "ML-DSA-65", "sig", "ml-dsa-65")
    verifier = MlDsaVerifier.from_keys(VerifyKeys("ml-dsa-65", [VerifyKey(**key)]))
    assert verify(first, [verifier]).is_proven
    assert verify(second, [verifier]).is_proven
    assert second["records"][0] == first["records"][0]
    assert len(second["records"][1]["signature"]) == 6618


async def test_the_chain_and_the_root_are_the_same_for_both_algorithms(start):
    """Only signatures and their names differ."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")
    await bring(api, "ev_1")

    one, other = (await read(api)).json, (await read(api, algorithm="ml-dsa-65")).json

    assert one["merkle_root"] == other["merkle_root"]
    assert [r["parent_hash"] for r in one["records"]] == [r["parent_hash"] for r in other["records"]]
    assert one["root_signature_alg"] != other["root_signature_alg"]


async def test_json_ld_is_a_view_of_the_same_data(start):
    """By `format` or by Accept, with the documented members; `format` wins."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")
    await bring(api, "ev_1")
    plain = (await read(api)).json
    ld = {"Accept": "application/ld+json"}

    asked = await read(api, format="jsonld")
    accepted = await api.send("GET", PATH, token=await api.token(), headers=ld)
    overruled = await api.send("GET", PATH, token=await api.token(), headers=ld, params={"format": "json"})

    assert asked.json == accepted.json
    assert asked.headers["Content-Type"] == accepted.headers["Content-Type"] == "application/ld+json"
    assert overruled.json == plain
    first, second = plain["records"]
    assert asked.json["@context"] == ["https://www.w3.org/ns/prov", {"argus": "https://schema.knogin.com/argus/v1#"}]
    assert (asked.json["@type"], asked.json["@id"]) == ("prov:Bundle", "argus:evidence/ev_1/provenance")
    assert asked.json["argus:merkle_root"] == plain["merkle_root"]
    assert asked.json["@graph"][0]["prov:wasDerivedFrom"] is None
    assert asked.json["@graph"][1] == {
        "@id": f"argus:provenance/{second['id']}",
        "@type": "prov:Activity",
        "prov:startedAtTime": second["signed_at"],
        "argus:operation": "evidence.update",
        "argus:content_hash": second["content_hash"],
        "argus:signature": second["signature"],
        "argus:signature_alg": "hmac-sha256",
        "argus:trace_id": second["trace_id"],
        "prov:wasGeneratedBy": {"@id": "argus:agent/app_local", "@type": "prov:Agent"},
        "prov:wasDerivedFrom": {"@id": f"argus:provenance/{first['id']}"},
    }


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/ld+json, application/json;q=0.5", "application/ld+json"),
        ("application/LD+json; q=0.2, */*;q=0.1", "application/ld+json"),
        ("application/json;profile=x, application/ld+json;q=0.9", "application/json"),
        ("application/json, application/ld+json", "application/json"),
        ("application/ld+json;q=0", "application/json"),
        ("text/html", "application/json"),
    ],
)
async def test_the_gladlier_form_is_sent(start, accept, kind):
    """Weights are read; JSON where both are as welcome, or neither."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")

    answer = await api.send("GET", PATH, token=await api.token(), headers={"Accept": accept})

    assert answer.headers["Content-Type"] == kind
    assert answer.headers["Vary"] == "Accept"


async def test_a_large_import_leaves_a_chain_for_each_row(start):
    """More rows than are written at once go by the redo log, with what is to be told of them."""
    emulator, api = await start(QUICK)
    names = [f"ev_{number}" for number in range(2000)]
    job = await bring(api, *names)

    async def written():
        # Asked until the log is worked off: the job is over before that, and nobody is told.
        while emulator.state.db.execute("SELECT 1 FROM redo").fetchone():
            await read(api)

    await written()
    rows = emulator.state.db.execute("SELECT evidence_id, position, leaf FROM provenance").fetchall()
    assert {row[0] for row in rows} == set(names)
    assert len(rows) == 2000
    assert {json.loads(row[2])["job_id"] for row in rows} == {job["id"]}


@pytest.mark.parametrize("params", [{"format": "xml"}, {"algorithm": "md5"}, {"algorithm": "HMAC-SHA256"}])
async def test_other_formats_and_algorithms_are_refused(start, params):
    """422 names the member and what there is."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")

    answer = await read(api, **params)

    assert answer.status == 422
    assert answer.json["errors"][0]["loc"] == ["query", *params]


@pytest.mark.parametrize("algorithm", ["hmac-sha256", "ml-dsa-65"])
@pytest.mark.parametrize("wrap", [lambda document: document, lambda document: {"transcript": document}])
async def test_the_platform_verifies_a_transcript(start, algorithm, wrap):
    """A good one is valid, in both forms of the body; one with a changed actor is not, and its record is named."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")
    await bring(api, "ev_1")
    document = (await read(api, algorithm=algorithm)).json

    good = await judge(api, wrap(document))
    document["records"][0]["actor_id"] = "somebody"
    bad = await judge(api, wrap(document))

    assert (good["valid"], good["failures"], good["record_count"]) == (True, [], 2)
    assert (good["algorithm"], good["merkle_root"]) == (algorithm, document["merkle_root"])
    assert (bad["valid"], bad["root_signature_valid"]) == (False, True)
    assert bad["failures"] == [
        {"index": 0, "record_id": document["records"][0]["id"], "reason": "signature_mismatch"},
        {"index": 1, "record_id": document["records"][1]["id"], "reason": "parent_hash_mismatch"},
        {"index": None, "record_id": None, "reason": "merkle_root_mismatch"},
    ]


async def test_without_a_body_the_stored_chain_is_verified(start):
    """It is valid, and nothing is added to it by verifying or reading."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")

    empty = await api.send("POST", PATH + "/verify", token=await api.token())
    braces = await judge(api, {})

    assert empty.json["valid"]
    assert braces["valid"]
    assert braces["record_count"] == 1
    assert len((await read(api)).json["records"]) == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document | {"evidence_id": "ev_2"},
        lambda document: document | {"records": [{"id": "x"}]},
        lambda document: {name: value for name, value in document.items() if name != "root_signature"},
        lambda document: {"transcript": {}},
        lambda document: {"transcript": 1},
        lambda document: {"something": 1},
        lambda document: document | {"records": [document["records"][0] | {"signed_at": "yesterday"}]},
    ],
    ids=["other evidence", "no record", "no root", "empty", "number", "something else", "no time"],
)
async def test_what_is_no_transcript_of_this_evidence_is_refused(start, spoil):
    """422, for a malformed one and for one of other evidence."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")
    document = (await read(api)).json

    answer = await api.send("POST", PATH + "/verify", token=await api.token(), json=spoil(document))

    assert answer.status == 422, answer.body


async def test_a_member_sent_twice_is_refused(start):
    """Readers differ in which of the two they see."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")
    text = (await read(api)).body.replace(b'"actor_id":', b'"actor_id":"somebody","actor_id":', 1)

    answer = await api.send(
        "POST", PATH + "/verify", token=await api.token(), data=text, headers={"Content-Type": "application/json"}
    )

    assert answer.status == 422
    assert "twice" in answer.json["detail"]


async def test_another_tenants_evidence_is_not_there(start):
    """404 to read and to verify, and each tenant's chain of the same name is its own."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")

    before = await read(api, client_id="app_other")
    asked = await api.send("POST", PATH + "/verify", token=await api.token("app_other"), json={})
    await bring(api, "ev_1", token=await api.token("app_other"))
    theirs = (await read(api, client_id="app_other", algorithm="ml-dsa-65")).json
    verdict = await judge(api, theirs)

    assert (before.status, asked.status) == (404, 404)
    assert theirs["tenant_id"] == "tnt_other"
    # The platform's ML-DSA key signs for all tenants: a good transcript of theirs still proves nothing of ours.
    assert (verdict["valid"], verdict["root_signature_valid"]) == (False, False)


@pytest.mark.parametrize(("level", "status"), [("standard", 200), ("confidential", 200), ("secret", 404)])
async def test_evidence_above_the_callers_clearance_is_not_there(start, level, status):
    """Its level is that of the job that wrote it; above the clearance, 404 as if there were none."""
    _, api = await start(QUICK)
    await bring(api, "ev_1", secrecy_level=level)

    hidden, absent = await read(api), await read(api, path="/v1/evidence/ev_none/provenance")

    assert hidden.status == status
    assert (await api.send("POST", PATH + "/verify", token=await api.token(), json={})).status == status
    if status == 404:
        assert hidden.json["detail"] == absent.json["detail"]


async def test_a_secret_look_at_evidence_does_not_make_it_secret(start):
    """Only who writes evidence decides on its level, and the highest one stays."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")
    await do(api, "export.bulk", {"filter": {"ids": ["ev_1"]}}, secrecy_level="secret")
    seen = await read(api)

    await bring(api, "ev_1", secrecy_level="secret")
    await bring(api, "ev_1")

    assert (seen.status, (await read(api)).status) == (200, 404)


async def test_the_content_hash_is_of_all_that_is_stored(start):
    """Imported again unchanged, evidence keeps its enrichment, and so its hash; another content has another."""
    _, api = await start(QUICK)
    await bring(api, "ev_1")
    await do(api, "intelligence.enrich.bulk", {"profile_ids": ["ev_1"]})
    await bring(api, "ev_1")
    rows = [{"external_id": "ev_1", "size": 2}]
    await do(api, "import.bulk", {"source": {"inline": rows}, "entity_type": "evidence"})

    hashes = [record["content_hash"] for record in (await read(api)).json["records"]]

    assert hashes[1] == hashes[2]
    assert len(set(hashes)) == 3


async def test_the_clearance_is_a_row_of_the_profile(start):
    """A platform that clears callers for less hides more."""
    _, api = await start(QUICK, profile=Profile(clearance="standard"))
    await bring(api, "ev_1", secrecy_level="restricted")

    assert (await read(api)).status == 404


async def test_the_scope_is_asked_for(start):
    """403 without `argus:provenance:read`, for both routes."""
    _, api = await start(QUICK)
    token = await api.token(scope="argus:jobs:read")

    for method, path in (("GET", PATH), ("POST", PATH + "/verify")):
        answer = await api.send(method, path, token=token)
        assert (answer.status, answer.json["code"]) == (403, "insufficient_scope")


async def test_keys_are_published_for_ml_dsa_alone(api):
    """Public, with an ETag that saves the second reading; HMAC has nothing to publish."""
    answer = await api.send("GET", KEYS)
    again = await api.send("GET", KEYS, headers={"If-None-Match": answer.headers["ETag"]})

    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    assert (again.status, again.body) == (304, b"")
    for algorithm in ("hmac-sha256", "ML-DSA-65", "ed25519"):
        assert (await api.send("GET", f"/.well-known/provenance-keys/{algorithm}")).status == 404


async def test_what_is_no_evidence_has_no_chain(start):
    """An entity of another type leaves no record."""
    _, api = await start(QUICK)
    await bring(api, "ev_1", entity_type="person")

    assert (await read(api)).status == 404


async def test_a_dry_run_leaves_no_record(start):
    """Nothing was done, so nothing is witnessed."""
    _, api = await start(QUICK)
    rows = [{"external_id": "ev_1"}]
    await do(api, "import.bulk", {"source": {"inline": rows}, "entity_type": "evidence", "dry_run": True})

    assert (await read(api)).status == 404


async def test_chains_and_keys_survive_a_restart(tmp_path, start):
    """With a state file the same transcript comes back, provable with the key that was published before."""
    options = Options(latency_s=0.01, state_path=str(tmp_path / "state"))
    emulator, api = await start(options)
    await bring(api, "ev_1")
    before, keys = (await read(api)).json, (await api.send("GET", KEYS)).body
    await emulator.aclose()

    _, api = await start(options)

    assert (await read(api)).json == before
    assert (await api.send("GET", KEYS)).body == keys
    await bring(api, "ev_1")
    assert (await judge(api, {}))["valid"]


async def test_a_tenants_key_is_told_on_loopback(start):
    """Partners get theirs by other ways; whoever tests with an emulator asks it."""
    emulator, api = await start(QUICK)
    await bring(api, "ev_1")

    told = (await api.send("GET", "/__emulator/provenance-key", params={"tenant_id": "tnt_local"})).json

    assert bytes.fromhex(told["key"]) == tenant_key(emulator.state, "tnt_local")
    assert verify((await read(api)).json, [HmacSigner(bytes.fromhex(told["key"]))]).is_proven


def test_a_clock_that_is_set_back_does_not_turn_a_chain_round():
    """The time of a record is never before that of the one it is tied to."""
    clock = ManualClock(now_ns=NOW_NS)
    state = State.open(Options(), clock=clock)
    state.apply_schema(tracing.SCHEMA)
    state.apply_schema(jobs.SCHEMA)
    one = Note("t", "job_1", "app", "0" * 32, "standard", "ev_1", "evidence.create", "sha256:" + "0" * 64)

    provenance_chain.append(state, [one, one])
    clock.advance(-3600)
    provenance_chain.append(state, [one])

    times = [json.loads(leaf)["signed_at"] for leaf in provenance_chain.load(state, "t", "ev_1").leaves]
    state.close()
    assert times == ["2026-05-08T12:00:00Z"] * 3
