"""The JSON-LD view of a transcript, read by a JSON-LD library that may fetch nothing."""

import json
import tarfile
from datetime import UTC, datetime
from importlib import resources

import pytest
from prov.model import ProvActivity, ProvAgent, ProvDerivation, ProvDocument, ProvGeneration
from pyld import jsonld

from engine.emulator.provenance_graph import as_json_ld

ARGUS = "https://schema.knogin.com/argus/v1#"
PROV = "http://www.w3.org/ns/prov#"
RECORD = {
    "id": "01A", "operation": "evidence.create", "actor_id": "user_42", "actor_kind": "user",
    "content_hash": "sha256:00", "parent_id": None, "parent_hash": None, "signature": "aa",
    "signature_alg": "hmac-sha256", "signed_at": "2026-05-08T10:00:00Z", "trace_id": "ff", "job_id": None,
}  # fmt: skip
TRANSCRIPT = {
    "evidence_id": "ev_1", "tenant_id": "tnt_1", "merkle_root": "sha256:11", "root_signature": "bb",
    "root_signature_alg": "hmac-sha256", "records": [RECORD, RECORD | {"id": "01B", "parent_id": "01A"}],
}  # fmt: skip


# A context names no types, so a time comes as text; PROV-O gives the range of `startedAtTime`, and so may a reader.
TYPED = {"prov": PROV, "prov:startedAtTime": {"@type": "http://www.w3.org/2001/XMLSchema#dateTime"}}


def _closed_loader(url, options=None):
    """Knows the one context that the contract names, and opens no connection."""
    assert url == "https://www.w3.org/ns/prov"
    return {"contextUrl": None, "documentUrl": url, "document": {"@context": {"prov": PROV}}}


@pytest.fixture(scope="module")
def triples():
    """The statements of the bundle's graph, as (subject, predicate, object)."""
    dataset = jsonld.to_rdf(as_json_ld(TRANSCRIPT), {"documentLoader": _closed_loader})
    return {
        (quad["subject"]["value"], quad["predicate"]["value"], quad["object"]["value"])
        for quads in dataset.values()
        for quad in quads
    }


def test_each_record_is_an_activity_with_its_agent(triples) -> None:
    """Typed, begun when it was signed, and tied to an agent by the word the contract uses."""
    for name in ("01A", "01B"):
        activity = f"{ARGUS}provenance/{name}"
        assert (activity, "http://www.w3.org/1999/02/22-rdf-syntax-ns#type", PROV + "Activity") in triples
        assert (activity, PROV + "startedAtTime", RECORD["signed_at"]) in triples
        assert (activity, PROV + "wasGeneratedBy", ARGUS + "agent/user_42") in triples
        assert (activity, ARGUS + "signature", "aa") in triples


def test_a_record_is_derived_from_its_parent_alone(triples) -> None:
    """The first from nothing, which is no statement at all."""
    derived = {triple for triple in triples if triple[1] == PROV + "wasDerivedFrom"}

    assert derived == {(f"{ARGUS}provenance/01B", PROV + "wasDerivedFrom", f"{ARGUS}provenance/01A")}


def test_a_strange_name_is_one_step_of_an_iri() -> None:
    """Blanks, slashes and colons in a name neither break the IRI nor lead to another one."""
    bundle = as_json_ld(TRANSCRIPT | {"evidence_id": "ev 1/../2:é"})

    graph = jsonld.to_rdf(bundle, {"documentLoader": _closed_loader})

    assert f"{ARGUS}evidence/ev%201%2F..%2F2%3A%C3%A9/provenance" in graph


def test_the_bundle_carries_the_root(triples) -> None:
    """Named after its evidence, with tenant, Merkle root and signature."""
    bundle = f"{ARGUS}evidence/ev_1/provenance"

    assert {triple for triple in triples if triple[0] == bundle} == {
        (bundle, "http://www.w3.org/1999/02/22-rdf-syntax-ns#type", PROV + "Bundle"),
        (bundle, ARGUS + "tenant_id", "tnt_1"),
        (bundle, ARGUS + "merkle_root", "sha256:11"),
        (bundle, ARGUS + "root_signature", "bb"),
        (bundle, ARGUS + "root_signature_alg", "hmac-sha256"),
    }


# What its RDF library says of its own calls, and how it names prefixes, is not our matter.
@pytest.mark.filterwarnings("ignore")
def test_a_prov_library_reads_the_bundle() -> None:
    """By way of N-Quads: the activities with their times, the agent, what was derived, and the vendor's generation."""

    def typed(url, options=None):
        return _closed_loader(url, options) | {"document": {"@context": TYPED}}

    quads = jsonld.to_rdf(as_json_ld(TRANSCRIPT), {"documentLoader": typed, "format": "application/n-quads"})

    document = ProvDocument.deserialize(content=quads, format="rdf", rdf_format="nquads")

    (bundle,) = document.bundles
    assert bundle.identifier.uri == f"{ARGUS}evidence/ev_1/provenance"
    activities = {one.identifier.uri: one.get_startTime() for one in bundle.get_records(ProvActivity)}
    assert activities == {f"{ARGUS}provenance/{name}": datetime(2026, 5, 8, 10, tzinfo=UTC) for name in ("01A", "01B")}
    assert [one.identifier.uri for one in bundle.get_records(ProvAgent)] == [f"{ARGUS}agent/user_42"]
    derived = [[name.uri for name in one.args[:2]] for one in bundle.get_records(ProvDerivation)]
    assert derived == [[f"{ARGUS}provenance/01B", f"{ARGUS}provenance/01A"]]
    # PROV-O would say `wasAssociatedWith`; the contract says this.
    generated = {one.args[0].uri for one in bundle.get_records(ProvGeneration)}
    assert generated == set(activities)


def test_the_suites_json_ld_is_read_by_the_same_library(vectors) -> None:
    """The library and the closed loader that our view is judged with read what others wrote, and fetch nothing."""
    own = (resources.files("prov.serializers") / "prov-jsonld-context.jsonld").read_bytes()
    with tarfile.open(vectors("prov") / "prov-vectors.tar.gz") as archive:
        texts = [archive.extractfile(name).read() for name in archive.getnames() if name.endswith(".jsonld")]

    def known(url, options=None):
        return {"contextUrl": None, "documentUrl": url, "document": json.loads(own)}

    assert len(texts) == 5
    for text in texts:
        quads = jsonld.to_rdf(json.loads(text), {"documentLoader": known})["@default"]
        assert any(quad["object"]["value"].startswith(PROV) for quad in quads)
