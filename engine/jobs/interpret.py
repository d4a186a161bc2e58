"""What a result says, row by row: which rows were accepted, which refused, and why.

Plain work on windows of bytes; it fetches nothing and lands nothing. Decoders are built once per pipeline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import msgspec

from engine.codec.fields import struct_of
from engine.codec.payload import decoder
from engine.contract.kinds import Kind
from engine.contract.profile import PROFILE
from engine.errors import BrokenAnswer, PartialFailure, Unbalanced
from engine.jobs.records import Ended
from engine.pipeline.memory import element_max
from engine.pipeline.spec import PipelineSpec
from engine.ports import Sink

_REASON_MAX = 500
# How the kinds call their count of all rows.
_TOTALS = tuple(dict.fromkeys(kind.total for kind in PROFILE.kinds.values()))


class Caps(msgspec.Struct, frozen=True, kw_only=True):
    """What a result may be at most: one row of it, the whole once inflated, and how dense; bytes."""

    element: int = 64 * 1024 * 1024
    inflated: int = 64 * 1024**3
    ratio: float = 100


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How a pipeline reads row results. `row` is the Struct that lands (None: the row as it came)."""

    match: str
    status: str | None
    accepted: frozenset[str]
    rejected: frozenset[str]
    row: type[msgspec.Struct] | None
    encode: Callable[[Sequence[Any]], bytes]
    takes_raw: bool
    caps: Caps = Caps()

    @property
    def heads(self) -> Any:
        """The decoder of what is matched and counted in each row."""
        head: Any = _head_type(self.match, self.status)
        return decoder(list[head])


def reading_of(spec: PipelineSpec, kind: Kind, sink: Sink) -> Reading:
    """How a pipeline reads the results of a kind: as it says itself, else as the kind does."""
    results = spec.results
    return Reading(
        match=results.match or kind.match,
        status=results.status or kind.status,
        accepted=frozenset(kind.accepted if results.accepted is None else results.accepted),
        rejected=frozenset(kind.rejected if results.rejected is None else results.rejected),
        row=struct_of("ResultRow", spec.results.fields) if spec.results.fields else None,
        encode=sink.encode,
        takes_raw=spec.sink.type == "ndjson",
        caps=Caps(element=element_max(spec)),
    )


class Taken(msgspec.Struct, gc=False):
    """What one window brought: encoded accepted rows, and the ends of all others."""

    chunk: bytes
    accepted: int
    ended: list[Ended]


class Interpreter:
    """Reads the windows of one job's result and keeps its tally."""

    def __init__(self, reading: Reading, *, rows_max: int) -> None:
        self._reading = reading
        self._rows_max = rows_max
        self._heads = reading.heads
        row: Any = reading.row or msgspec.Raw
        self._rows = decoder(list[row])
        self.keys: list[str] = []
        self.statuses: Counter[str] = Counter()

    def window(self, text: bytes) -> Taken:
        """Take one window: a JSON array of whole row results.

        Raises:
            Unbalanced: more rows than the job sent, a row without its match member, or a status in no bucket.
            BrokenAnswer: these are not the bytes the platform sent.
        """
        _check_text(text)
        try:
            heads = self._heads.decode(text)
            rows = self._rows.decode(text)
        except msgspec.DecodeError:
            return self._one_by_one(text)
        if len(self.keys) + len(heads) > self._rows_max:
            raise Unbalanced(f"the result holds more than the {self._rows_max} rows that were sent")
        self.keys.extend([_key_text(head.key) for head in heads])
        if self._reading.status is None:
            self.statuses["present"] += len(heads)
            return self._encoded(heads, rows, [])
        seen = Counter([head.status for head in heads])
        self.statuses.update(seen)
        if seen.keys() <= self._reading.accepted:
            return self._encoded(heads, rows, [])
        good, ended = [], []
        for head, row in zip(heads, rows, strict=True):
            if head.status in self._reading.accepted:
                good.append((head, row))
            elif head.status in self._reading.rejected:
                reason = _reason(head)
                ended.append(Ended(_key_text(head.key), "rejected", "result", f"platform.{head.status}", reason))
            else:
                raise Unbalanced(
                    f"row {_key_text(head.key)!r} has status {head.status!r}, which is in no bucket",
                    hint="list it under [results] accepted or rejected",
                )
        return self._encoded([head for head, _ in good], [row for _, row in good], ended)

    def _encoded(self, heads: list[Any], rows: list[Any], ended: list[Ended]) -> Taken:
        """The accepted rows of a window, encoded; a row the sink cannot hold is dead."""
        try:
            return Taken(self._encode(rows), len(rows), ended)
        except PartialFailure as exc:
            lost = [
                Ended(_key_text(heads[index].key), "dead", "sink", "record.encode", reason[:_REASON_MAX])
                for index, reason in exc.failures.items()
            ]
            kept = [row for index, row in enumerate(rows) if index not in exc.failures]
            return Taken(self._encode(kept), len(kept), ended + lost)

    def _encode(self, rows: list[Any]) -> bytes:
        if not rows:
            return b""
        if self._reading.row is not None:
            return self._reading.encode(rows)
        # Rows pass as the bytes they came in, unless a line break inside one would tear an NDJSON line.
        if self._reading.takes_raw and not any(b"\n" in bytes(row) for row in rows):
            return b"\n".join([bytes(row) for row in rows]) + b"\n"
        return self._reading.encode([_plain.decode(row) for row in rows])

    def _one_by_one(self, text: bytes) -> Taken:
        """A window in which some row has an unexpected shape: that row is dead, the others count."""
        try:
            rows = _raws.decode(text)
        except msgspec.DecodeError as exc:
            raise BrokenAnswer(f"the result is not valid JSON: {exc}") from exc
        parts = [self._single(bytes(row)) for row in rows]
        return Taken(
            b"".join(part.chunk for part in parts),
            sum(part.accepted for part in parts),
            [row for part in parts for row in part.ended],
        )

    def _single(self, row: bytes) -> Taken:
        text = b"[" + row + b"]"
        try:
            self._heads.decode(text)
        except msgspec.DecodeError as exc:
            raise Unbalanced(
                f"a row of the result cannot be matched: {exc}",
                hint="check [results] match and status against what the platform answers",
            ) from exc
        try:
            self._rows.decode(text)
        except msgspec.DecodeError as exc:
            head = self._heads.decode(text)[0]
            key = _key_text(head.key)
            self.keys.append(key)
            self.statuses[head.status if self._reading.status else "present"] += 1
            return Taken(b"", 0, [Ended(key, "dead", "result", "record.type", str(exc)[:_REASON_MAX])])
        return self.window(text)


