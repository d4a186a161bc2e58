"""The JSON door: caps before any decoder, errors of ours for whatever foreign bytes hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec import payload
from engine.codec.payload import MAX_DEPTH, check_caps, check_single, decode, depth_of, encode, loads
from engine.errors import CapExceeded, RecordError

_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


@given(value=_VALUES)
def test_depth_is_that_of_the_value(value: Any) -> None:
    """Brackets and quotes inside strings do not count; every level does."""
    assert depth_of(json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")) == _depth(value)


@given(text=st.text(alphabet='[]{}"\\a', max_size=40))
def test_depth_of_any_text_is_never_too_small(text: str) -> None:
    """A text that is no JSON is not taken for a shallow one: whatever a decoder could reach is counted."""
    data = text.encode()
    deepest = depth = 0
    is_string = is_escaped = False
    for char in text:
        if is_escaped:
            is_escaped = False
        elif char == "\\" and is_string:
            is_escaped = True
        elif char == '"':
            is_string = not is_string
        elif not is_string and char in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif not is_string and char in "]}":
            break
    if "\\" not in text:
        assert depth_of(data) >= deepest


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000])
def test_t15_deep_texts_are_refused_before_a_decoder_sees_them(deep: bytes) -> None:
    """Nesting that would exhaust the stack is an error of ours, for typed and untyped decoding alike."""
    with pytest.raises(CapExceeded, match=f"deeper than {MAX_DEPTH}"):
        decode(deep, dict)
    with pytest.raises(CapExceeded):
        check_caps(deep)


def test_large_texts_are_refused() -> None:
    """Size is looked at first."""
    with pytest.raises(CapExceeded, match="over the cap of 10"):
        decode(b'"0123456789"', str, max_bytes=10)


@pytest.mark.parametrize("text", [b"", b"{", b"nul", b'"\xff"', b"[1,]", b'{"a":1}x'])
def test_what_is_no_json_is_an_error_of_ours(text: bytes) -> None:
    """No foreign exception leaves the door."""
    with pytest.raises(RecordError):
        decode(text, dict)
    with pytest.raises(RecordError):
        loads(text)


_NAMES = st.sampled_from(["id", "x", "i", 'i"d', "[", '"', "id:", "\\"])
_JSON = st.recursive(
    st.one_of(st.integers(0, 9), st.text('ab"[]{}:,\\id', max_size=6)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(members=st.lists(st.tuples(_NAMES, _JSON), max_size=5))
def test_a_name_that_stands_twice_is_found_at_the_top_level_alone(members):
    """Names inside texts and inner objects do not count; the same name twice beside itself does."""
    text = "{" + ", ".join(f"{json.dumps(name)} :{json.dumps(value)}" for name, value in members) + "}"

    assert payload.has_twice(text.encode(), "id") == ([name for name, _ in members].count("id") > 1)


@given(value=_JSON)
def test_the_depth_of_a_text_is_that_of_its_value(value):
    """Whatever stands in its strings, brackets and quotes among it."""

    def depth(one):
        inner = one.values() if isinstance(one, dict) else one
        return 1 + max(map(depth, inner), default=0) if isinstance(one, dict | list) else 0

    assert payload.depth_of(json.dumps(value).encode()) == depth(value)


@given(text=st.text(max_size=40), pieces=st.integers(1, 9))
def test_utf8_is_told_from_other_bytes_in_pieces_as_in_one(text, pieces):
    """A text looked at piece by piece is judged as the decoder judges the whole, wherever a character is parted."""
    good = text.encode()
    bad = good + b"\xc3"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payload, "_PIECE_BYTES", pieces)
        assert payload.is_utf8(good)
        assert not payload.is_utf8(bad)
        assert not payload.is_utf8(b"\xff" + good)


def test_many_names_inside_do_not_take_for_ever():
    """A row with very many inner objects of the same name is looked through once."""
    inner = b",".join([b'{"id":1}'] * 200_000)

    assert not payload.has_twice(b'{"id":1,"x":[' + inner + b"]}", "id")
    assert payload.has_twice(b'{"id":1,"x":[' + inner + b'],"id":2}', "id")


def test_what_is_no_json_value_is_refused_and_large_numbers_pass():
    """Whole numbers past 64 bits are written; a value without a form in JSON is a record's error."""
    assert payload.dumps({"n": 10**30}) == b'{"n":1' + b"0" * 30 + b"}"
    with pytest.raises(RecordError):
        payload.dumps({"n": object()})


@given(
    st.recursive(
        st.none() | st.text('a:"\\{}[]é'), lambda inner: st.lists(inner) | st.dictionaries(st.text('a:"\\'), inner)
    )
)
def test_a_text_without_doubles_is_let_through(value):
    """Whatever its texts hold, and however it is nested and laid out."""
    check_single(encode(value), value)
    check_single(json.dumps(value, indent=1).encode(), value)


@pytest.mark.parametrize(
    "text",
    ['{"a":1,"a":1}', '[{"b":{"a":":","a":""}}]', '{"a":1,"\\u0061":2}', '{"a":[{"":1,"":2}]}', '{"\\"":1,"\\"":1}'],
)
def test_a_member_twice_is_seen_at_any_depth(text):
    """Also when its two names are written differently."""
    with pytest.raises(RecordError, match="twice"):
        check_single(text.encode(), json.loads(text))
