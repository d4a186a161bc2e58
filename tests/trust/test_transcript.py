"""Transcripts: the vectors of contract 11.4, every flipped bit, and what each tampering is called."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.canonical import canonical
from engine.codec.payload import encode
from engine.contract.provenance import HMAC, ML_DSA, Failure, VerifyKeys
from engine.errors import RecordError
from engine.trust.records import read_transcript
from engine.trust.signers import HmacSigner, MlDsaSigner, MlDsaVerifier, derive_key
from engine.trust.transcript import digest_text, record_message, seal, verify, verify_text

CONTENT = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
DEEDS = (
    ("evidence.create", "2026-05-08T10:00:00Z"),
    ("evidence.view", "2026-05-08T10:05:00Z"),
    ("evidence.export", "2026-05-08T11:00:00Z"),
)
HMAC_SIGNER = HmacSigner(derive_key(b"emulator-master-secret", "tnt_123"))
ML_DSA_SIGNER = MlDsaSigner(bytes(range(32)))


def chain_of(deeds=DEEDS):
    """The leaves of the contract's chain."""
    leaves, parent_id, parent_hash = [], None, None
    for number, (operation, signed_at) in enumerate(deeds):
        record_id = f"01HFXY{number:020}"
        record = {
            "id": record_id, "operation": operation, "actor_id": "user_42", "actor_kind": "user",
            "content_hash": CONTENT, "parent_id": parent_id, "parent_hash": parent_hash, "signed_at": signed_at,
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "job_id": None,
        }  # fmt: skip
        leaves.append(canonical(record))
        parent_id, parent_hash = record_id, digest_text(leaves[-1])
    return leaves


def sealed(signer=HMAC_SIGNER, *, leaves=None, evidence_id="ev_abc123", tenant_id="tnt_123"):
    leaves = chain_of() if leaves is None else leaves
    signatures = [signer.sign(record_message(leaf, signer.algorithm)) for leaf in leaves]
    return seal(evidence_id, tenant_id, leaves, signer, signatures)


def failures_of(document, verifiers=(HMAC_SIGNER,), **expected):
    return [(one.index, one.reason) for one in verify(document, verifiers, **expected).failures]


def test_the_vector_of_the_contract_comes_out() -> None:
    """Parent hashes, signatures, Merkle root and root signature are those printed in contract 11.4."""
    document = sealed()

    assert [record["parent_hash"] for record in document["records"]] == [
        None,
        "sha256:a4b919da5d1a9cc106d4ef993ae0409234bdcace365a21262853d700fcd94e37",
        "sha256:c08270e92aa74ec01e375ff19aeedb5bdc38f0a7de303f89720c79b7491f6aa8",
    ]
    assert [record["signature"] for record in document["records"]] == [
        "9d1e9d72305b7dd728492ebf4237f3bcc26bf11b16a062455dd4cc68463493e7",
        "a6137aea12c9c3f7d730eab25338b446579e3a0722f070a3f9b6f2a38952f5b8",
        "ea9ef54261fd740163189b9f6871c02792270e8410e2d423ebe79d6f6e2a0e89",
    ]
    assert document["merkle_root"] == "sha256:06a924237bc56c55604b07d4d41e8d1c4b54833fe6c4c728cdada3cdfe3a1725"
    assert document["root_signature"] == "36ed45d264b51747db4acef70b1803b3aa6dcc55446049774895430d611d4870"


@pytest.mark.parametrize("signer", [HMAC_SIGNER, ML_DSA_SIGNER], ids=[HMAC, ML_DSA])
def test_a_good_transcript_is_proven(signer) -> None:
    """Each record was checked three ways, and nothing failed."""
    verdict = verify(read_transcript(encode(sealed(signer))), [signer])

    assert verdict.is_proven
    assert verdict.algorithm == signer.algorithm
    assert [one.record_id[-1] for one in verdict.records] == ["0", "1", "2"]
    assert {one.checked for one in verdict.records} == {("order", "parent_hash", "signature")}


