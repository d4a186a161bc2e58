"""Merkle: the root of an ordered list of leaves (RFC 6962 section 2.1), over SHA-256.

Pure, and nothing but the root: no proofs of inclusion, which nobody asks for (contract 11.4).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

# Leaf and node hashes differ in their first byte (RFC 6962 section 2.1): without it, a node could be passed off as
# a leaf.
_LEAF = b"\x00"
_NODE = b"\x01"


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """The 32 bytes of the root; of no leaves at all, the hash of nothing.

    Pairing neighbours and handing an odd last one up is the RFC's split at the largest power of two.
    """
    level = [sha256(_LEAF + leaf).digest() for leaf in leaves]
    if not level:
        return sha256(b"").digest()
    while len(level) > 1:
        above = [sha256(_NODE + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]
