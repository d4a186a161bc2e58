"""Map, where, cast, mask and flatten: new objects, and failures that name the member."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from engine.components.transforms.cleaning import Cast, Flatten, Mask
from engine.components.transforms.computing import Map, Where
from engine.errors import PartialFailure
from engine.settings import Secret

ROWS: list[dict[str, Any]] = [
    {"id": "1", "n": "7", "on": "yes", "at": "2026-05-08T12:00:00Z", "x": None, "deep": {"a": {"b": 1}, "l": [1]}},
    {"id": "2", "n": "x", "on": "no", "at": "2026-05-08", "x": "", "deep": {}},
]


def only(step: Any, row: dict[str, Any]) -> Any:
    """One row through one step."""
    before = copy.deepcopy(row)
    [made] = step.apply([row])
    assert row == before
    return made


def test_map_computes_from_the_row_as_it_came() -> None:
    """Two members can swap, and the others stay."""
    assert only(Map({"id": "n", "n": "id"}), ROWS[0]) == {**ROWS[0], "id": "7", "n": "1"}


def test_map_names_the_member_it_failed_on() -> None:
    """The row fails alone."""
    with pytest.raises(PartialFailure) as caught:
        Map({"double": "int(n) * 2"}).apply(ROWS)
    assert list(caught.value.failures) == [1]
    assert "map `double`" in caught.value.failures[1]


def test_where_keeps_rows_for_which_it_is_true() -> None:
    """None for the others; what is neither true nor false is a failure of its row."""
    assert Where("on == 'yes'").apply(ROWS) == [ROWS[0], None]
    with pytest.raises(PartialFailure) as caught:
        Where("n").apply(ROWS)
    assert set(caught.value.failures) == {0, 1}


def test_cast_makes_typed_values() -> None:
    """Text becomes what it stands for; what is absent stays absent, an empty text is null where null may be."""
    made = only(Cast({"n": "int", "on": "bool", "at": "datetime", "x": "float | None", "gone": "int"}), ROWS[0])
    assert (made["n"], made["on"], made["at"], made["x"]) == (7, True, "2026-05-08T12:00:00Z", None)
    assert "gone" not in made
    assert only(Cast({"at": "date", "x": "int | None"}), ROWS[1])["at"] == "2026-05-08"
    assert only(Cast({"v": "str"}), {"v": 1.5})["v"] == "1.5"
    assert only(Cast({"v": "enum(a, b)"}), {"v": "a"})["v"] == "a"


@pytest.mark.parametrize(
    ("kind", "value"), [("int", "x"), ("int", "1.5"), ("bool", "maybe"), ("enum(a)", "b"), ("date", "")]
)
def test_cast_rejects_or_makes_null(kind, value) -> None:
    """A value of another type ends its row, or becomes null where the pipeline says so."""
    with pytest.raises(PartialFailure) as caught:
        Cast({"v": kind}).apply([{"v": value}])
    assert "cast `v`" in caught.value.failures[0]
    assert only(Cast({"v": kind}, bad="null"), {"v": value}) == {"v": None}


def test_masks_hide_what_they_are_given() -> None:
    """Stars, the last four characters, or a digest by key; null stays null, and equal values stay equal."""
    row = {"name": "Ada Lovelace", "card": "4111111111111111", "pin": "123", "none": None, "n": 42}
    assert only(Mask(["name", "none", "n", "gone"]), row) == {**row, "name": "***", "n": "***"}
    assert only(Mask(["card", "pin"], how="tail"), row) == {**row, "card": "*" * 12 + "1111", "pin": "***"}
    one, other = (Mask(["name"], how="hash", secret=Secret(key)) for key in ("k1", "k2"))
    assert only(one, row)["name"] == only(one, row)["name"] != only(other, row)["name"]
    assert len(only(one, row)["name"]) == 32
    assert "Ada" not in str(only(one, row))


def test_objects_become_members_of_the_row() -> None:
    """All, or those that are named; lists and empty objects stay, and two of one name are a failure."""
    flat = only(Flatten(), ROWS[0])
    assert (flat["deep_a_b"], flat["deep_l"]) == (1, [1])
    assert only(Flatten(["other"], separator="."), ROWS[0]) == ROWS[0]
    assert only(Flatten(["deep"], separator="."), ROWS[0])["deep.a.b"] == 1
    assert only(Flatten(), ROWS[1])["deep"] == {}
    with pytest.raises(PartialFailure) as caught:
        Flatten().apply([{"a": {"b": 1}, "a_b": 2}])
    assert "`a_b`" in caught.value.failures[0]


def test_what_is_nested_too_deeply_fails_alone() -> None:
    """A hostile row costs itself."""
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"a": deep or 1}
    with pytest.raises(PartialFailure):
        Flatten().apply([deep, {"a": 1}])
