"""Rows on their way into a sink as they are: bytes where it takes those, else by the columns it declares.

A row that does not fit ends alone. Where rows come from, and whether they were answers, is no matter here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from engine.codec.payload import decoder
from engine.codec.rows import text_rows
from engine.errors import PartialFailure
from engine.jobs.interpret import Taken
from engine.jobs.records import Ended

_REASON_MAX = 500


class Passing:
    """Encodes rows for one sink. `row` is the Struct that lands (None: the row as it is)."""

    def __init__(
        self, *, row: type[msgspec.Struct] | None, encode: Callable[[Sequence[Any]], bytes], takes_raw: bool
    ) -> None:
        self._encode = encode
        self._passes = takes_raw and row is None
        kind: Any = row or dict[str, Any]
        self._kind = kind
        self._row = decoder(kind)

    def encode(self, texts: Sequence[bytes], keys: Sequence[str]) -> Taken:
        """Rows by their JSON texts, with the key of each: what lands, and the ends of those that do not fit."""
        if self._passes and not any(b"\n" in text for text in texts):
            return Taken(b"\n".join(texts) + b"\n" if texts else b"", len(texts), [])
        ended: list[Ended] = []
        names = list(keys)
        rows = text_rows(list(texts), self._kind)
        if rows is None:
            rows, names = self._one_by_one(texts, keys, ended)
        try:
            return Taken(self._encode(rows) if rows else b"", len(rows), ended)
        except PartialFailure as exc:
            ended += [
                Ended(names[index], "dead", "sink", "record.encode", reason[:_REASON_MAX])
                for index, reason in exc.failures.items()
            ]
            kept = [row for index, row in enumerate(rows) if index not in exc.failures]
            return Taken(self._encode(kept) if kept else b"", len(kept), ended)

    def _one_by_one(
        self, texts: Sequence[bytes], keys: Sequence[str], ended: list[Ended]
    ) -> tuple[list[Any], list[str]]:
        """The rows that fit, with their keys; the others end."""
        rows, names = [], []
        for text, key in zip(texts, keys, strict=True):
            try:
                rows.append(self._row.decode(text))
                names.append(key)
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                ended.append(Ended(key, "dead", "sink", "record.type", str(exc)[:_REASON_MAX]))
        return rows, names
