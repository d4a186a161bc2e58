"""Provenance by the client: a chain that jobs grew is fetched, proved here, and judged there (contract 11)."""

import copy

import pytest

from engine.client.provenance import Provenance
from engine.contract.jobs import TERMINAL
from engine.errors import ConfigError, Missing, RecordError, UnknownKey
from engine.settings import Secret
from engine.trust.signers import derive_key

pytestmark = pytest.mark.anyio

PAYLOAD = {"source": {"inline": [{"external_id": "ev 1/2", "label": "x"}]}, "entity_type": "evidence"}


@pytest.fixture
async def client(emulator, client_of):
    """A client whose tenant has one piece of evidence, touched twice; its id has to be quoted in a path."""
    client = client_of(emulator)
    for _ in range(2):
        job = (await client.jobs.create("import.bulk", PAYLOAD)).answer
        while job.status not in TERMINAL:
            job = (await client.jobs.get(job.id)).answer
        assert job.status == "succeeded"
    return client


@pytest.fixture
def tenant_key(emulator):
    """What the platform would hand its tenant."""
    return Secret(derive_key(emulator.state.secret("provenance.hmac"), "tnt_local").hex())


async def test_a_transcript_is_proved_here(client, tenant_key) -> None:
    """With the published keys, or with the tenant's own, and for the evidence that was asked for."""
    signed = (await client.provenance.get("ev 1/2", algorithm="ml-dsa-65")).answer
    macked = (await client.provenance.get("ev 1/2")).answer
    keys = (await client.provenance.keys()).answer

    for transcript in (signed, macked):
        verdict = client.provenance.prove(
            transcript, keys=keys, tenant_key=tenant_key, evidence_id="ev 1/2", tenant_id="tnt_local"
        )
        assert verdict.is_proven
        assert [one.failed for one in verdict.records] == [(), ()]
    assert not client.provenance.prove(signed, keys=keys, evidence_id="ev 1").holds


async def test_here_and_there_agree_on_what_is_wrong(client, tenant_key) -> None:
    """The platform's failures are ours, of a good transcript and of bad ones."""
    good = (await client.provenance.get("ev 1/2")).answer
    swapped = good | {"records": good["records"][::-1]}
    changed = copy.deepcopy(good)
    changed["records"][1]["operation"] = "evidence.delete"
    shortened = good | {"records": good["records"][:1]}

    for transcript in (good, swapped, changed, shortened):
        theirs = (await client.provenance.verify("ev 1/2", transcript=transcript)).answer
        ours = client.provenance.prove(transcript, tenant_key=tenant_key)
        assert theirs.failures == ours.failures
        assert theirs.valid is ours.is_proven is (transcript is good)
        assert theirs.merkle_root == ours.merkle_root
    assert (await client.provenance.verify("ev 1/2")).answer.record_count == 2


async def test_without_keys_a_transcript_only_holds_together(client) -> None:
    """Signatures are said to be unchecked."""
    verdict = Provenance.prove((await client.provenance.get("ev 1/2")).answer)

    assert (verdict.holds, verdict.is_proven, verdict.root_signature_valid) == (True, False, None)


async def test_the_json_ld_view_is_no_transcript(client) -> None:
    """It can be asked for, and cannot be proved."""
    bundle = (await client.provenance.get("ev 1/2", format="jsonld")).answer

    assert bundle["@type"] == "prov:Bundle"
    assert len(bundle["@graph"]) == 2
    with pytest.raises(RecordError, match="not a transcript"):
        Provenance.prove(bundle)


async def test_what_is_not_there_is_missing(client) -> None:
    """Other evidence, and the keys of an algorithm that has none to publish."""
    with pytest.raises(Missing):
        await client.provenance.get("ev_none")
    with pytest.raises(Missing):
        await client.provenance.keys("hmac-sha256")


async def test_a_bad_key_is_no_verdict(client) -> None:
    """Nothing is proved with it, and nothing refuted."""
    transcript = (await client.provenance.get("ev 1/2")).answer
    keys = (await client.provenance.keys()).answer

    with pytest.raises(ConfigError):
        Provenance.prove(transcript, tenant_key=Secret("12"))
    with pytest.raises(UnknownKey):
        Provenance.prove(transcript, keys=type(keys)("ml-dsa-65", []))
