"""Applies the transforms of a pipeline to a batch, keeping every record's place and end.

Plain work on a thread. A record that a transform fails on is bad, one it drops is gone; both keep their
offsets, so the books still know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.codec.payload import dumps
from engine.errors import PartialFailure, RecordError
from engine.ports import Transform
from engine.record import BadRecord, Batch


def transform(batch: Batch, transforms: Sequence[Transform], *, key: str) -> tuple[Batch, list[bytes]]:
    """The batch after all transforms, and the JSON of each record as it now is.

    `raws` stay what was read: dead letters hold those, payloads hold the second value.
    """
    if batch.values is None:
        return batch, batch.raws
    live: list[tuple[int, dict[str, Any]]] = list(enumerate(batch.values))
    bad: dict[int, tuple[str, str]] = {}
    gone: list[int] = []
    for step in transforms:
        live = _apply(step, live, bad, gone)
    keyed: list[tuple[int, str]] = []
    texts: list[bytes] = []
    for index, value in live:
        name = key_text(value.get(key))
        if name is None:
            bad[index] = ("record.key_missing", f"after the transforms there is no usable {key!r}")
            continue
        try:
            texts.append(dumps(value))
        except RecordError as exc:
            bad[index] = ("record.transform", f"after the transforms: {exc.message}")
        else:
            keyed.append((index, name))
    return _rebuilt(batch, keyed, bad, gone), texts


def key_text(value: Any) -> str | None:
    """A row key as text: strings as they are, integers in decimal; anything else is no key."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None


def _apply(
    step: Transform, live: list[tuple[int, dict[str, Any]]], bad: dict[int, tuple[str, str]], gone: list[int]
) -> list[tuple[int, dict[str, Any]]]:
    while live:
        try:
            results = step.apply([value for _, value in live])
        except PartialFailure as failure:
            for position, reason in failure.failures.items():
                bad[live[position][0]] = ("record.transform", reason)
            live = [entry for position, entry in enumerate(live) if position not in failure.failures]
            continue
        kept: list[tuple[int, dict[str, Any]]] = []
        for (index, _), result in zip(live, results, strict=True):
            if result is None:
                gone.append(index)
            else:
                kept.append((index, result))
        return kept
    return live


def _rebuilt(batch: Batch, keyed: list[tuple[int, str]], bad: dict[int, tuple[str, str]], gone: list[int]) -> Batch:
    rows = [index for index, _ in keyed]
    spoiled = [_bad_record(batch, index, *bad[index]) for index in sorted(bad)]
    return Batch(
        input=batch.input,
        start=batch.start,
        end=batch.end,
        line=batch.line,
        next_line=batch.next_line,
        raws=[batch.raws[index] for index in rows],
        ends=[batch.ends[index] for index in rows],
        lines=[batch.lines[index] for index in rows],
        keys=[name for _, name in keyed],
        values=None,
        bad=sorted([*batch.bad, *spoiled], key=lambda record: record.end),
        gone=sorted([*batch.gone, *(batch.ends[index] for index in gone)]),
        after=[batch.line_after(index) for index in rows],
    )


def _bad_record(batch: Batch, index: int, code: str, reason: str) -> BadRecord:
    start = batch.ends[index - 1] if index else batch.start
    return BadRecord(
        input=batch.input,
        line=batch.lines[index],
        start=start,
        end=batch.ends[index],
        raw=batch.raws[index],
        code=code,
        reason=reason,
        lines=batch.line_after(index) - batch.lines[index],
        key=batch.keys[index],
    )
