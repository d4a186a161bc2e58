"""Cells: rows as tuples of cells, for the sinks that need columns.

A row is a Struct made from the result fields or a dict; a nested or undecoded value becomes JSON text.
Files and formats are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from engine.codec import payload
from engine.codec.fields import attributes


class Cells:
    """Takes rows apart into cells, in the order of `columns`; what a row lacks is None."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self._kind: type[msgspec.Struct] | None = None
        self._of_struct: Callable[[Any], tuple[Any, ...]] = tuple

    def of(self, rows: Sequence[Any]) -> list[tuple[Any, ...]]:
        """One tuple per row; all rows of a call are of one type."""
        if not rows:
            return []
        first = rows[0]
        if isinstance(first, msgspec.Struct):
            return list(map(self._getter(type(first)), rows))
        columns = self._columns
        return [tuple(map(row.get, columns)) for row in rows]

    def _getter(self, kind: type[msgspec.Struct]) -> Callable[[Any], tuple[Any, ...]]:
        if kind is not self._kind:
            names = attributes(kind)
            if all(column in names for column in self._columns) and len(self._columns) > 1:
                self._of_struct = attrgetter(*(names[column] for column in self._columns))
            else:
                self._of_struct = self._patient_getter(names)
            self._kind = kind
        return self._of_struct

    def _patient_getter(self, names: dict[str, str]) -> Callable[[Any], tuple[Any, ...]]:
        present = [names.get(column) for column in self._columns]
        return lambda row: tuple(None if name is None else getattr(row, name) for name in present)


def json_text(value: Any) -> str:
    """A value as JSON text on one line."""
    text = bytes(value) if isinstance(value, msgspec.Raw) else payload.encode(value)
    return (on_one_line(text) if b"\n" in text else text).decode()


def is_null(value: Any) -> bool:
    """Whether a cell is nothing: None, or a null that was never decoded."""
    return value is None or (type(value) is msgspec.Raw and bytes(value) == b"null")


def on_one_line(text: bytes) -> bytes:
    """JSON that was never decoded may have line ends between its tokens; JSON strings have none."""
    return payload.encode(payload.decoder(Any).decode(text))
