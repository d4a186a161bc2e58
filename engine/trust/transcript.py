"""Transcripts: chains of custody, sealed and proved without asking anybody (contract 11.4).

Pure: a document and verifiers go in, a verdict comes out that says of each record what was checked and what does not
hold. A proof shows who signed what, in which order; whether the content behind a hash is still that content is for
whoever has it. Keys and algorithms are `signers`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import UNSET

from engine.codec.canonical import canonical, canonical_without
from engine.codec.payload import check_caps, check_single, from_plain, loads
from engine.contract.profile import PROFILE
from engine.contract.provenance import (
    ALGORITHM,
    ALGORITHMS,
    JSON,
    ORDER,
    PARENT,
    ROOT,
    ROOT_SIGNATURE,
    SIGNATURE,
    Failure,
    Record,
    Transcript,
)
from engine.errors import RecordError
from engine.trust.merkle import merkle_root
from engine.trust.signers import Signer, Verifier

# Ten thousand records signed with ML-DSA-65 are about 75 MB of text.
TEXT_MAX = 256 * 1024 * 1024
# Times are remembered, so one that is as long as a novel must not be.
_TIME_MAX = 64
_CHAIN_CHECKS = ("order", "parent_hash")
_ALL_CHECKS = (*_CHAIN_CHECKS, "signature")


class RecordVerdict(msgspec.Struct, frozen=True, gc=False):
    """One record: which checks were made, and the reasons (`contract.provenance`) why some do not hold."""

    index: int
    record_id: str
    checked: tuple[str, ...]
    failed: tuple[str, ...]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a transcript proves. `merkle_root` is the one computed.

    `root_signature_valid` is None where there was no key for the algorithm: then nobody's signature was checked, and
    anybody could have made a transcript that holds together like this one.
    """

    evidence_id: str
    tenant_id: str
    algorithm: str
    merkle_root: str
    root_signature_valid: bool | None
    records: list[RecordVerdict]
    failures: list[Failure]

    @property
    def holds(self) -> bool:
        """Whether nothing that was checked failed."""
        return not self.failures

    @property
    def is_proven(self) -> bool:
        """Whether it holds and every signature was checked."""
        return not self.failures and self.root_signature_valid is True


def digest_text(leaf: bytes) -> str:
    """The digest of a record, as the next one's `parent_hash` has it."""
    return "sha256:" + sha256(leaf).hexdigest()


def record_message(leaf: bytes, algorithm: str) -> bytes:
    """What the signature of a record is over, from its leaf: the canonical form of the record without signature."""
    return canonical({**loads(leaf), "signature_alg": algorithm})


def root_message(evidence_id: str, tenant_id: str, root: str, count: int, algorithm: str) -> bytes:
    """What the signature of the root is over; `root` with its `sha256:`."""
    return canonical(
        {
            "evidence_id": evidence_id,
            "merkle_root": root,
            "record_count": count,
            "root_signature_alg": algorithm,
            "tenant_id": tenant_id,
            "version": PROFILE.provenance_version,
        }
    )


def seal(
    evidence_id: str, tenant_id: str, leaves: Sequence[bytes], signer: Signer, signatures: Sequence[str]
) -> dict[str, Any]:
    """The transcript of a chain: its leaves in order, and the signature of each over its `record_message`."""
    algorithm = signer.algorithm
    root = "sha256:" + merkle_root(leaves).hex()
    return {
        "evidence_id": evidence_id,
        "tenant_id": tenant_id,
        "records": [
            {**loads(leaf), "signature": signature, "signature_alg": algorithm}
            for leaf, signature in zip(leaves, signatures, strict=True)
        ],
        "merkle_root": root,
        "root_signature": signer.sign(root_message(evidence_id, tenant_id, root, len(leaves), algorithm)),
        "root_signature_alg": algorithm,
        "format": JSON,
        "version": PROFILE.provenance_version,
    }


def read_transcript(text: bytes) -> dict[str, Any]:
    """A transcript from its JSON text, as `verify` takes it.

    Raises:
        RecordError: not a JSON object, over the caps, or with a member twice: readers differ in which one they see.
    """
    check_caps(text, max_bytes=TEXT_MAX)
    document = loads(text)
    if not isinstance(document, dict):
        raise RecordError("a transcript is a JSON object")
    check_single(text, document)
    return document


