"""Transforms: new values in place of old ones, and failures that name their records."""

import copy
import datetime as dt
import sys
from pathlib import Path

import pytest

from engine.components.catalog import open_transforms
from engine.components.transforms.filter import MATCH_CHARS
from engine.errors import ConfigError, PartialFailure
from engine.pipeline.spec import TransformSpec


def apply(records, /, **spec):
    (transform,) = open_transforms([TransformSpec(**spec)], base=Path())
    before = copy.deepcopy(records)
    try:
        return transform.apply(records)
    finally:
        # The runtime applies a transform again after taking out what failed.
        assert records == before


def test_select_keeps_what_is_named_in_that_order():
    """Members that are not named go; named ones that are absent stay absent."""
    assert apply([{"a": 1, "b": 2, "c": 3}, {"b": 1}], type="select", fields=("c", "b")) == [
        {"c": 3, "b": 2},
        {"b": 1},
    ]


def test_rename_keeps_places_and_can_swap():
    """All names change at once; records without an old name are left as they are."""
    values = [{"a": 1, "b": 2, "c": 3}, {"c": 1}]

    assert [list(value.items()) for value in apply(values, type="rename", fields={"b": "a", "a": "b"})] == [
        [("b", 1), ("a", 2), ("c", 3)],
        [("c", 1)],
    ]


def test_rename_reads_as_it_is_documented():
    """The table of `rename` is { old = "new" }, as schema, documents and the check of its values have it."""
    assert apply([{"full_name": "Ada"}], type="rename", fields={"full_name": "name"}) == [{"name": "Ada"}]


def test_rename_onto_a_member_is_a_failure_of_that_record():
    """A value is never lost under another's name."""
    with pytest.raises(PartialFailure) as caught:
        apply([{"a": 1}, {"a": 1, "b": 2}], type="rename", fields={"a": "b"})

    assert list(caught.value.failures) == [1]
    assert "`b`" in caught.value.failures[1]


def test_set_gives_each_record_its_own_constant():
    """Constants replace what was there, and a list given to two records is two lists."""
    first, second = apply([{"a": 1, "b": 2}, {}], type="set", values={"a": [1], "c": "x"})

    assert first == {"a": [1], "b": 2, "c": "x"}
    assert second == {"a": [1], "c": "x"}
    assert first["a"] is not second["a"]


NOON = dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("op", "value", "member", "kept"),
    [
        ("==", 1, 1.0, True),
        ("==", 1, 2, False),
        ("==", "a", None, False),
        ("!=", "a", None, True),
        ("!=", "a", "a", False),
        ("==", [1], [1], True),
        ("<", 2, 1, True),
        ("<=", 2, 2, True),
        (">", "a", "b", True),
        (">=", 2, 1, False),
        ("in", ["a", 1], "a", True),
        ("in", ["a", 1], 2, False),
        ("in", ["a"], None, False),
        ("not in", ["a", 1], "b", True),
        ("not in", ["a"], "a", False),
        ("in", [], "a", False),
        ("matches", "b+", "abbc", True),
        ("matches", "^b", "abbc", False),
        ("exists", None, 0, True),
        ("exists", None, None, False),
        ("exists", False, None, True),
        (">", NOON, "2026-01-01T12:00:01Z", True),
        (">", NOON, "2026-01-01T13:00:00+02:00", False),
        ("<", dt.date(2026, 1, 2), "2026-01-01", True),
    ],
)
def test_filter_keeps_where_it_holds(op, value, member, kept):
    """Each operator, on values of its kind; records that do not pass become None."""
    record = {"f": member, "g": 1}

    assert apply([record], type="filter", field="f", op=op, value=value) == [record if kept else None]


