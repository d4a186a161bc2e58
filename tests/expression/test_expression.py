"""Expressions: what they mean, what they refuse, and that nothing of Python's can be named in one."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import RecordError
from engine.expression.compiled import Expression, check
from engine.expression.syntax import CHARS_MAX, members, parse
from engine.expression.values import TEXT_MAX, Failed

ROW: dict[str, Any] = {
    "first": "Ada", "last": "Lovelace", "age": 36, "score": 0.5, "is_on": True, "none": None,
    "tags": ["a", "b"], "home": {"city": "London", "a b": 1}, "big": 2**63 - 1, "weird name": "w", "text": "42",
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('first + " " + last', "Ada Lovelace"),
        ("age + 1", 37),
        ("age / 5", 7),
        ("-age / 5", -7),
        ("age % 5", 1),
        ("-age % 5", -1),
        ("age * 0.5", 18.0),
        ("1 + 2 * 3 - 4", 3),
        ("(1 + 2) * 3", 9),
        ("10 - 4 - 3", 3),
        ("age >= 18 && age < 65", True),
        ("age > 99 || first == 'Ada'", True),
        ("false && nowhere", False),
        ("true || nowhere", True),
        ("!is_on", False),
        ("age == 36.0", True),
        ("is_on == 1", False),
        ("none == null", True),
        ('first in ["Ada", "Bo"]', True),
        ('"city" in home', True),
        ("age > 30 ? 'old' : 'young'", "old"),
        ("false ? 1 : true ? 2 : 3", 2),
        ("home.city", "London"),
        ('home["a b"]', 1),
        ("tags[1]", "b"),
        ('row["weird name"]', "w"),
        ("has(home.city) && !has(home.zip) && !has(nowhere) && has(tags[1]) && !has(tags[2])", True),
        ("size(first) + tags.size() + size(home)", 7),
        ("int(text) + int(1.9) + int('-3')", 40),
        ("double(text)", 42.0),
        ("string(age) + string(1.0) + string(true)", "361true"),
        ("bool('true')", True),
        ("first.startsWith('A') && last.endsWith('e') && last.contains('love') == false", True),
        ("first.upperAscii() + last.lowerAscii()", "ADAlovelace"),
        ("' x '.trim()", "x"),
        ("'a-b-c'.split('-').join('+')", "a+b+c"),
        ("last.replace('Love', 'Hate')", "Hatelace"),
        ("last.substring(0, 4) + last.substring(7)", "Lovee"),
        ("last.indexOf('lace')", 4),
        (r'"\u00e4\n\"" + ' + r"'\''", "ä\n\"'"),
        ("0x10", 16),
        ("1e3", 1000.0),
        ("[1, 2] + [3]", [1, 2, 3]),
        ("'b' > 'a' && false < true", True),
        ("1.0 / 0.0 > 1e308", True),
    ],
)
def test_what_an_expression_means(text, value) -> None:
    """Values and types are those of CEL."""
    found = Expression(text)(ROW)
    assert (found, type(found)) == (value, type(value))


def test_nothing_over_nothing_is_no_number() -> None:
    """IEEE 754."""
    assert math.isnan(Expression("0.0 / 0.0")({}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere", "no member `nowhere`"),
        ("home.zip", "no member `zip`"),
        ("first.x", "text has no member"),
        ("first + 1", "`+` cannot work on text and a whole number"),
        ("is_on + 1", "cannot work on true or false"),
        ("first * 3", "cannot work on"),
        ("big + 1", "64 bits"),
        ("age / 0", "division by zero"),
        ("age % 0", "division by zero"),
        ("age && true", "true or false"),
        ("age ? 1 : 2", "true or false"),
        ("!age", "true or false"),
        ("-first", "takes a number"),
        ("first < 1", "cannot work on"),
        ("tags[2]", "none at 2"),
        ("tags['a']", "cannot be asked"),
        ("1 in first", "not into text"),
        ("int('x')", "cannot read 'x'"),
        ("int(true)", "cannot read"),
        ("size(1)", "takes text"),
        ("last.substring(9)", "cannot be from"),
        ("age.trim()", "works on text"),
    ],
)
def test_what_has_no_value_says_why(text, said) -> None:
    """A row for which an expression has no value fails with words."""
    with pytest.raises(Failed, match=said.replace("+", r"\+").replace("`", ".")):
        Expression(text)(ROW)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", 0),
        ("a +", 3),
        ("a b", 2),
        ("a = 1", 2),
        ("(a", 2),
        ("a.", 2),
        ("f(a)", 0),
        ("a.f()", 2),
        ("size()", 0),
        ("'x'.trim(1)", 4),
        ("[1, ", 4),
        ("a ? b", 5),
        ("'open", 0),
        (r"'\q'", 0),
        (r"'\ud800'", 0),
        ("while", 0),
        ("has(1)", 0),
        ("9223372036854775808", 0),
        ("a ; b", 2),
        ("a" * (CHARS_MAX + 1), 0),
    ],
)
def test_what_is_no_expression_says_where(text, at) -> None:
    """The column of the first character that cannot stand there."""
    wrong = check(text)
    assert wrong is not None
    assert wrong.facts["at"] == at


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "().__class__",
        "first.__class__",
        "first.format(age)",
        "lambda: 1",
        "first.encode()",
        "eval('1')",
        "k[0]",
        "m_trim(first)",
        "row.__class__",
    ],
)
def test_nothing_of_python_can_be_named(text) -> None:
    """Refused when it is read, or asked of the row as a member that is not there."""
    if check(text) is None:
        with pytest.raises(Failed, match="no member"):
            Expression(text)({"first": "x", "age": 1})


def test_depth_and_size_are_bounded() -> None:
    """What is nested too deeply is refused when it is read; what grows too large, when it is computed."""
    for text in ("(" * 100 + "1" + ")" * 100, "-" * 100 + "1", "a" + ".b" * 100):
        assert check(text) is not None
    with pytest.raises(Failed, match="characters"):
        Expression("a.replace('x', b)")({"a": "x" * 2000, "b": "y" * 2000})
    with pytest.raises(Failed, match="characters"):
        Expression("a + a")({"a": "x" * TEXT_MAX})


def test_members_are_known_beforehand() -> None:
    """Which members of a row an expression looks at."""
    assert members(parse("a.b + row.c + [d][0] + (has(e.f) ? g : 1)")) == {"a", "d", "e", "g"}


@given(st.text(alphabet="ab()[].,+-*/%<>=!&|?: '\"\\01hasrow", max_size=40))
def test_any_text_is_an_expression_or_says_why_not(text) -> None:
    """Nothing else ever comes of a text, and of a row a value or `Failed`."""
    wrong = check(text)
    if wrong is not None:
        assert isinstance(wrong, RecordError)
        assert 0 <= wrong.facts["at"] <= len(text)
        return
    with contextlib.suppress(Failed):
        Expression(text)({"a": 1, "b": {"a": "x"}})


@given(st.integers(-(2**62), 2**62), st.integers(-(2**31), 2**31), st.integers(1, 2**31))
def test_whole_numbers_are_those_of_cel(a, b, c) -> None:
    """Division goes towards zero, and what it leaves has the sign of the first."""
    row = {"a": a, "b": b, "c": c}
    assert Expression("a + b")(row) == a + b
    quotient, rest = Expression("a / c")(row), Expression("a % c")(row)
    assert quotient * c + rest == a
    assert abs(rest) < c
    assert rest == 0 or (rest > 0) == (a > 0)
