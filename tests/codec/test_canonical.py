"""Canonical JSON: the outside vectors of RFC 8785, and what has no canonical form."""

import gzip
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.canonical import canonical, canonical_each, canonical_without
from engine.errors import RecordError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**53) + 1, max_value=2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("name", ["arrays", "french", "structures", "unicode", "values", "weird"])
def test_the_outside_vectors_agree(vectors, name):
    """The published inputs give the published bytes."""
    folder = vectors("jcs")
    found = sorted(folder.rglob(f"input/{name}.json"))
    if not found:
        pytest.skip(f"vectors: jcs {name} not found")

    expected = found[0].parents[1] / "output" / f"{name}.json"

    assert canonical(json.loads(found[0].read_text(encoding="utf-8"))) == expected.read_bytes().rstrip(b"\n")


def test_the_callback_of_the_contract_has_its_bytes():
    """The test vector of contract 9.7: 207 bytes, members sorted, no spaces."""
    callback = {
        "status": "succeeded",
        "id": "01HFXY0000000000000000000A",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "kind": "intelligence.enrich.bulk",
        "result_ref": "r2://argus-jobs/results/01HFXY0000000000000000000A.json",
    }

    assert canonical(callback).startswith(b'{"id":"01HFXY0000000000000000000A","kind":')
    assert len(canonical(callback)) == 207


@given(VALUES)
def test_canonical_is_a_fixed_point(value):
    """Reading the canonical bytes and writing them again changes nothing."""
    once = canonical(value)

    # As ECMAScript reads them: every number is a double, however it is written.
    assert canonical(json.loads(once, parse_int=float)) == once


def test_numbers_are_written_as_ecmascript_does(vectors):
    """Ten thousand doubles, given by their bits, have the published text."""
    with gzip.open(vectors("jcs") / "es6_10k.txt.gz", "rt", encoding="ascii") as lines:
        wrong = [
            line
            for line in map(str.strip, lines)
            if canonical(struct.unpack(">d", bytes.fromhex(line.partition(",")[0].rjust(16, "0")))[0])
            != line.partition(",")[2].encode()
        ]

    assert not wrong


@pytest.mark.parametrize("value", [2**53, float("nan"), float("inf"), "\ud800", {1: 2}, object(), b"x"], ids=repr)
def test_what_has_no_canonical_form_is_refused(value):
    """It is an error of ours, not of the library."""
    with pytest.raises(RecordError):
        canonical(value)


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=4))
def test_many_have_the_bytes_of_each(objects):
    """Canonicalised together or one by one, the bytes are the same."""
    assert canonical_each(objects) == [canonical(one) for one in objects]


@given(st.lists(st.dictionaries(st.text('abz_A~\x00"\\', max_size=3), st.text() | st.none() | st.booleans())))
def test_many_flat_ones_have_the_bytes_of_each(objects):
    """So too on the fast way, whatever the texts hold."""
    assert canonical_each(objects) == [canonical(one) for one in objects]


@pytest.mark.parametrize("value", [{"a": "\ud800"}, {"\ud800": "a"}, {"a": 2**60}, {1: "a"}, {"a": float("nan")}])
def test_one_without_a_form_is_refused_among_many(value):
    """As when it comes alone."""
    with pytest.raises(RecordError):
        canonical_each([{"a": "b"}, value])


@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=4))
def test_members_are_left_out_one_after_the_other(objects):
    """The second form lacks what the first lacks, and the objects stay as they are."""
    whole = [value | {"x": "1", "y": None} for value in objects]

    without_x, without_both = canonical_without(whole, "x", "y")

    bare = [{name: one for name, one in value.items() if name not in ("x", "y")} for value in objects]
    assert without_x == [canonical(value | {"y": None}) for value in bare]
    assert without_both == [canonical(value) for value in bare]
    assert all("x" in value for value in whole)


def test_many_with_names_past_ascii_are_sorted_by_utf_16():
    """A sign beyond the first plane comes before U+E000 there, and after it by code point."""
    value = {"\ue000": "a", "\U0001f600": "b"}

    assert canonical_each([value]) == [canonical(value)]
    assert canonical_each([value])[0].index("\U0001f600".encode()) < canonical_each([value])[0].index(b"\xee\x80\x80")