def test_every_flipped_bit_is_refused() -> None:
    """Whichever bit of the text is turned, the transcript is no longer proven, or no longer one."""
    text = encode(sealed())
    survived = []
    for place in range(len(text) * 8):
        spoiled = bytearray(text)
        spoiled[place // 8] ^= 1 << place % 8
        try:
            verdict = verify_text(bytes(spoiled), [HMAC_SIGNER])
        except RecordError:
            continue
        if verdict.is_proven:
            survived.append(bytes(spoiled[place // 8 - 10 : place // 8 + 10]))

    assert survived == []


@pytest.mark.parametrize("signer", [HMAC_SIGNER, ML_DSA_SIGNER], ids=[HMAC, ML_DSA])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_changed_member_names_its_record(signer, index) -> None:
    """The signature of that record fails, the link of the next, and the root."""
    document = sealed(signer)
    document["records"][index]["actor_id"] = "user_43"

    found = failures_of(document, [signer])

    assert found[0] == (index, "signature_mismatch")
    assert ((index + 1, "parent_hash_mismatch") in found) is (index < 2)
    assert found[-1] == (None, "merkle_root_mismatch")


def test_a_changed_signature_is_the_only_failure() -> None:
    """A signature is in no hash: nothing else fails with it."""
    document = sealed()
    document["records"][1]["signature"] = document["records"][2]["signature"]

    assert failures_of(document) == [(1, "signature_mismatch")]


def test_a_swapped_pair_names_the_records() -> None:
    """Order and links of both fail although every signature is good."""
    document = sealed()
    document["records"][1:] = document["records"][:0:-1]

    assert failures_of(document) == [
        (1, "parent_hash_mismatch"), (1, "order_violation"), (2, "parent_hash_mismatch"), (2, "order_violation"),
        (None, "merkle_root_mismatch"),
    ]  # fmt: skip


def test_a_dropped_record_names_the_one_after_it() -> None:
    """The first or one between leaves its follower without its parent, and a key says how many there were."""
    for index in (0, 1):
        document = sealed()
        del document["records"][index]
        assert failures_of(document) == [
            (index, "parent_hash_mismatch"), (index, "order_violation"), (None, "merkle_root_mismatch"),
            (None, "root_signature_mismatch"),
        ]  # fmt: skip
        assert verify(document, [HMAC_SIGNER]).sealed_count == 3


@pytest.mark.parametrize("signer", [HMAC_SIGNER, ML_DSA_SIGNER], ids=[HMAC, ML_DSA])
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_dropped_last_records_are_named_by_the_place_they_had(signer, kept) -> None:
    """The signature of the root holds for the number that was sealed: the first one missing is known."""
    document = sealed(signer)
    del document["records"][kept:]

    verdict = verify(document, [signer])

    assert failures_of(document, [signer]) == [(kept, "merkle_root_mismatch"), (None, "root_signature_mismatch")]
    assert (verdict.sealed_count, verdict.failures[0].record_id) == (3, None)


def test_a_dropped_last_record_is_not_invented_without_a_key() -> None:
    """Hashes alone do not tell how many records there were: only the root is named."""
    document = sealed()
    del document["records"][2]

    verdict = verify(document, [])

    assert [(one.index, one.reason) for one in verdict.failures] == [(None, "merkle_root_mismatch")]
    assert verdict.sealed_count is None


@pytest.mark.parametrize("verifiers", [(), (HMAC_SIGNER,)], ids=len)
def test_a_record_added_after_the_seal_is_named(verifiers) -> None:
    """Well signed and linked, but not under the root: the first one of those is named, with a key or without."""
    whole, before = sealed(), sealed(leaves=chain_of(DEEDS[:1]))
    document = whole | {name: before[name] for name in ("merkle_root", "root_signature")}

    verdict = verify(document, verifiers)

    assert verdict.failures[0] == Failure(1, whole["records"][1]["id"], "merkle_root_mismatch")
    assert verdict.sealed_count == (1 if verifiers else None)


@pytest.mark.parametrize(("name", "reason"), [(ML_DSA, "signature_mismatch"), ("hmac-sha1", "unknown_algorithm")])
@pytest.mark.parametrize("verifiers", [(), (HMAC_SIGNER,), (HMAC_SIGNER, ML_DSA_SIGNER)], ids=len)
def test_a_changed_algorithm_name_names_the_record(name, reason, verifiers) -> None:
    """Known or not, with the key for it or without: a record has the algorithm of its root."""
    document = sealed()
    document["records"][1]["signature_alg"] = name

    assert (1, reason) in failures_of(document, verifiers)


def test_a_changed_algorithm_everywhere_is_refused() -> None:
    """The name is signed, so it cannot be exchanged even in all places at once."""
    document = sealed()
    for record in document["records"]:
        record["signature_alg"] = ML_DSA
    document["root_signature_alg"] = ML_DSA

    assert failures_of(document, [HMAC_SIGNER, ML_DSA_SIGNER]) == [
        (0, "signature_mismatch"), (1, "signature_mismatch"), (2, "signature_mismatch"),
        (None, "root_signature_mismatch"),
    ]  # fmt: skip


def test_an_unknown_algorithm_of_the_root_is_refused() -> None:
    """Nobody can check it, so it proves nothing."""
    document = sealed() | {"root_signature_alg": "none"}

    found = failures_of(document, ())

    assert (None, "unknown_algorithm") in found
    assert (None, "root_signature_mismatch") in found


def test_a_foreign_root_is_refused() -> None:
    """A root with its signature from another chain fits neither the records nor what is signed here."""
    other = sealed(leaves=chain_of((DEEDS[1], DEEDS[2])), evidence_id="ev_other")
    document = sealed() | {name: other[name] for name in ("merkle_root", "root_signature")}

    assert failures_of(document) == [(None, "merkle_root_mismatch"), (None, "root_signature_mismatch")]
    assert verify(document, [HMAC_SIGNER]).sealed_count is None


def test_a_foreign_root_of_the_same_evidence_tells_its_count() -> None:
    """Its signature holds, for as many records as that chain had; no record here is accused."""
    other = sealed(leaves=chain_of((DEEDS[1], DEEDS[2])))
    document = sealed() | {name: other[name] for name in ("merkle_root", "root_signature")}

    assert failures_of(document) == [(None, "merkle_root_mismatch"), (None, "root_signature_mismatch")]
    assert verify(document, [HMAC_SIGNER]).sealed_count == 2


def test_a_good_transcript_of_other_evidence_proves_nothing() -> None:
    """Whoever says which evidence or tenant is meant is not served another's, with a key or without."""
    document = sealed(ML_DSA_SIGNER)

    for verifiers in ((), (ML_DSA_SIGNER,)):
        assert failures_of(document, verifiers, evidence_id="ev_abc123", tenant_id="tnt_123") == []
        assert failures_of(document, verifiers, evidence_id="ev_2") == [(None, "root_signature_mismatch")]
        assert failures_of(document, verifiers, tenant_id="tnt_2") == [(None, "root_signature_mismatch")]


def test_without_a_key_signatures_are_said_to_be_unchecked() -> None:
    """Chain and root hold, but a transcript that anybody could have made is not proven."""
    verdict = verify(sealed(), [ML_DSA_SIGNER])

    assert verdict.holds
    assert not verdict.is_proven
    assert verdict.root_signature_valid is None
    assert {one.checked for one in verdict.records} == {("order", "parent_hash")}


def test_another_tenants_key_proves_nothing() -> None:
    """Keys are derived for each tenant."""
    stranger = HmacSigner(derive_key(b"emulator-master-secret", "tnt_124"))

    assert (0, "signature_mismatch") in failures_of(sealed(), [stranger])


def test_time_that_runs_backwards_names_the_record() -> None:
    """An earlier record after a later one is out of order, however well it is signed and linked."""
    back = chain_of((DEEDS[1], DEEDS[0], DEEDS[2]))
    offsets = chain_of((DEEDS[0], ("evidence.view", "2026-05-08T12:30:00.5+02:00"), DEEDS[2]))

    assert failures_of(sealed(leaves=back)) == [(1, "order_violation")]
    assert failures_of(sealed(leaves=offsets)) == []


def test_the_parents_id_may_be_left_out() -> None:
    """The vendor's sample has none (contract 11.1): the hash alone ties the records together."""
    leaves, parent_hash = [], None
    for leaf in chain_of():
        record = json.loads(leaf) | {"parent_hash": parent_hash}
        del record["parent_id"]
        leaves.append(canonical(record))
        parent_hash = digest_text(leaves[-1])

    assert verify(sealed(leaves=leaves), [HMAC_SIGNER]).is_proven


def test_members_without_a_name_here_are_signed_too() -> None:
    """What a later version adds to a record is covered, numbers, nesting and all."""
    leaf = canonical(json.loads(chain_of()[0]) | {"weight": 1e-7, "more": {"é": [1.0]}})
    document = sealed(leaves=[leaf])

    assert verify(document, [HMAC_SIGNER]).is_proven
    document["records"][0]["more"]["é"][0] = 2
    assert failures_of(document)[0] == (0, "signature_mismatch")


def test_a_chain_without_records_has_the_empty_root() -> None:
    """SHA-256 of nothing, signed."""
    document = sealed(leaves=[])

    assert document["merkle_root"].endswith("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    assert verify(document, [HMAC_SIGNER]).is_proven


@pytest.mark.parametrize(
    ("spoil", "place"),
    [
        (lambda d: d.pop("merkle_root"), "merkle_root"),
        (lambda d: d.update(format="jsonld"), "format"),
        (lambda d: d.update(version="2027.1"), "version"),
        (lambda d: d["records"].append({}), r"records\[3\]"),
        (lambda d: d["records"][1].update(signature=7), r"records\[1\]"),
        (lambda d: d["records"][1].pop("signature_alg"), "signature_alg"),
        (lambda d: d["records"][1].update(signed_at="2026-05-08T10:05:00"), r"records\[1\].signed_at"),
        (lambda d: d["records"][1].update(extra=2**60), "canonical"),
    ],
)
def test_what_is_no_transcript_says_where(spoil, place) -> None:
    """The message names the member that is missing or wrong."""
    document = copy.deepcopy(sealed())
    spoil(document)

    with pytest.raises(RecordError, match=place):
        verify(document, [HMAC_SIGNER])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace(b'"actor_id":', b'"actor_id":"x","actor_id":', 1),
        lambda text: text.replace(b'"records":', b'"version":"2026.4","records":', 1),
        lambda text: text.replace(b'"job_id":null', b'"job_id":null,"more":{"\\u0061":1,"a":2}', 1),
        lambda text: json.dumps(json.loads(text), indent=1).encode().replace(b'"job_id"', b'"job_id": "", "job_id"', 1),
        lambda text: (
            json.dumps(json.loads(text), indent=1).encode().replace(b'"version"', b'"format": "", "version"', 1)
        ),
        lambda text: text[:-1],
        lambda text: b"[" + text + b"]",
    ],
)
def test_a_text_with_two_readings_is_refused(spoil) -> None:
    """A member twice, at any depth and however escaped, or what is no JSON object, is no transcript."""
    with pytest.raises(RecordError):
        read_transcript(spoil(encode(sealed())))
    with pytest.raises(RecordError):
        verify_text(spoil(encode(sealed())), [HMAC_SIGNER])


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text,
        lambda text: b"\n " + text + b"\n",
        lambda text: json.dumps(json.loads(text), indent=2).encode(),
        lambda text: text.replace(b"user_42", b"us\\u0065r_42"),
        lambda text: text.replace(b'"format"', b'"later":{"a":[1]},"format"'),
    ],
)
@pytest.mark.parametrize("spoil", [lambda text: text, lambda text: text.replace(b"evidence.view", b"evidence.veil")])
def test_a_text_is_judged_as_its_document(rewrite, spoil) -> None:
    """Compact, laid out, escaped or with members of a later version: text and plain document have one verdict."""
    text = spoil(rewrite(encode(sealed())))

    assert verify_text(text, [HMAC_SIGNER]) == verify(read_transcript(text), [HMAC_SIGNER])


@pytest.mark.parametrize("place", [0, 1, 299, 300, 599])
def test_a_long_chain_names_its_record(place) -> None:
    """Records are hashed some at a time, and counted from the first of all."""
    leaves = chain_of([("evidence.view", "2026-05-08T10:05:00Z")] * 600)
    document = sealed(leaves=leaves)
    assert verify(document, [HMAC_SIGNER]).is_proven
    document["records"][place]["actor_id"] = "user_43"

    for verdict in (verify(document, [HMAC_SIGNER]), verify_text(encode(document), [HMAC_SIGNER])):
        assert verdict.failures[0] == Failure(place, document["records"][place]["id"], "signature_mismatch")


@given(st.text(), st.none() | st.text())
def test_texts_of_any_kind_are_signed_as_they_are(actor, job) -> None:
    """The quick form of a record is the canonical one whatever its texts hold."""
    leaf = canonical(json.loads(chain_of()[0]) | {"actor_id": actor, "job_id": job})

    assert verify_text(encode(sealed(leaves=[leaf])), [HMAC_SIGNER]).is_proven


def test_a_lone_surrogate_has_no_canonical_form() -> None:
    """It cannot be hashed, so it is no transcript."""
    document = sealed()
    document["records"][1]["actor_id"] = "\ud800"

    with pytest.raises(RecordError, match="canonical"):
        verify(document, [HMAC_SIGNER])


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
TIMES = st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-W19-5T10:00Z", "10:00Z"])


@given(st.data())
def test_any_other_value_anywhere_is_refused(data) -> None:
    """A changed, added or missing member makes it unproven or no transcript, and breaks nothing else."""
    document = copy.deepcopy(sealed())
    target = data.draw(st.sampled_from([document, *document["records"]]))
    # Members of a transcript that have no name here are covered by no signature; those of a record are.
    name = data.draw(st.sampled_from(sorted(target)) | (st.nothing() if target is document else st.text(max_size=3)))
    value = data.draw(JSON_VALUES | TIMES | st.just(...))
    if name in target and value == target[name] and type(value) is type(target[name]):
        return
    if value is ...:
        if name not in target:
            return
        del target[name]
    else:
        target[name] = value

    try:
        verdict = verify(document, [HMAC_SIGNER])
    except RecordError:
        return
    assert not verdict.is_proven


def test_colons_and_quotes_in_texts_are_not_members() -> None:
    """A text full of what looks like members is one text."""
    leaf = canonical(json.loads(chain_of()[0]) | {"actor_id": 'a":"b\\":', "job_id": ":::", "": ""})

    assert verify(read_transcript(encode(sealed(leaves=[leaf]))), [HMAC_SIGNER]).is_proven


def test_a_replaced_key_of_ml_dsa_still_proves_what_it_signed() -> None:
    """Any one of the published keys will do."""
    published = VerifyKeys(ML_DSA, [signer.public_jwk() for signer in (MlDsaSigner(bytes(32)), ML_DSA_SIGNER)])

    assert verify(sealed(ML_DSA_SIGNER), [MlDsaVerifier.from_keys(published)]).is_proven
