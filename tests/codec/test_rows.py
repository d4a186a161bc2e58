"""Small documents and depths, judged at a glance: never otherwise than by looking closely."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.payload import MAX_DEPTH, depth_of
from engine.codec.rows import decode_small, nests_deeper, stands_once
from engine.errors import CapExceeded, RecordError

values = st.recursive(
    st.none() | st.integers(-9, 9) | st.sampled_from(["", "a", "rows", "é"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c"]), inner, max_size=3),
    max_leaves=20,
)


@given(value=values, limit=st.integers(1, 8))
def test_depth_settled_early_is_the_depth_counted(value, limit):
    """Whether a text is too deep does not depend on how soon that was seen."""
    text = json.dumps(value).encode()
    assert nests_deeper(text, limit) is (depth_of(text) > limit)


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_small_document_may_be_as_deep_as_any(depth, opening):
    """The cap is the one of all foreign JSON, to the level."""
    closing = "]" if opening == "[" else "}"
    inner = "[]" * (opening == "[") or "{}"
    text = (opening * (depth - 1) + inner + closing * (depth - 1)).encode()
    if depth > MAX_DEPTH:
        with pytest.raises(CapExceeded):
            decode_small(text, object)
    else:
        assert json.loads(text) == decode_small(text, object)


def test_what_is_no_json_is_no_small_document():
    """A cut document is refused as such."""
    with pytest.raises(RecordError, match="not valid JSON"):
        decode_small(b'{"rows":[1', object)


@given(
    before=st.dictionaries(st.sampled_from(["a", "rows", "b"]), values, max_size=2),
    rows=st.lists(values, min_size=1, max_size=2),
    after=st.dictionaries(st.sampled_from(["c", "rows"]), values, max_size=2),
    indent=st.sampled_from([None, 1]),
)
def test_a_name_that_stands_once_has_one_value(before, rows, after, indent):
    """Where it is said to stand once, there is no second value of that name, anywhere."""
    parts = [*before.items(), ("rows", rows), *after.items()]
    inside = [json.dumps(rows, indent=indent) if name == "rows" else json.dumps(value) for name, value in parts]
    text = ("{" + ",".join(f'"{name}": {one}' for (name, _), one in zip(parts, inside, strict=True)) + "}").encode()
    if stands_once(text, b'"rows"', json.dumps(rows, indent=indent).encode()):
        assert [name for name, _ in parts].count("rows") == 1
    elif [name for name, _ in parts] == ["rows"]:
        raise AssertionError(text)