def disagreement(summary: dict[str, Any], statuses: Counter[str], rows: int) -> str | None:
    """Where the platform's own counts and ours differ, in words; None when they agree.

    Reads `summary` by its members' names: totals (`received`, `requested` by default), and one count per status.
    """
    for name in _TOTALS:
        total = summary.get(name)
        if isinstance(total, int) and total != rows:
            return f"the platform counts {total} {name}, we sent {rows}"
    for name, counted in summary.items():
        if name in (*_TOTALS, "computed") or not isinstance(counted, int):
            continue
        if counted != statuses.get(name, 0):
            return f"the platform counts {counted} {name}, the result holds {statuses.get(name, 0)}"
    return None


def difference(sent: Sequence[str], answered: Sequence[str]) -> str:
    """In words: which rows are missing from a result, and which it holds too often."""
    want, have = Counter(sent), Counter(answered)
    missing, extra = want - have, have - want
    said = f"{len(sent)} rows sent, {len(answered)} answered: {missing.total()} missing, {extra.total()} too many"
    if missing:
        said += f"; first missing {min(missing)!r}"
    if extra:
        said += f"; first too many {min(extra)!r}"
    return said


@cache
def _head_type(match: str, status: str | None) -> type[Any]:
    rename = {"key": match, "status": status or "\ue000"}
    return msgspec.defstruct(
        "Head",
        [
            ("key", str | int),
            ("status", str) if status else ("status", str, "present"),
            ("error", Any, None),
            ("errors", Any, None),
        ],
        rename=rename,
        gc=False,
    )


_plain = decoder(dict[str, Any])
_raws = decoder(list[msgspec.Raw])


def _check_text(text: bytes) -> None:
    """Refuse a window with a byte that went wrong on its way.

    Decoding does not look into members that pass as they are, or that nobody asked for: the byte would land in the
    sink, or cost its row, where reading the result again mends it.
    """
    if not text.isascii():
        try:
            text.decode()
        except UnicodeDecodeError as exc:
            raise BrokenAnswer(f"the result is not UTF-8: {exc.reason} at byte {exc.start} of a window") from exc


def _key_text(key: str | int) -> str:
    return key if isinstance(key, str) else str(key)


def _reason(head: Any) -> str:
    if head.error:
        return (head.error if isinstance(head.error, str) else str(head.error))[:_REASON_MAX]
    if isinstance(head.errors, list) and head.errors:
        said = [_fault(item) for item in head.errors[:3]]
        return "; ".join(said)[:_REASON_MAX]
    return f"the platform answered {head.status!r}"


def _fault(item: Any) -> str:
    if isinstance(item, dict):
        return f"{item.get('pointer', '')} {item.get('message', '')}".strip()
    return str(item)
