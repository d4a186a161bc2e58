"""NDJSON source: one JSON object per line, kept as the bytes that came.

A window of lines is checked by one decoder call that reads the key and the declared fields and skips
the rest. Only where a window fails is it read line by line, so one bad line costs its window and
spoils nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from engine.codec import payload
from engine.codec.fields import attributes, parse_fields, struct_from
from engine.codec.lines import Lines
from engine.codec.rows import text_rows
from engine.components.sources.files import VALUES_MAX, FileSource, too_long
from engine.components.sources.streams import InputStream
from engine.errors import CapExceeded, RecordError
from engine.pipeline.spec import SourceSpec
from engine.record import BadRecord, Batch

_ONLY_TEXT = {str}
_BLANKS = b" \t\r\n"
# Rows below this are decoded without asking what they will take.
_SMALL_BYTES = 256 * 1024


class _Bad(Exception):
    """Why one line is no record."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class NdjsonSource(FileSource):
    """Reads objects, one per line, UTF-8; blank lines are skipped, LF and CRLF end a line alike.

    With `want_values` the objects are decoded too, each up to about `values_max` bytes of memory. Whole numbers as
    keys become their decimal text.
    """

    def __init__(self, spec: SourceSpec, *, want_values: bool, values_max: int = VALUES_MAX) -> None:
        super().__init__(spec, want_values=want_values, values_max=values_max)
        self._row = _projection(spec)
        self._quoted_key = payload.encode(spec.key)
        self._key_of: Callable[[Any], Any] = attrgetter(attributes(self._row)[spec.key])

    def _begin(self, stream: InputStream) -> None:
        """Lines of JSON need nothing from the beginning of their file."""

    def _batches(self, stream: InputStream, lines: Iterator[Lines]) -> Iterator[Batch]:
        for window in lines:
            yield self._whole(stream.name, window) or self._line_by_line(stream.name, window)

    def _whole(self, name: str, window: Lines) -> Batch | None:
        """The batch, if every line is blank or a good record."""
        if window.cut:
            return None
        raws = window.texts
        ends: Sequence[int] = window.ends
        numbers: Sequence[int] = range(window.line, window.next_line)
        rows = text_rows(raws, self._row)
        if rows is None:
            raws = [text.strip(_BLANKS) for text in raws]
            if b"" in raws:
                kept = [index for index, raw in enumerate(raws) if raw]
                raws = [raws[index] for index in kept]
                ends = [ends[index] for index in kept]
                numbers = [numbers[index] for index in kept]
            rows = text_rows(raws, self._row) if raws else []
        if rows is None or (keys := self._keys(raws, rows)) is None:
            return None
        try:
            values = self._values(raws)
        except (_Bad, msgspec.DecodeError, ValueError, RecursionError):
            return None
        batch = _empty(name, window)
        batch.raws, batch.ends, batch.lines, batch.keys, batch.values = raws, ends, numbers, keys, values
        return batch

    def _keys(self, raws: list[bytes], rows: list[Any]) -> list[str] | None:
        """The keys of a window's rows; None when one is not as it should be."""
        keys = list(map(self._key_of, rows))
        if not set(map(type, keys)) <= _ONLY_TEXT:
            keys = list(map(str, keys))
        if "" in keys:
            return None
        # One search of the whole window; only where the name stands more often than rows, each row is looked at.
        found = b"\n".join(raws).count(self._quoted_key)
        if found > len(raws) and any(payload.has_twice(raw, self.spec.key) for raw in raws):
            return None
        return keys

    def _values(self, raws: list[bytes]) -> list[dict[str, Any]] | None:
        if not self.want_values:
            return None
        for raw in raws:
            if len(raw) > _SMALL_BYTES and (cost := payload.cost_of(raw)) > self.values_max:
                raise _Bad(
                    "record.too_large",
                    f"its {len(raw)} bytes would take about {cost} as values; `memory` allows {self.values_max}",
                )
        document = b"[" + b",".join(raws) + b"]"
        # Not orjson: it makes floats of whole numbers past 64 bits.
        values: list[dict[str, Any]] = payload.decoder(list[dict[str, Any]]).decode(document)
        return values

    def _line_by_line(self, name: str, window: Lines) -> Batch:
        batch = _empty(name, window)
        ends: list[int] = []
        numbers: list[int] = []
        values: list[dict[str, Any]] = []
        for index, text in enumerate(window.texts):
            raw = text.strip(_BLANKS)
            if index in window.cut:
                batch.bad.append(too_long(name, window, index, self.spec.line_max))
                continue
            if not raw:
                continue
            try:
                key, value = self._one(raw)
            except _Bad as bad:
                batch.bad.append(_bad_record(name, window, index, bad))
                continue
            batch.raws.append(raw)
            batch.keys.append(key)
            ends.append(window.ends[index])
            numbers.append(window.line + index)
            values += value
        batch.ends, batch.lines = ends, numbers
        batch.values = values if self.want_values else None
        return batch

    def _one(self, raw: bytes) -> tuple[str, list[dict[str, Any]]]:
        """The key of one line and, if wanted, its value; says precisely what is wrong with it."""
        try:
            if not payload.is_utf8(raw):
                raise _Bad("record.encoding", f"not UTF-8 at byte {_first_not_utf8(raw)} of the line")
            payload.check_caps(raw, max_bytes=len(raw))
            row = payload.decoder(self._row).decode(raw)
            values = self._values([raw]) or []
        except msgspec.ValidationError as exc:
            raise self._mistyped(str(exc)) from exc
        except msgspec.DecodeError as exc:
            raise _Bad("record.json", str(exc)) from exc
        except (CapExceeded, RecursionError) as exc:
            raise _Bad("record.too_deep", f"nested deeper than {payload.MAX_DEPTH}") from exc
        key = self._key_of(row)
        if key == "":
            raise self._no_key("it is empty")
        if payload.has_twice(raw, self.spec.key):
            raise _Bad("record.key_twice", f"`{self.spec.key}` stands twice in the row, so it does not name one")
        return str(key), values

    def _mistyped(self, reason: str) -> _Bad:
        key = self.spec.key
        if reason.startswith(f"Object missing required field `{key}`"):
            return self._no_key("it is absent")
        if reason.endswith(f"got `null` - at `$.{key}`"):
            return self._no_key("it is null")
        return _Bad("record.type", reason)

    def _no_key(self, why: str) -> _Bad:
        return _Bad("record.key_missing", f"no key: `{self.spec.key}` names the row, but {why}")


