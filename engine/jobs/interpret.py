"""What a result says, row by row: which rows were accepted, which refused, and why.

Plain work on windows of bytes; it fetches nothing and lands nothing. Decoders are built once per pipeline.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from engine.codec.fields import parse_fields, struct_of
from engine.codec.payload import decoder, encode
from engine.codec.rows import array_rows, line_rows
from engine.contract.kinds import Kind
from engine.contract.profile import PROFILE
from engine.errors import BrokenAnswer, PartialFailure, Unbalanced
from engine.jobs.one_pass import Head, OnePass, head_type, key_text, one_pass
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
    """How a pipeline reads row results. `row` is the Struct that lands (None: the row as it came).

    `is_wide`: a row must fit `row` and lands as it came. `nulls` are the fields whose bad values become null;
    `is_strict`: a bad value is no row's affair, its job does not count.
    """

    match: str
    status: str | None
    accepted: frozenset[str]
    rejected: frozenset[str]
    row: type[msgspec.Struct] | None
    encode: Callable[[Sequence[Any]], bytes]
    takes_raw: bool
    caps: Caps = Caps()
    is_wide: bool = False
    nulls: frozenset[str] = frozenset()
    is_strict: bool = False

    @property
    def head(self) -> type[Head]:
        """What is matched and counted of each row."""
        return head_type(self.match, self.status)

    @property
    def heads(self) -> Any:
        """The decoder of an array of them."""
        head: Any = self.head
        return decoder(list[head])


def reading_of(spec: PipelineSpec, kind: Kind, sink: Sink) -> Reading:
    """How a pipeline reads the results of a kind: as it says itself, else as the kind does."""
    results, drift = spec.results, spec.results.drift
    row = None
    if results.fields:
        row = struct_of("ResultRow", results.fields, is_closed=drift.new_field == "reject")
    nullable = (name for name, kind in parse_fields(results.fields).items() if kind.nullable)
    return Reading(
        match=results.match or kind.match,
        status=results.status or kind.status,
        accepted=frozenset(kind.accepted if results.accepted is None else results.accepted),
        rejected=frozenset(kind.rejected if results.rejected is None else results.rejected),
        row=row,
        encode=sink.encode,
        takes_raw=spec.sink.takes_raw,
        caps=Caps(element=element_max(spec)),
        is_wide=drift.new_field == "widen" and row is not None,
        nulls=frozenset(nullable) if drift.bad_value == "null" else frozenset(),
        is_strict=drift.bad_value == "reject",
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
        self._known = reading.accepted | reading.rejected
        one = one_pass(reading.match, reading.status, reading.row)
        self._one = one.of_raw() if one and reading.is_wide else one
        row: Any = reading.row or msgspec.Raw
        self._fitting = decoder(list[row])
        self.nulled: Counter[str] = Counter()
        self.keys: list[str] = []
        self.statuses: Counter[str] = Counter()

    def lines(self, body: bytes) -> tuple[int, Taken] | None:
        """Take whole lines at once, each ended by a LF, and say how many they are.

        None, with nothing taken, where they need a closer look.
        """
        one = self._one
        found = None if one is None else line_rows(body, one.kind)
        if one is None or found is None or (seen := self._admitted(one, found)) is None:
            return None
        if one.lands:
            heads = None if self._are_accepted(seen) else decoder(self._reading.head).decode_lines(body)
            return len(found), self._take(one, seen, found, heads)
        if self._reading.takes_raw and self._are_accepted(seen):
            self._count(one.keys(found), seen)
            return len(found), Taken(body, len(found), [])
        if self._reading.is_wide:
            return None
        return len(found), self._take(one, seen, body[:-1].split(b"\n"), found)

    def elements(self, text: bytes) -> Taken | None:
        """Take a JSON array of rows at once; None, with nothing taken, where it needs a closer look, or is not one."""
        one = self._one
        found = None if one is None else array_rows(text, one.kind)
        if one is None or found is None or (seen := self._admitted(one, found)) is None:
            return None
        if one.lands:
            heads = None if self._are_accepted(seen) else self._heads.decode(text)
            return self._take(one, seen, found, heads)
        rows = _raws.decode(text)
        if self._reading.takes_raw and b"\n" not in text and self._are_accepted(seen):
            self._count(one.keys(found), seen)
            return Taken(b"\n".join((*rows, b"")), len(rows), [])
        if self._reading.is_wide:
            heads = self._heads.decode(text)
            self._count(one.keys(found), seen)
            return self._sorted(heads, rows)
        return self._take(one, seen, rows, found)

    def window(self, text: bytes) -> Taken:
        """Take one window: a JSON array of whole row results.

        Raises:
            Unbalanced: more rows than the job sent, a row without its match member, or a status in no bucket.
            BrokenAnswer: these are not the bytes the platform sent.
        """
        if (taken := self.elements(text)) is not None:
            return taken
        _check_text(text)
        try:
            heads = self._heads.decode(text)
            rows = self._fitting.decode(text)
            if self._reading.is_wide:
                rows = _raws.decode(text)
        except msgspec.DecodeError:
            return self._one_by_one(text)
        if len(self.keys) + len(heads) > self._rows_max:
            raise Unbalanced(f"the result holds more than the {self._rows_max} rows that were sent")
        self._count([key_text(head.key) for head in heads], Counter(head.status for head in heads))
        return self._sorted(heads, rows)

    def _admitted(self, one: OnePass, found: list[Any]) -> Mapping[str, int] | None:
        """The statuses of rows of which none is too many or in no bucket."""
        if len(self.keys) + len(found) > self._rows_max:
            return None
        seen = one.statuses(found)
        return seen if self._reading.status is None or seen.keys() <= self._known else None

    def _are_accepted(self, seen: Mapping[str, int]) -> bool:
        return self._reading.status is None or seen.keys() <= self._reading.accepted

    def _count(self, keys: list[str], seen: Mapping[str, int]) -> None:
        self.keys.extend(keys)
        for status, rows in seen.items():
            self.statuses[status] += rows

    def _take(self, one: OnePass, seen: Mapping[str, int], rows: list[Any], heads: list[Any] | None) -> Taken:
        """Count rows and encode them; `heads` tell those apart that are not all accepted."""
        keys = one.keys(rows if one.lands else heads or [])
        self._count(keys, seen)
        if one.lands and self._reading.takes_raw:  # Other sinks take the columns they declared.
            one.hide(rows)
        if heads is None or self._are_accepted(seen):
            return self._encoded(keys, rows, [])
        return self._sorted(heads, rows)

    def _sorted(self, heads: list[Any], rows: list[Any]) -> Taken:
        """Every row into its bucket."""
        reading = self._reading
        if reading.status is None:
            return self._encoded([key_text(head.key) for head in heads], rows, [])
        keys, good, ended = [], [], []
        for head, row in zip(heads, rows, strict=True):
            key = key_text(head.key)
            if head.status in reading.accepted:
                keys.append(key)
                good.append(row)
            elif head.status in reading.rejected:
                ended.append(Ended(key, "rejected", "result", f"platform.{head.status}", _reason(head)))
            else:
                raise Unbalanced(
                    f"row {key!r} has status {head.status!r}, which is in no bucket",
                    hint="list it under [results] accepted or rejected",
                )
        return self._encoded(keys, good, ended)

    def _encoded(self, keys: list[str], rows: list[Any], ended: list[Ended]) -> Taken:
        """The accepted rows of a window, encoded; a row the sink cannot hold is dead."""
        try:
            return Taken(self._encode(rows), len(rows), ended)
        except PartialFailure as exc:
            lost = [
                Ended(keys[index], "dead", "sink", "record.encode", reason[:_REASON_MAX])
                for index, reason in exc.failures.items()
            ]
            kept = [row for index, row in enumerate(rows) if index not in exc.failures]
            return Taken(self._encode(kept), len(kept), ended + lost)

    def _encode(self, rows: list[Any]) -> bytes:
        if not rows:
            return b""
        if self._reading.row is not None and not self._reading.is_wide:
            return self._reading.encode(rows)
        # Rows pass as the bytes they came in, unless a line break inside one would tear an NDJSON line.
        if self._reading.takes_raw:
            lines = b"\n".join((*rows, b""))
            if lines.count(b"\n") == len(rows):
                return lines
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
            self._fitting.decode(text)
        except msgspec.DecodeError as exc:
            if (mended := self._with_null(row, str(exc))) is not None:
                return self._single(mended)
            head = self._heads.decode(text)[0]
            key = key_text(head.key)
            if self._reading.is_strict and not str(exc).startswith(_NEW_FIELD):
                raise Unbalanced(
                    f"row {key!r} does not fit [results.fields]: {exc}",
                    hint='mend the field\'s type; or [results.drift] bad_value = "quarantine" lets the others count',
                ) from exc
            self._count([key], Counter([head.status]))
            return Taken(b"", 0, [Ended(key, "dead", "result", "record.type", str(exc)[:_REASON_MAX])])
        return self.window(text)

    def _with_null(self, row: bytes, said: str) -> bytes | None:
        """The row with null in the place of the value that did not fit; None where that may not be."""
        found = _AT_FIELD.search(said)
        if found is None or found[1] not in self._reading.nulls:
            return None
        members = _members.decode(row)
        members[found[1]] = msgspec.Raw(b"null")
        self.nulled[found[1]] += 1
        return encode(members)


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


_plain = decoder(dict[str, Any])
_members = decoder(dict[str, msgspec.Raw])
_NEW_FIELD = "Object contains unknown field"
# Where a value did not fit, in the decoder's words, for a member of the row itself.
_AT_FIELD = re.compile(r" - at `\$\[0\]\.([^`]+)`$")
_raws = decoder(list[msgspec.Raw])
_anything = decoder(Any)


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


def _reason(head: Any) -> str:
    if error := _told(head.error):
        return (error if isinstance(error, str) else str(error))[:_REASON_MAX]
    errors = _told(head.errors)
    if isinstance(errors, list) and errors:
        said = [_fault(item) for item in errors[:3]]
        return "; ".join(said)[:_REASON_MAX]
    return f"the platform answered {head.status!r}"


def _told(member: msgspec.Raw) -> Any:
    """What a row says of its failure; text that no decoder takes is told as it is."""
    if not member:
        return None
    try:
        return _anything.decode(member)
    except (msgspec.DecodeError, RecursionError):
        return bytes(member).decode(errors="replace")


def _fault(item: Any) -> str:
    if isinstance(item, dict):
        return f"{item.get('pointer', '')} {item.get('message', '')}".strip()
    return str(item)
