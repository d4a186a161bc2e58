"""Transcripts: chains of custody, sealed and proved without asking anybody (contract 11.4).

Pure: a document and verifiers go in, a verdict comes out that says of each record what was checked and what does not
hold. A proof shows who signed what, in which order; whether the content behind a hash is still that content is for
whoever has it. Keys and algorithms are `signers`'.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import count, islice, pairwise, repeat
from operator import gt
from typing import Any

import msgspec
from msgspec import UNSET

from engine.codec.canonical import canonical
from engine.codec.payload import loads
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
)
from engine.errors import RecordError
from engine.trust.extent import root_message, root_text, sealed_over
from engine.trust.merkle import leaf_hashes, merkle_root
from engine.trust.records import Columns, Head, from_document, from_text
from engine.trust.signers import Signer, Verifier

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

    A failure of the root names the first record that the root does not cover: one that came later, or, after the last
    here, one that is missing. `sealed_count` is the number of records the root was signed for, where a key shows it.

    `root_signature_valid` is None where there was no key for the algorithm: then nobody's signature was checked, and
    anybody could have made a transcript that holds together like this one.
    """

    evidence_id: str
    tenant_id: str
    algorithm: str
    merkle_root: str
    root_signature_valid: bool | None
    sealed_count: int | None
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


def seal(
    evidence_id: str, tenant_id: str, leaves: Sequence[bytes], signer: Signer, signatures: Sequence[str]
) -> dict[str, Any]:
    """The transcript of a chain: its leaves in order, and the signature of each over its `record_message`."""
    algorithm = signer.algorithm
    root = root_text(merkle_root(leaf_hashes(leaves)))
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
    return _judge(*from_document(document), verifiers, evidence_id, tenant_id)


def verify_text(
    text: bytes,
    verifiers: Iterable[Verifier],
    *,
    evidence_id: str | None = None,
    tenant_id: str | None = None,
) -> Verdict:
    """As `verify`, from the JSON text of a transcript; quicker than reading it first.

    Raises:
        RecordError: as `records.read_transcript` and `verify`.
    """
    return _judge(*from_text(text), verifiers, evidence_id, tenant_id)


def _judge(
    head: Head, columns: Columns, verifiers: Iterable[Verifier], evidence_id: str | None, tenant_id: str | None
) -> Verdict:
    verifier = next((one for one in verifiers if one.algorithm == head.root_signature_alg), None)
    hashed = _hash(columns, verifier)
    records = _judge_records(head, columns, hashed, verifier)
    failures = [Failure(one.index, one.record_id, reason) for one in records if one.failed for reason in one.failed]
    is_ours = evidence_id in (None, head.evidence_id) and tenant_id in (None, head.tenant_id)
    root = merkle_root(hashed.leaves)
    sealed = sealed_over(head, hashed.leaves, root, verifier)
    if head.merkle_root != root_text(root):
        # The one after the last is named only where all others stand in their places.
        index = sealed.outside if sealed.outside != len(records) or not failures else None
        name = columns.ids[index] if index is not None and index < len(records) else None
        failures.append(Failure(index, name, ROOT))
    if head.root_signature_alg not in ALGORITHMS:
        failures.append(Failure(None, None, ALGORITHM))
    is_signed = sealed.is_signed if is_ours else False
    if is_signed is False:
        failures.append(Failure(None, None, ROOT_SIGNATURE))
    return Verdict(
        evidence_id=head.evidence_id,
        tenant_id=head.tenant_id,
        algorithm=head.root_signature_alg,
        merkle_root=root_text(root),
        root_signature_valid=is_signed,
        sealed_count=sealed.count,
        records=records,
        failures=failures,
    )


class _Hashed(msgspec.Struct, frozen=True):
    """What comes of the bytes of all records: `unsigned` are the places whose signature does not hold."""

    digests: list[str]
    leaves: list[bytes]
    unsigned: list[int]


def _hash(columns: Columns, verifier: Verifier | None) -> _Hashed:
    hashed = _Hashed([], [], [])
    for messages, leaves in columns.forms:
        start = len(hashed.leaves)
        if verifier is not None:
            signatures = columns.signatures[start : start + len(messages)]
            hashed.unsigned.extend(start + place for place in verifier.unsigned(messages, signatures))
        hashed.digests.extend(map(digest_text, leaves))
        hashed.leaves.extend(leaf_hashes(leaves))
    return hashed


def _judge_records(head: Head, columns: Columns, hashed: _Hashed, verifier: Verifier | None) -> list[RecordVerdict]:
    unsigned = _unsigned(head, columns, hashed.unsigned)
    # Each carries the digest of the one before it.
    unlinked = _different(columns.parent_hashes, [None, *hashed.digests[:-1]])
    misplaced = _misplaced(columns)
    checks = _ALL_CHECKS if verifier else _CHAIN_CHECKS
    verdicts = list(map(RecordVerdict, count(), columns.ids, repeat(checks), repeat(())))
    for index in unsigned.keys() | unlinked | misplaced:
        failed = [unsigned[index]] if index in unsigned else []
        failed += [PARENT] * (index in unlinked) + [ORDER] * (index in misplaced)
        checked = _ALL_CHECKS if index in unsigned else checks
        verdicts[index] = RecordVerdict(index, columns.ids[index], checked, tuple(failed))
    return verdicts


def _unsigned(head: Head, columns: Columns, unsigned: list[int]) -> dict[int, str]:
    """Why the signatures of some records do not hold; `unsigned` are those that a key has found."""
    reasons = dict.fromkeys(unsigned, SIGNATURE)
    is_known = head.root_signature_alg in ALGORITHMS
    if is_known and columns.algorithms.count(head.root_signature_alg) == len(columns.algorithms):
        return reasons
    for index, algorithm in enumerate(columns.algorithms):
        if algorithm not in ALGORITHMS:
            reasons[index] = ALGORITHM
        elif algorithm != head.root_signature_alg:
            # One transcript, one algorithm: else a record could name one whose key the reader does not have.
            reasons[index] = SIGNATURE
    return reasons


def _misplaced(columns: Columns) -> set[int]:
    """The records that do not name the one before them, or were signed earlier than that one."""
    misplaced = _different(columns.parent_ids, [None, *columns.ids[:-1]])
    misplaced -= {index for index in misplaced if columns.parent_ids[index] is UNSET}
    moments = _moments(columns.signed_at)
    if any(map(gt, moments, islice(moments, 1, None))):
        misplaced |= {index for index, pair in enumerate(pairwise(moments), start=1) if pair[0] > pair[1]}
    return misplaced


def _different(found: Sequence[object], wanted: Sequence[object]) -> set[int]:
    # Nearly always nothing differs, which one comparison tells.
    if not found or found == wanted:
        return set()
    return {index for index, one in enumerate(found) if one != wanted[index]}


def _moments(texts: Sequence[str]) -> list[datetime]:
    moments = []
    for index, text in enumerate(texts):
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            raise RecordError(
                f"not a transcript: `$.records[{index}].signed_at` is not a time with its offset (RFC 3339)"
            )
        moments.append(moment)
    return moments
