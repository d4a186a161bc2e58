"""Merkle roots: the tree of Certificate Transparency, and the RFC's own recursion as an oracle."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.trust.merkle import leaf_hashes, leaves_under, merkle_root

# The leaves and roots of Certificate Transparency's own tests (its merkletree tests, "reference" inputs).
LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip


@pytest.mark.parametrize(
    ("count", "root"),
    [
        (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ],
)
def test_the_roots_of_certificate_transparency(count, root) -> None:
    """The published root of the first leaves."""
    assert merkle_root(leaf_hashes(LEAVES[:count])).hex() == root


def _by_the_rfc(leaves):
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + _by_the_rfc(leaves[:split]) + _by_the_rfc(leaves[split:])).digest()


@given(st.lists(st.binary(max_size=4), max_size=40))
def test_pairing_up_is_the_recursion_of_the_rfc(leaves) -> None:
    """Any number of leaves: the root is that of RFC 6962, section 2.1."""
    assert merkle_root(leaf_hashes(leaves)) == _by_the_rfc(leaves)


def test_a_node_is_no_leaf() -> None:
    """Two hashes side by side, sent as a leaf, do not have the root of the tree they come from."""
    pair = b"".join(sha256(b"\x00" + leaf).digest() for leaf in (b"a", b"b"))

    assert merkle_root(leaf_hashes([pair])) != merkle_root(leaf_hashes([b"a", b"b"]))


@given(st.lists(st.binary(max_size=4), max_size=24, unique=True))
def test_the_root_of_the_first_leaves_tells_how_many_they_are(leaves) -> None:
    """Fewer than all: their count; all of them, or a root of others: none."""
    hashes = leaf_hashes(leaves)

    for count in range(len(leaves)):
        assert leaves_under(merkle_root(hashes[:count]), hashes) == count
    assert leaves_under(merkle_root(hashes), hashes) is None
    assert leaves_under(sha256(b"other").digest(), hashes) is None
