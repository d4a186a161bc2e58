"""Cells: what the text of a CSV cell means under a declared field type.

Values come out as JSON has them: numbers, booleans, text (dates too, as RFC 3339 text), or whatever a
`json` cell holds. Knows nothing of rows and files.
"""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from engine.codec import payload
from engine.codec.fields import FieldType, plain_struct
from engine.codec.lines import lines_of
from engine.errors import RecordError

# Python's own int() and float() also take "1_000", " 1", "inf" and digits of other scripts.
_INT = re.compile(r"[+-]?[0-9]{1,4000}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_INT_MAX = 4000
_TRUTHS = {"true": True, "false": False, "1": True, "0": False}


def cell_reader(kind: FieldType) -> Callable[[str], Any]:
    """A function from a cell's text to its value.

    It raises ValueError for a text that is not of this type. An empty cell is None where that is allowed.
    """
    read = _READERS.get(kind.word) or _one_of(frozenset(kind.choices))
    if not kind.nullable:
        return read
    return lambda text: read(text) if text else None


def column_reader(kind: FieldType) -> Callable[[Sequence[str]], Sequence[Any]]:
    """Like `cell_reader`, for the cells of a column at once; no cell may hold a line end."""
    if kind.word in ("int", "float") and not kind.nullable:
        return _ints if kind.word == "int" else _floats
    read = cell_reader(kind)
    return lambda texts: [read(text) for text in texts]


def _ints(texts: Sequence[str]) -> list[int]:
    if not _holds_only("".join(texts), b"0123456789+-") or max(map(len, texts), default=0) > _INT_MAX:
        raise ValueError("a cell is no whole number")
    return list(map(int, texts))


def _floats(texts: Sequence[str]) -> list[float]:
    if not _holds_only("".join(texts), b"0123456789+-.eE"):
        raise ValueError("a cell is no number")
    numbers = list(map(float, texts))
    if math.inf in numbers or -math.inf in numbers:
        raise ValueError("a number is too large")
    return numbers


def _holds_only(text: str, marks: bytes) -> bool:
    """With nothing but these marks in it, a text that Python takes for a number is one to `_INT` or `_FLOAT` too."""
    return text.isascii() and not text.encode().translate(None, marks)


def json_rows(columns: Mapping[str, Iterable[Any]]) -> list[bytes]:
    """The JSON text of each row of a table, by its columns."""
    kind = plain_struct(tuple(columns))
    if kind is None:
        rows: list[Any] = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    else:
        rows = list(map(kind, *columns.values()))
    return lines_of(payload.encode_lines(rows))


def _int(text: str) -> int:
    if not _INT.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _float(text: str) -> float:
    if not _FLOAT.fullmatch(text) or math.isinf(number := float(text)):
        raise ValueError(text)
    return number


def _bool(text: str) -> bool:
    truth = _TRUTHS.get(text.lower())
    if truth is None:
        raise ValueError(text)
    return truth


def _datetime(text: str) -> str:
    return dt.datetime.fromisoformat(text).isoformat()


def _date(text: str) -> str:
    return dt.date.fromisoformat(text).isoformat()


def _json(text: str) -> Any:
    try:
        data = text.encode()
        payload.check_caps(data)
        return payload.loads(data)
    except RecordError as exc:
        raise ValueError(exc.message) from exc


def _one_of(choices: frozenset[str]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return read


_READERS: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": _int,
    "float": _float,
    "bool": _bool,
    "datetime": _datetime,
    "date": _date,
    "json": _json,
}