def verify(
    document: dict[str, Any],
    verifiers: Iterable[Verifier],
    *,
    evidence_id: str | None = None,
    tenant_id: str | None = None,
) -> Verdict:
    """Prove a transcript: order, parent hashes, Merkle root, and the signatures there is a verifier for.

    With `evidence_id` and `tenant_id`, the root must be signed for these: a good transcript of other evidence is not
    a proof of this one. Costs little more than the hashes and signatures themselves.

    Raises:
        RecordError: not a transcript; the message names the place.
    """
    said = _read(document)
    verifier = next((one for one in verifiers if one.algorithm == said.root_signature_alg), None)
    # Of each record what its signature is over, and its leaf; all at once, which is most of the speed.
    messages, leaves = canonical_without(document["records"], "signature", "signature_alg")
    records = _judge_records(said, messages, leaves, verifier)
    root = "sha256:" + merkle_root(leaves).hex()
    is_ours = evidence_id in (None, said.evidence_id) and tenant_id in (None, said.tenant_id)
    root_signature_valid = _judge_root(said, verifier) if is_ours else False
    failures = [Failure(one.index, one.record_id, reason) for one in records if one.failed for reason in one.failed]
    if root != said.merkle_root:
        failures.append(Failure(None, None, ROOT))
    if said.root_signature_alg not in ALGORITHMS:
        failures.append(Failure(None, None, ALGORITHM))
    if root_signature_valid is False:
        failures.append(Failure(None, None, ROOT_SIGNATURE))
    return Verdict(
        evidence_id=said.evidence_id,
        tenant_id=said.tenant_id,
        algorithm=said.root_signature_alg,
        merkle_root=root,
        root_signature_valid=root_signature_valid,
        records=records,
        failures=failures,
    )


def _read(document: dict[str, Any]) -> Transcript:
    try:
        said = from_plain(document, Transcript)
    except RecordError as exc:
        raise RecordError(f"not a transcript: {exc.message}") from exc
    if said.format != JSON:
        raise RecordError(f"not a transcript: expected the format {JSON}, found {said.format[:80]!a}")
    if said.version != PROFILE.provenance_version:
        raise RecordError(f"not a transcript of version {PROFILE.provenance_version}, but of {said.version[:80]!a}")
    return said


def _judge_records(
    said: Transcript, messages: list[bytes], leaves: list[bytes], verifier: Verifier | None
) -> list[RecordVerdict]:
    verdicts = []
    before: Record | None = None
    parent_hash: str | None = None
    for index, record in enumerate(said.records):
        signature = _judge_signature(record, said.root_signature_alg, messages[index], verifier)
        failed = [] if signature is None else [signature]
        if record.parent_hash != parent_hash:
            failed.append(PARENT)
        if not _follows(record, before, index):
            failed.append(ORDER)
        checked = _ALL_CHECKS if verifier or signature else _CHAIN_CHECKS
        verdicts.append(RecordVerdict(index, record.id, checked, tuple(failed)))
        before, parent_hash = record, digest_text(leaves[index])
    return verdicts


def _judge_signature(record: Record, algorithm: str, message: bytes, verifier: Verifier | None) -> str | None:
    """Why a record's signature does not hold; None when it does, or when there is no key to say so."""
    if record.signature_alg not in ALGORITHMS:
        return ALGORITHM
    # One transcript, one algorithm: else a record could name one whose key the reader does not have.
    if record.signature_alg != algorithm:
        return SIGNATURE
    return None if verifier is None or verifier.is_signed(message, record.signature) else SIGNATURE


def _judge_root(said: Transcript, verifier: Verifier | None) -> bool | None:
    if said.root_signature_alg not in ALGORITHMS:
        return False
    if verifier is None:
        return None
    message = root_message(
        said.evidence_id, said.tenant_id, said.merkle_root, len(said.records), said.root_signature_alg
    )
    return verifier.is_signed(message, said.root_signature)


def _follows(record: Record, before: Record | None, index: int) -> bool:
    """Whether a record names the one before it, and was not signed earlier than that one."""
    if record.parent_id is not UNSET and record.parent_id != (before.id if before else None):
        return False
    moment = _moment(record.signed_at) if len(record.signed_at) <= _TIME_MAX else None
    if moment is None:
        raise RecordError(f"not a transcript: `$.records[{index}].signed_at` is not a time with its offset (RFC 3339)")
    earlier = None if before is None else _moment(before.signed_at)
    return earlier is None or earlier <= moment


@lru_cache(maxsize=1024)
def _moment(text: str) -> datetime | None:
    """A time; None when it is none, or without an offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
