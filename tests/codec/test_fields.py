"""Fields: declared words become types, and anything else is named with what is allowed."""

import datetime as dt

import pytest

from engine.codec import payload
from engine.codec.fields import attributes, parse_field_type, struct_of
from engine.errors import RecordError


def test_words_become_types_in_the_declared_order():
    """Each word decodes what it says; nullable fields may be absent; order survives encoding."""
    row = struct_of(
        "Row",
        {
            "z": "str",
            "n": "int",
            "f": "float",
            "b": "bool",
            "at": "datetime",
            "on": "date",
            "kind": "enum(person, place)",
            "any": "json",
            "a": "int | None",
        },
    )

    text = (
        b'{"n":1,"z":"t","f":2,"b":true,"at":"2026-01-01T00:00:00Z","on":"2026-01-02","kind":"place","any":[1],"u":0}'
    )
    value = payload.decode(text, row)

    assert value.at == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    assert payload.encode(value) == (
        b'{"z":"t","n":1,"f":2.0,"b":true,"at":"2026-01-01T00:00:00Z","on":"2026-01-02","kind":"place",'
        b'"any":[1],"a":null}'
    )


@pytest.mark.parametrize("name", ["a b", "class", "__init__", "field0_", "é-1", "1st", ""])
def test_any_name_can_name_a_field(name):
    """Names that are no Python identifiers are kept in JSON and reachable by attribute."""
    row = struct_of("Row", {"first one": "str | None", name: "int"})

    value = payload.decode(payload.dumps({name: 7}), row)

    assert getattr(value, attributes(row)[name]) == 7
    assert list(payload.loads(payload.encode(value))) == ["first one", name]


@pytest.mark.parametrize(
    "text", ["", "string", "int|none", "enum()", "enum(a,,b)", "enum(a,a)", "int | None | None", "List[str]"]
)
def test_other_words_are_refused_with_the_allowed_ones(text):
    """The error holds the offending text; its hint lists every word."""
    with pytest.raises(RecordError) as caught:
        parse_field_type(text)

    assert f"`{text}`" in caught.value.message
    assert "datetime" in caught.value.hint


def test_json_that_may_be_absent_takes_anything():
    """`json | None` keeps a value as it came, null as the bytes of a null, and is None where the member is absent."""
    row = struct_of("Row", {"any": "json | None"})
    values = payload.decode(b'[{"any":{"k":[1]}},{"any":null},{}]', list[row])

    assert [value.any and bytes(value.any) for value in values] == [b'{"k":[1]}', b"null", None]


def test_a_name_that_json_must_escape_is_refused():
    """Names are written as they are, so a quote in one would break every row."""
    with pytest.raises(RecordError, match="cannot name a field"):
        struct_of("Row", {'a"b': "str"})


def test_a_type_says_itself():
    """A parsed type prints as it would be written."""
    for text in ("str", "int | None", "enum(a, b) | None"):
        assert str(parse_field_type(text)) == text
