"""`engine verify transcript`: good and bad files, with and without keys, for a person and for a program."""

import json
from pathlib import Path

import pytest

from engine.codec.canonical import canonical
from engine.codec.payload import encode
from engine.contract.provenance import ML_DSA, VerifyKeys
from engine.errors import Exit
from engine.trust.signers import HmacSigner, MlDsaSigner
from engine.trust.transcript import digest_text, record_message, seal

KEY = bytes(range(32))
SIGNERS = {"hmac-sha256": HmacSigner(KEY), "ml-dsa-65": MlDsaSigner(KEY)}
WITH_KEY = {"hmac-sha256": ("--tenant-key", "key.txt"), "ml-dsa-65": ("--keys", "keys.json")}


def document_of(algorithm="hmac-sha256", *, count=3):
    leaves, parent_id, parent_hash = [], None, None
    for number in range(count):
        record = {
            "id": f"rec_{number}", "operation": "evidence.view", "actor_id": "user_42", "actor_kind": "user",
            "content_hash": "sha256:" + "0" * 64, "parent_id": parent_id, "parent_hash": parent_hash,
            "signed_at": f"2026-05-08T10:00:{number:02}Z", "trace_id": None, "job_id": None,
        }  # fmt: skip
        leaves.append(canonical(record))
        parent_id, parent_hash = record["id"], digest_text(leaves[-1])
    signer = SIGNERS[algorithm]
    signatures = [signer.sign(record_message(leaf, algorithm)) for leaf in leaves]
    return seal("ev_1", "tnt_1", leaves, signer, signatures)


@pytest.fixture(autouse=True)
def files(folder):
    """The keys, and a good transcript."""
    Path("key.txt").write_text(KEY.hex() + "\n")
    Path("keys.json").write_bytes(encode(VerifyKeys(ML_DSA, [SIGNERS[ML_DSA].public_jwk()])))
    save(document_of())


def save(document):
    Path("t.json").write_bytes(encode(document))


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_a_good_transcript_ends_well(engine, algorithm) -> None:
    """Exit 0; each record is said to be checked three ways."""
    save(document_of(algorithm))

    answer = engine("verify", "transcript", "t.json", *WITH_KEY[algorithm], "--evidence", "ev_1", "--tenant", "tnt_1")

    assert answer.exit_code == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert [line.split()[1] for line in lines[:3]] == ["rec_0", "rec_1", "rec_2"]
    assert all("ok  of order, parent_hash, signature" in line for line in lines[:3])
    assert "ok  of merkle_root, root_signature" in lines[3]
    assert f"3 records of ev_1, proven with {algorithm}" in answer.stderr


def test_a_bad_record_is_named(engine) -> None:
    """The exit code of a failure of trust, the record in the error, and every record on stdout."""
    document = document_of()
    document["records"][1]["actor_id"] = "user_43"
    save(document)

    answer = engine("verify", "transcript", "t.json", "--tenant-key", "key.txt")

    assert answer.exit_code == Exit.CREDENTIALS
    assert "error[trust.proof]" in answer.stderr
    assert "signature_mismatch at record 1 (rec_1)" in answer.stderr
    lines = answer.stdout.splitlines()
    assert ["FAILED" in line for line in lines] == [False, True, True, True]
    assert "parent_hash_mismatch" in lines[2]
    assert "merkle_root_mismatch" in lines[3]


def test_a_dropped_last_record_is_named_by_its_place(engine) -> None:
    """What the signature of the root tells: how many there were, and which is the first that is missing."""
    document = document_of()
    del document["records"][2]
    save(document)

    answer = engine("verify", "transcript", "t.json", "--tenant-key", "key.txt")

    assert answer.exit_code == Exit.CREDENTIALS
    assert "merkle_root_mismatch at record 2, which is missing" in answer.stderr
    assert "the root was signed for 3 records, and here are 2" in answer.stderr
    assert "FAILED  merkle_root_mismatch, root_signature_mismatch" in answer.stdout.splitlines()[-1]


def test_records_from_after_the_seal_are_named(engine) -> None:
    """A root of the first records only does not stand for those that were put behind them."""
    document, before = document_of(), document_of(count=2)
    save(document | {name: before[name] for name in ("merkle_root", "root_signature")})

    answer = engine("verify", "transcript", "t.json", "--tenant-key", "key.txt")

    assert answer.exit_code == Exit.CREDENTIALS
    assert "merkle_root_mismatch at record 2 (rec_2), the first that the root is not of" in answer.stderr
    assert "the root was signed for 2 records, and here are 3" in answer.stderr


