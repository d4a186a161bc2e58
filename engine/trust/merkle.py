"""Merkle: the root of an ordered list of leaves (RFC 6962 section 2.1), over SHA-256.

Pure, and nothing but roots: no proofs of inclusion, which nobody asks for (contract 11.4).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

# Leaf and node hashes differ in their first byte (RFC 6962 section 2.1): without it, a node could be passed off as
# a leaf.
_LEAF = b"\x00"
_NODE = b"\x01"


def leaf_hashes(leaves: Iterable[bytes]) -> list[bytes]:
    """The hashes of leaves, the lowest level of their tree."""
    return [sha256(_LEAF + leaf).digest() for leaf in leaves]


def merkle_root(hashes: Sequence[bytes]) -> bytes:
    """The 32 bytes of the root over `leaf_hashes`; of no leaves at all, the hash of nothing.

    Pairing neighbours and handing an odd last one up is the RFC's split at the largest power of two.
    """
    if not hashes:
        return sha256(b"").digest()
    level = hashes
    while len(level) > 1:
        above = [sha256(_NODE + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        if len(level) % 2:
            above.append(level[-1])
        level = above
    return level[0]


def leaves_under(root: bytes, hashes: Sequence[bytes]) -> int | None:
    """How many leaves from the first on have this root, if fewer than all have; None where it is of no such part."""
    if hashes and root == sha256(b"").digest():
        return 0
    # The roots of the full trees that the leaves so far make up, largest first: one for each 1 in their count.
    full: list[bytes] = []
    for count, leaf in enumerate(hashes[:-1], start=1):
        node, trees = leaf, count
        while trees % 2 == 0:
            node = sha256(_NODE + full.pop() + node).digest()
            trees //= 2
        full.append(node)
        for left in reversed(full[:-1]):
            node = sha256(_NODE + left + node).digest()
        if node == root:
            return count
    return None
