"""Names that are derived, never drawn: the idempotency key of an attempt, the digest of a set of row keys.

The same input gives the same key, so a ledger that lost its tail creates nothing twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from engine.codec.payload import encode

# The two bits of a UUID's variant, for each hex digit that stands in their place.
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def derive_key(*, pipeline: str, epoch: int, seq: int, attempt: int, digest: bytes) -> str:
    """The Idempotency-Key of one attempt of one job.

    Shaped as a UUID v4, which the contract recommends (9.2), out of a SHA-256 over what makes the submission.
    """
    text = f"{pipeline}\0{epoch}\0{seq}\0{attempt}\0".encode()
    drawn = hashlib.sha256(text + digest).hexdigest()
    # Version and variant as RFC 9562 section 5.4 places them.
    return f"{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-{_VARIANT[drawn[16]]}{drawn[17:20]}-{drawn[20:32]}"


def digest_keys(keys: Iterable[str]) -> bytes:
    """SHA-256 over the sorted keys as a JSON array: equal exactly when the same keys occur equally often."""
    return hashlib.sha256(encode(sorted(keys))).digest()