def test_a_program_gets_the_whole_verdict(engine) -> None:
    """One JSON object, also when it does not hold."""
    document = document_of()
    del document["records"][1]
    save(document)

    answer = engine("verify", "transcript", "t.json", "--tenant-key", "key.txt", "--json")

    told = json.loads(answer.stdout)
    assert answer.exit_code == Exit.CREDENTIALS
    assert (told["file"], told["holds"], told["is_proven"], told["root_signature_valid"]) == (
        "t.json", False, False, False,
    )  # fmt: skip
    assert told["records"][1] == {
        "index": 1, "record_id": "rec_2", "checked": ["order", "parent_hash", "signature"],
        "failed": ["parent_hash_mismatch", "order_violation"],
    }  # fmt: skip
    assert told["failures"][0] == {"index": 1, "record_id": "rec_2", "reason": "parent_hash_mismatch"}


def test_without_a_key_nothing_is_proven(engine) -> None:
    """That is a failure of trust, unless the chain alone was asked for."""
    plain = engine("verify", "transcript", "t.json")
    wrong_kind = engine("verify", "transcript", "t.json", "--keys", "keys.json")
    content = engine("verify", "transcript", "t.json", "--chain-only")

    assert plain.exit_code == wrong_kind.exit_code == Exit.CREDENTIALS
    assert "--tenant-key" in plain.stderr
    assert content.exit_code == 0
    assert "signatures were not checked" in content.stderr
    assert "ok  of order, parent_hash" in content.stdout.splitlines()[0]


@pytest.mark.parametrize("flag", ["--evidence", "--tenant"])
def test_a_transcript_of_something_else_is_refused(engine, flag) -> None:
    """It is good, but not of what was meant."""
    answer = engine("verify", "transcript", "t.json", "--tenant-key", "key.txt", flag, "other")

    assert answer.exit_code == Exit.CREDENTIALS
    assert "root_signature_mismatch at the root" in answer.stderr


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"records": 1}', "\x00"])
def test_what_is_no_transcript_proves_nothing(engine, text) -> None:
    """A failure of trust that says what was expected; nothing on stdout."""
    Path("t.json").write_text(text)

    answer = engine("verify", "transcript", "t.json", "--tenant-key", "key.txt")

    assert (answer.exit_code, answer.stdout) == (Exit.CREDENTIALS, "")
    assert "error[trust.proof]: t.json:" in answer.stderr


def test_stdin_will_do(engine) -> None:
    """A dash reads from there."""
    text = Path("t.json").read_bytes()

    assert engine("verify", "transcript", "-", "--tenant-key", "key.txt", input=text).exit_code == 0


def test_files_that_cannot_be_read_are_a_matter_of_usage(engine) -> None:
    """A missing transcript or key file is named, exit 2."""
    for words in (("none.json",), ("t.json", "--keys", "none.json"), ("t.json", "--tenant-key", "none.txt")):
        answer = engine("verify", "transcript", *words)
        assert answer.exit_code == Exit.USAGE
        assert f"cannot read {words[-1]}" in answer.stderr


def test_bad_keys_are_said_to_be_bad(engine) -> None:
    """A key file of another kind is refused before anything is verified, and a secret is not repeated."""
    Path("key.txt").write_text("not-hex-at-all")
    Path("keys.json").write_text('{"algorithm": "ml-dsa-65", "keys": []}')

    secret = engine("verify", "transcript", "t.json", "--tenant-key", "key.txt")
    public = engine("verify", "transcript", "t.json", "--keys", "keys.json")

    assert (secret.exit_code, public.exit_code) == (Exit.CONFIGURATION, Exit.CREDENTIALS)
    assert "not-hex" not in secret.stderr
    assert secret.stdout == public.stdout == ""


def test_a_name_cannot_write_on_the_terminal(engine) -> None:
    """Control characters in a record's id are shown, not sent."""
    document = document_of()
    document["records"][0]["id"] = "a\x1b[2Jb\nroot ok"
    save(document)

    answer = engine("verify", "transcript", "t.json", "--chain-only")

    assert "\x1b" not in answer.stdout + answer.stderr
    assert len(answer.stdout.splitlines()) == 4
