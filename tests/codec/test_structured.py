"""Structured fields: the working group's own cases, and that nothing else than a refusal comes of any text."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.structured import Date, InnerList, Token, read_dictionary, read_item, read_list
from engine.contract.dates import field_date_s
from engine.errors import RecordError

READERS = {"item": read_item, "list": read_list, "dictionary": read_dictionary}
FILES = (
    "binary", "boolean", "date", "dictionary", "display-string", "examples", "item", "key-generated",
    "large-generated", "list", "listlist", "number", "number-generated", "param-dict", "param-list", "param-listlist",
    "string", "string-generated", "token", "token-generated",
)  # fmt: skip


def _plain(value):
    """A value as the suite writes it."""
    match value:
        case Token():
            return {"__type": "token", "value": str(value)}
        case Date():
            return {"__type": "date", "value": value.at_s}
        case bytes():
            return {"__type": "binary", "value": base64.b32encode(value).decode()}
        case _:
            return value


def _pairs(parameters):
    return [[name, _plain(value)] for name, value in parameters.items()]


def _told(one):
    match one:
        case list():
            return [_told(member) for member in one]
        case dict():
            return [[name, _told(member)] for name, member in one.items()]
        case InnerList():
            return [[_told(item) for item in one.items], _pairs(one.parameters)]
        case _:
            return [_plain(one.value), _pairs(one.parameters)]


def _wanted(case):
    """What the suite expects, without the marks of display strings, which are text here."""
    return json.loads(
        json.dumps(case["expected"]),
        object_hook=lambda one: one["value"] if one["__type"] == "displaystring" else one,
    )


@pytest.mark.parametrize("name", FILES)
def test_the_suite_of_the_working_group(vectors, name) -> None:
    """What must fail is refused, and what is read is what is expected; the date of an Item too, as Deprecation has."""
    wrong = []
    cases = json.loads((vectors("structured-field-tests") / f"{name}.json").read_text(encoding="utf-8"))
    for case in cases:
        text = ", ".join(case["raw"])
        try:
            found = READERS[case["header_type"]](text)
        except RecordError:
            is_right = case.get("must_fail", False) or case.get("can_fail", False)
            date_s = None
        else:
            is_right = not case.get("must_fail") and _told(found) == _wanted(case)
            date_s = found.value.at_s if case["header_type"] == "item" and isinstance(found.value, Date) else None
        if not is_right or (case["header_type"] == "item" and field_date_s(text) != date_s):
            wrong.append(case["name"])

    assert wrong == []
    assert cases


def test_every_file_of_the_suite_is_used(vectors) -> None:
    """A file that is added later is not passed over."""
    assert {path.stem for path in vectors("structured-field-tests").glob("*.json")} == set(FILES)


@given(st.text() | st.text('a1"\\:;,=() \t@%?*-.'), st.sampled_from(sorted(READERS)))
def test_any_text_is_read_or_refused(text, kind) -> None:
    """No other error, whatever a header holds."""
    try:
        READERS[kind](text)
    except RecordError:
        return
    assert READERS[kind](f" {text} ") == READERS[kind](text)
