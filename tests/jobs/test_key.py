"""Derived names: the same submission has the same key, any other has another."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from engine.jobs.key import derive_key, digest_keys

_PARTS = {"pipeline": "p", "epoch": 1, "seq": 2, "attempt": 1, "digest": b"d" * 32}
_OTHERS = {"pipeline": "q", "epoch": 2, "seq": 3, "attempt": 2, "digest": b"e" * 32}


def test_a_key_is_the_same_for_the_same_submission() -> None:
    """Deriving twice gives the same key, and it is a UUID v4 as the contract recommends."""
    key = derive_key(**_PARTS)
    assert key == derive_key(**_PARTS)
    assert uuid.UUID(key).version == 4


def test_every_part_of_a_submission_changes_its_key() -> None:
    """Pipeline, epoch, sequence, attempt and payload each make another key."""
    keys = {derive_key(**{**_PARTS, name: other}) for name, other in _OTHERS.items()}
    assert len(keys | {derive_key(**_PARTS)}) == len(_OTHERS) + 1


def test_parts_cannot_run_into_each_other() -> None:
    """Epoch 1, sequence 23 is not epoch 12, sequence 3."""
    assert derive_key(**{**_PARTS, "epoch": 1, "seq": 23}) != derive_key(**{**_PARTS, "epoch": 12, "seq": 3})


@given(keys=st.lists(st.text(max_size=5), max_size=8))
def test_a_set_of_row_keys_has_one_digest_in_any_order(keys: list[str]) -> None:
    """Order does not matter; a missing, doubled or exchanged key does."""
    shuffled = sorted(keys, reverse=True)
    assert digest_keys(keys) == digest_keys(shuffled)
    assert digest_keys(keys) != digest_keys([*keys, "extra"])
    if keys:
        assert digest_keys(keys) != digest_keys(keys[1:])
