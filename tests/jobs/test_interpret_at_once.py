"""Rows that hold their own key and status are read once, and what comes out is what reading them twice gave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError, PartialFailure
from engine.jobs.interpret import Interpreter, Reading

ROWS = st.fixed_dictionaries(
    {
        "id": st.text(alphabet="ab", min_size=1, max_size=2) | st.integers(0, 9),
        "status": st.sampled_from(("ok", "ok", "ok", "bad", "odd")),
        "score": st.integers(-1, 5) | st.just("many"),
    },
    optional={"error": st.sampled_from(("unknown", "late"))},
)


class _Telling(msgspec.Struct):
    """Holds key and status under their own names."""

    id: str
    status: str
    score: int


class _Silent(msgspec.Struct):
    """The same members, the status as one of a few words: it cannot be read off the row as text."""

    id: str
    status: str | None
    score: int


def _encode(rows: Sequence[Any]) -> bytes:
    failures = {index: "negative" for index, row in enumerate(rows) if row.score < 0}
    if failures:
        raise PartialFailure("some rows cannot be held", failures=failures)
    return b"".join(msgspec.json.encode(row) + b"\n" for row in rows)


def _interpreter(row: type[Any]) -> Interpreter:
    reading = Reading(
        match="id",
        status="status",
        accepted=frozenset(("ok",)),
        rejected=frozenset(("bad",)),
        row=row,
        encode=_encode,
        takes_raw=False,
    )
    return Interpreter(reading, rows_max=8)


def _outcome(row: type[Any], windows: list[list[dict[str, Any]]]) -> list[Any]:
    interpreter, found = _interpreter(row), []
    for window in windows:
        try:
            taken = interpreter.window(msgspec.json.encode(window))
        except EngineError as exc:
            return [*found, type(exc), str(exc)]
        found.append((taken.chunk, taken.accepted, taken.ended))
    return [*found, interpreter.keys, interpreter.statuses]


@given(st.lists(st.lists(ROWS, min_size=1, max_size=4), min_size=1, max_size=3))
def test_reading_once_gives_what_reading_twice_gives(windows: list[list[dict[str, Any]]]) -> None:
    """Chunks, ends, keys, tallies and refusals are the same, whatever stands in the rows."""
    assert _outcome(_Telling, windows) == _outcome(_Silent, windows)


@pytest.mark.parametrize(("row", "heads"), [(_Telling, 0), (_Silent, 1)], ids=["telling", "silent"])
def test_heads_are_decoded_only_where_rows_do_not_tell(row: type[Any], heads: int) -> None:
    """A window of accepted rows that hold key and status is decoded once."""
    interpreter = _interpreter(row)
    counted = _Counting(interpreter._heads)
    interpreter._heads = counted

    interpreter.window(b'[{"id":"a","status":"ok","score":1}]')

    assert counted.calls == heads


class _Counting:
    """A decoder that counts what it decodes."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.calls = 0

    def decode(self, text: bytes) -> Any:
        self.calls += 1
        return self._inner.decode(text)