@pytest.mark.parametrize(
    ("op", "value", "member"),
    [
        ("==", 1, "1"),
        ("!=", "1", 1),
        ("==", 1, True),
        ("<", 1, "0"),
        ("<", 1, None),
        (">", "a", ["b"]),
        ("<", {"a": 1}, {"a": 2}),
        ("in", ["a", "b"], 1),
        ("not in", ["a"], 1),
        ("matches", "a", 1),
        ("matches", "a", None),
        ("matches", "a", "x" * (MATCH_CHARS + 1)),
        (">", NOON, "yesterday"),
        (">", NOON, "2026-01-01T12:00:01"),
        (">", NOON, 5),
    ],
)
def test_what_cannot_be_compared_is_a_failure_not_a_no(op, value, member):
    """The record fails with a reason; records that can be compared are not named."""
    with pytest.raises(PartialFailure) as caught:
        apply([{"f": value}, {"f": member}], type="filter", field="f", op=op, value=value)

    assert 1 in caught.value.failures
    assert "`f`" in caught.value.failures[1]


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "select"},
        {"type": "select", "fields": {"a": "b"}},
        {"type": "rename", "fields": ("a",)},
        {"type": "set"},
        {"type": "filter", "field": "f"},
        {"type": "filter", "field": "f", "op": "in", "value": "abc"},
        {"type": "filter", "field": "f", "op": "matches", "value": "("},
        {"type": "python"},
        {"type": "python", "call": "json"},
        {"type": "python", "call": "no.such.module:f"},
        {"type": "python", "call": "json:no_such"},
        {"type": "python", "call": "json:__doc__"},
        {"type": "python", "call": "asyncio:sleep"},
    ],
)
def test_a_transform_that_cannot_be_is_refused_when_opened(spec):
    """Missing or wrong options are the author's, and found before any record is read."""
    with pytest.raises(ConfigError):
        apply([], **spec)


MODULE = """
from beside import FACTOR


def scale(records):
    for record in records:
        record["n"] = record["n"] * FACTOR
    return records


def drop_odd(records):
    return [record if record["n"] % 2 == 0 else None for record in records]


def picky(records):
    for record in records:
        record["seen"] = True
        if record["n"] == 13:
            raise ValueError("unlucky")
    return records


def short(records):
    return records[1:]


def nothing(records):
    return None


def texts(records):
    return ["x" for _ in records]


def later(records):
    import later_still

    return [{"n": later_still.VALUE} for _ in records]
"""


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Apply a function of a module that lies beside the pipeline file."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    (tmp_path / "rows_of_ours.py").write_text(MODULE)
    (tmp_path / "beside.py").write_text("FACTOR = 10\n")
    (tmp_path / "later_still.py").write_text("VALUE = 99\n")

    def calling(name, values):
        spec = TransformSpec(type="python", call=f"rows_of_ours:{name}")
        (transform,) = open_transforms([spec], base=tmp_path)
        return transform.apply(values)

    yield calling
    for name in ("rows_of_ours", "beside", "later_still"):
        sys.modules.pop(name, None)


def test_a_function_beside_the_pipeline_is_called(call):
    """Modules next to the pipeline file are found, also those imported later; the input is left alone."""
    values = [{"n": 1}, {"n": 2}]

    assert call("scale", values) == [{"n": 10}, {"n": 20}]
    assert call("drop_odd", values) == [None, {"n": 2}]
    assert call("later", values[:1]) == [{"n": 99}]
    assert values == [{"n": 1}, {"n": 2}]


def test_a_poisonous_record_is_isolated(call):
    """The record that makes the function raise is named with the reason; the others are not."""
    with pytest.raises(PartialFailure) as caught:
        call("picky", [{"n": 1}, {"n": 13}, {"n": 2}])

    assert caught.value.failures == {1: "rows_of_ours:picky: ValueError: unlucky"}
    assert call("picky", [{"n": 1}]) == [{"n": 1, "seen": True}]


@pytest.mark.parametrize("name", ["short", "nothing", "texts"])
def test_a_function_that_breaks_its_promise_stops_the_run(call, name):
    """Another number or kind of results is the function's fault, not a record's."""
    with pytest.raises(ConfigError, match=f"rows_of_ours:{name}"):
        call(name, [{"n": 1}, {"n": 2}])
