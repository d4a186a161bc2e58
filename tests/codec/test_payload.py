"""The JSON door: caps before any decoder, errors of ours for whatever foreign bytes hold."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.payload import MAX_DEPTH, check_caps, decode, depth_of, loads
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
