"""Rows of a run as lines for an onlooker: what a secret or a mask hides stays hidden. Plain work, for a thread.

A pipeline that masks shows of a row that was just read the members which travel as they are, and no other: what a mask
covers may have had another name before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from engine.codec.payload import check_caps, decoder, encode, loads
from engine.errors import RecordError
from engine.jobs.tap import Sighting, sampled
from engine.settings import Secret
from engine.telemetry.redact import MASK, Redactor

# A row that is longer is shown by its beginning.
_ROW_MAX = 16 * 1024
_raws = decoder(list[msgspec.Raw])


class Show:
    """Turns sightings of one pipeline into lines of JSON; `hides`: it masks."""

    def __init__(self, pipeline: str, redact: Redactor, *, hides: bool) -> None:
        self._pipeline = pipeline
        self._redact = redact
        self._hides = hides

    def lines(self, sighting: Sighting, *, rows: int, dropped: int) -> bytes:
        """A sighting's rows, one line each, at most so many; `dropped` batches were not shown before."""
        seen = sampled(rows_of(sighting), rows)
        told = {"dropped": dropped} if dropped else {}
        return b"".join(encode(self._line(seen, index) | told) + b"\n" for index in range(len(seen.texts)))

    def _line(self, seen: Sighting, index: int) -> dict[str, Any]:
        line: dict[str, Any] = {"pipeline": self._pipeline, "stage": seen.stage}
        places = {
            "input": seen.input,
            "line": _at(seen.lines, index),
            "key": _at(seen.keys, index),
            "job": seen.job,
            "part": seen.part,
        }
        line |= {name: value for name, value in places.items() if value is not None}
        row = self._value(seen.texts[index])
        if self._hides and seen.stage == "read":
            row = _uncovered(row, self._value(_at(seen.became, index) or b"null"))
            line.pop("key", None)
        return line | {"row": row}

    def _value(self, text: bytes) -> Any:
        """The row as a value; as text where it is no JSON, or long."""
        if len(text) <= _ROW_MAX:
            redacted = self._redact(text.decode("utf-8", "replace"))
            try:
                check_caps(encoded := redacted.encode())
                return loads(encoded)
            except RecordError:
                return redacted
        over = len(text) - _ROW_MAX
        # Redacted first: what is cut through the middle would not be found any more.
        return self._redact(text.decode("utf-8", "replace"))[:_ROW_MAX] + f"…[+{over} bytes]"


def _at(many: Any, index: int) -> Any:
    return many[index] if index < len(many) else None


def _uncovered(row: Any, became: Any) -> Any:
    """The members of a row that travel under the same name with the same value; the others are covered."""
    if not isinstance(row, dict):
        return MASK
    travels = became if isinstance(became, dict) else {}
    return {name: value if name in travels and _same(travels[name], value) else MASK for name, value in row.items()}


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def rows_of(sighting: Sighting) -> Sighting:
    """The sighting with a text for each row; a window that is neither an array nor lines stays one text."""
    if not sighting.is_window:
        return sighting
    texts = [text for window in sighting.texts for text in _rows_in(window)]
    return msgspec.structs.replace(sighting, texts=texts, is_window=False)


def _rows_in(window: bytes) -> Iterator[bytes]:
    if window.lstrip()[:1] == b"[":
        try:
            yield from map(bytes, _raws.decode(window))
            return
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    yield from (line for line in window.split(b"\n") if line.strip())


def secrets_in(*values: Any) -> Iterator[str]:
    """Every secret that stands anywhere in settings or in a pipeline."""
    for value in values:
        if isinstance(value, Secret):
            yield value.reveal()
        elif isinstance(value, msgspec.Struct):
            yield from secrets_in(*(getattr(value, name) for name in value.__struct_fields__))
        elif isinstance(value, dict):
            yield from secrets_in(*value.values())
        elif isinstance(value, (list, tuple)):
            yield from secrets_in(*value)
