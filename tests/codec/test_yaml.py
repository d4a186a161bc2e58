"""YAML: what is written is read back as the same values by a reader that is not ours."""

import yaml
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.yaml import dump_yaml

# Outside of these, YAML itself has no way to say a character, or JSON and YAML differ on floats.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
WORDS = st.sampled_from(["no", "Yes", "null", "on", "1e3", "0x10", "2026-05-08", "1:30", "- a", "a: b", "# c", "~", ""])
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_what_is_written_is_what_was_meant(value):
    """Any values of ours come back unchanged, whatever their text looks like."""
    assert yaml.safe_load(dump_yaml(value)) == value


def test_plain_words_stand_plain():
    """A document that people read is not full of quotes, and keys that look like numbers stay text."""
    assert dump_yaml({"responses": {"200": {"description": "Not Found", "empty": []}}, "tags": ["a", "no"]}) == (
        'responses:\n  "200":\n    description: Not Found\n    empty: []\ntags:\n  - a\n  - "no"\n'
    )
