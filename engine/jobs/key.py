"""Names that are derived, never drawn: the idempotency key of an attempt, the digest of a set of row keys.

The same input gives the same key, so a ledger that lost its tail creates nothing twice.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable

from engine.codec.payload import encode


def derive_key(*, pipeline: str, epoch: int, seq: int, attempt: int, digest: bytes) -> str:
    """The Idempotency-Key of one attempt of one job.

    Shaped as a UUID v4, which the contract recommends (9.2), out of a SHA-256 over what makes the submission.
    """
    text = f"{pipeline}\0{epoch}\0{seq}\0{attempt}\0".encode()
    return str(uuid.UUID(bytes=hashlib.sha256(text + digest).digest()[:16], version=4))


def digest_keys(keys: Iterable[str]) -> bytes:
    """SHA-256 over the sorted keys as a JSON array: equal exactly when the same keys occur equally often."""
    return hashlib.sha256(encode(sorted(keys))).digest()