def _projection(spec: SourceSpec) -> type[msgspec.Struct]:
    kinds = parse_fields(spec.fields)
    annotations = {name: kind.annotation for name, kind in kinds.items()}
    declared = kinds.get(spec.key)
    if declared is not None and declared.word not in ("str", "int", "enum"):
        raise RecordError(
            f"the key `{spec.key}` is declared as `{declared}`, which cannot name a row",
            hint="declare it as str, int or enum(...), or leave it out of [source.fields]",
        )
    # A key is never null, whatever is declared: rows without one cannot be matched to results.
    annotations[spec.key] = str | int
    if declared is not None:
        annotations[spec.key] = msgspec.structs.replace(declared, nullable=False).annotation
    optional = frozenset(name for name, kind in kinds.items() if kind.nullable and name != spec.key)
    return struct_from("SourceRow", annotations, optional=optional)


def _first_not_utf8(raw: bytes) -> int:
    try:
        raw.decode()
    except UnicodeDecodeError as exc:
        return exc.start
    return len(raw)


def _empty(name: str, window: Lines) -> Batch:
    return Batch(
        input=name,
        start=window.start,
        end=window.end,
        line=window.line,
        next_line=window.next_line,
        raws=[],
        ends=[],
        lines=[],
        keys=[],
        bad=[],
        gone=[],
    )


def _bad_record(name: str, window: Lines, index: int, bad: _Bad) -> BadRecord:
    start, end = window.extent(index)
    return BadRecord(
        input=name,
        line=window.line + index,
        start=start,
        end=end,
        raw=window.texts[index],
        code=bad.code,
        reason=bad.reason,
    )
