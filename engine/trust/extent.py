"""Extent: how many records the root of a transcript was made and signed over (contract 11.4).

Pure. Where the root is not of the records it came with, this says what can be shown and nothing more: of how many of
them it is the root, or for how many records it was signed.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.codec.canonical import canonical
from engine.contract.profile import PROFILE
from engine.contract.provenance import ALGORITHMS
from engine.trust.merkle import leaves_under
from engine.trust.records import Head
from engine.trust.signers import Verifier

_PREFIX = "sha256:"
# How many records more or fewer than there are a signature is tried for: a few milliseconds of HMAC, and of ML-DSA a
# quarter of a second.
_REACH = 1000


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a root. `is_signed` for the records that are there; None where there was no key.

    `count` is the number of records it was signed for, `outside` the place of the first record not under it: one that
    came later, or the one after the last that is there. Each None where it is not known.
    """

    is_signed: bool | None
    count: int | None = None
    outside: int | None = None


def root_text(root: bytes) -> str:
    """A Merkle root as transcripts have it."""
    return _PREFIX + root.hex()


def root_message(evidence_id: str, tenant_id: str, root: str, count: int, algorithm: str) -> bytes:
    """What the signature of the root is over; `root` as `root_text` writes it."""
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


def sealed_over(head: Head, hashes: Sequence[bytes], root: bytes, verifier: Verifier | None) -> Extent:
    """What a transcript's root and its signature are over; `root` is the one its records' leaves have."""
    is_signed = _is_signed(head, len(hashes), verifier)
    if head.merkle_root == root_text(root):
        return Extent(is_signed=is_signed, count=len(hashes) if is_signed else None)
    under = leaves_under(_bytes_of(head.merkle_root), hashes)
    if under is not None:
        return Extent(is_signed=is_signed, count=_signed_count(head, [under], verifier), outside=under)
    here = len(hashes)
    near = sorted(range(max(0, here - _REACH), here + _REACH + 1), key=lambda count: abs(count - here))
    signed_count = _signed_count(head, near, verifier)
    is_short = signed_count is not None and signed_count > here
    return Extent(is_signed=is_signed, count=signed_count, outside=here if is_short else None)


def _is_signed(head: Head, count: int, verifier: Verifier | None) -> bool | None:
    if head.root_signature_alg not in ALGORITHMS:
        return False
    if verifier is None:
        return None
    message = root_message(head.evidence_id, head.tenant_id, head.merkle_root, count, head.root_signature_alg)
    return verifier.is_signed(message, head.root_signature)


def _signed_count(head: Head, counts: Sequence[int], verifier: Verifier | None) -> int | None:
    return next((count for count in counts if _is_signed(head, count, verifier)), None)


def _bytes_of(root: str) -> bytes:
    try:
        found = bytes.fromhex(root.removeprefix(_PREFIX))
    except ValueError:
        return b""
    return found if root_text(found) == root else b""
