"""import.bulk: rows become entities (Q72).

Which member of a row is the external id and which the label is the mapping's business; everything else is kept
as properties. Statuses are decided in input order against what is stored, and nothing is stored here.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Literal

import msgspec

from engine.codec.payload import dumps, encode, loads
from engine.contract.kinds import IMPORT
from engine.contract.problem import FieldFault
from engine.contract.profile import PROFILE
from engine.contract.provenance import CREATE, UPDATE
from engine.contract.results import ImportRow, ImportSummary
from engine.emulator.entities import PUT, WITNESS, Effect, Entity, entity_id
from engine.emulator.provenance_chain import Note, is_evidence
from engine.emulator.work import (
    STEP_ROWS,
    Craft,
    Desk,
    Outcome,
    Task,
    Vouch,
    Work,
    WorkFailed,
    fault,
    notes_of,
    read_payload,
    write_rows,
)
from engine.errors import RecordError

EXTERNAL_ID_MAX = 256
SOURCE_ROWS_MAX = 100_000
_KIND = PROFILE.import_bulk
_ENDS = ("created", "updated", "merged", "skipped", "failed")
CREATED, UPDATED, MERGED, SKIPPED, FAILED = _STATUSES = (*_KIND.accepted, *_KIND.rejected)
_SOURCE, _INLINE = _KIND.path


class Source(msgspec.Struct, kw_only=True, rename={"inline": _INLINE}):
    """Where the rows are: in the payload, or in a result file of ours (JSON lines)."""

    inline: list[msgspec.Raw] | None = None
    url: str | None = None
    format: Literal["jsonl"] = "jsonl"
    sha256: str | None = None


class Dedupe(msgspec.Struct, kw_only=True):
    """Take a row for a known entity when type and label are alike enough, whatever its external id."""

    threshold: float = 0.75
    strategy: Literal["keep-newer", "keep-older", "combine-all"] = "keep-newer"


class ImportPayload(msgspec.Struct, kw_only=True, rename={"source": _SOURCE}):
    """The payload; `mapping` says what a row's member is called with us (`external_id`, `label`, a property)."""

    source: Source
    entity_type: str
    mapping: dict[str, str] = {}
    mode: Literal["insert", "upsert"] = "upsert"
    dedupe: Dedupe | None = None
    on_error: Literal["abort", "skip"] = "skip"
    max_errors: int | None = None
    dry_run: bool = False


class _Row(msgspec.Struct):
    """A row that can be stored."""

    index: int
    external_id: str
    label: str | None
    members: dict[str, Any]


def check(payload: bytes, vouch: Vouch) -> list[FieldFault]:
    """Everything that is wrong with an import's payload, before a job exists."""
    asked = read_payload(payload, ImportPayload)
    if isinstance(asked, list):
        return asked
    faults = []
    if (asked.source.inline is None) == (asked.source.url is None):
        faults.append(fault(f"give either {_INLINE} or url", _SOURCE))
    if asked.source.inline is not None and not asked.source.inline:
        faults.append(fault("give at least one row", *_KIND.path))
    if asked.source.url is not None and not vouch(asked.source.url):
        # Nothing is ever fetched from elsewhere: a source by URL is a result file of this very platform.
        faults.append(fault("not a live signed URL of a result of yours", _SOURCE, "url"))
    if not asked.entity_type:
        faults.append(fault("give the type of the rows, such as person", "entity_type"))
    if asked.dedupe and not 0 < asked.dedupe.threshold <= 1:
        faults.append(fault("a threshold is above 0 and at most 1", "dedupe", "threshold"))
    if asked.max_errors is not None and asked.max_errors < 0:
        faults.append(fault("give 0 or more", "max_errors"))
    targets = Counter(asked.mapping.values())
    faults += [fault(f"{target} is mapped {times} times", "mapping") for target, times in targets.items() if times > 1]
    return faults


class _Import:
    """One import under way: what is known, and what was decided so far."""

    def __init__(self, task: Task, desk: Desk, asked: ImportPayload) -> None:
        self._task = task
        self._shelf = desk.shelf
        self._asked = asked
        back = {target: source for source, target in asked.mapping.items()}
        self._id_member = back.get("external_id")
        self._label_member = back.get("label", "label")
        self._renames = {s: t for s, t in asked.mapping.items() if t not in ("external_id", "label") and s != t}
        self._seen: dict[str, Entity] = {}
        self.counts: Counter[str] = Counter()
        self.notes: list[Note] = []
        self._is_evidence = is_evidence(asked.entity_type)

    def take(self, first: int, raws: list[bytes]) -> tuple[list[ImportRow], list[tuple[Any, ...]]]:
        """Decide a run of rows that begins at index `first`: their results, and the rows to store."""
        read = [self._read(first + n, raw) for n, raw in enumerate(raws)]
        names = [row.external_id for row in read if isinstance(row, _Row) and row.external_id not in self._seen]
        known = self._shelf.known(names) if names else {}
        results: list[ImportRow] = []
        effects: list[tuple[Any, ...]] = []
        for row in read:
            result = row if isinstance(row, ImportRow) else self._decide(row, known, effects)
            self.counts[result.status] += 1
            results.append(result)
        return results, effects

    def _read(self, index: int, raw: bytes) -> _Row | ImportRow:
        try:
            members = loads(raw)
        except RecordError as exc:
            return _failed(index, None, "", str(exc.message))
        if not isinstance(members, dict):
            return _failed(index, None, "", "a row is an object")
        member = self._id_member or ("external_id" if "external_id" in members else "id")
        name = members.pop(member, None)
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if not isinstance(name, str) or not name:
            why = "external id is missing" if name is None else "an external id is a text or an integer"
            return _failed(index, None, _pointer(member), why)
        if len(name) > EXTERNAL_ID_MAX:
            return _failed(index, None, _pointer(member), f"longer than {EXTERNAL_ID_MAX} characters")
        label = members.pop(self._label_member, None)
        for source, target in self._renames.items():
            if source in members:
                members[target] = members.pop(source)
        return _Row(index, name, None if label is None else str(label), members)

    def _decide(self, row: _Row, known: dict[str, Entity], effects: list[tuple[Any, ...]]) -> ImportRow:
        there = self._seen.get(row.external_id) or known.get(row.external_id)
        status = CREATED if there is None else UPDATED
        if there is None and self._asked.dedupe:
            there = self._likeness(row)
            status = CREATED if there is None else MERGED
        if status == UPDATED and self._asked.mode == "insert":
            status = SKIPPED
        if there is None or status == UPDATED:
            identity = there.id if there else entity_id(self._task.realm, row.external_id)
            stored = self._entity(row.external_id, identity, row.label, dumps(row.members))
        elif status == MERGED:
            stored = self._merge(there, row)
        else:
            return ImportRow(index=row.index, external_id=row.external_id, status=status, id=there.id)
        self._seen[stored.external_id] = stored
        if self._is_evidence:
            whole = stored if there is None else msgspec.structs.replace(stored, enrichment=there.enrichment)
            self.notes += notes_of(self._task, CREATE if there is None else UPDATE, (whole,))
        effects.append(
            (
                self._task.realm, stored.external_id, stored.id, stored.entity_type, stored.label,
                stored.properties, stored.updated_at,
            )
        )  # fmt: skip
        return ImportRow(index=row.index, external_id=row.external_id, status=status, id=stored.id)

    def _entity(self, external_id: str, id: str, label: str | None, properties: bytes) -> Entity:
        return Entity(id, external_id, self._asked.entity_type, label, properties, self._task.now)

    def _likeness(self, row: _Row) -> Entity | None:
        """The entity most like the row by label, at or over the threshold; the first by id among equals."""
        if not row.label or self._asked.dedupe is None:
            return None
        prefix = row.label[:2]
        rivals = {e.id: e for e in self._shelf.alike(self._asked.entity_type, prefix)}
        rivals.update((e.id, e) for e in self._seen.values() if e.label and e.label.startswith(prefix))
        scored = sorted((-_alike(row.label, e.label or ""), e.id) for e in rivals.values())
        if scored and -scored[0][0] >= self._asked.dedupe.threshold:
            return rivals[scored[0][1]]
        return None

    def _merge(self, there: Entity, row: _Row) -> Entity:
        old = loads(there.properties)
        strategy = self._asked.dedupe.strategy if self._asked.dedupe else "keep-newer"
        if strategy == "keep-newer":
            members, label = {**old, **row.members}, row.label
        elif strategy == "keep-older":
            members, label = {**row.members, **old}, there.label
        else:
            both = {name: [old[name], new] for name, new in row.members.items() if old.get(name, new) != new}
            members, label = {**old, **row.members, **both}, there.label
        return self._entity(there.external_id, there.id, label, dumps(members))


def _alike(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one.casefold(), other.casefold(), autojunk=False).ratio()


def _pointer(member: str) -> str:
    """A JSON pointer to a member (RFC 6901 section 3)."""
    return "/" + member.replace("~", "~0").replace("/", "~1")


def _failed(index: int, external_id: str | None, pointer: str, message: str) -> ImportRow:
    return ImportRow(
        index=index, external_id=external_id, status=FAILED, id=None,
        errors=[{"pointer": pointer, "message": message}],
    )  # fmt: skip


def _raws(asked: ImportPayload, desk: Desk) -> Iterable[bytes]:
    if asked.source.inline is not None:
        return (bytes(raw) for raw in asked.source.inline)
    return (line for line in desk.source_lines(asked.source.url or "") if line.strip())


def perform(task: Task, desk: Desk) -> Work:
    """Decide every row, write the result document, and hand back the rows to store."""
    asked = read_payload(task.payload, ImportPayload)
    if isinstance(asked, list):
        raise WorkFailed("invalid_payload", asked[0].msg)
    under_way = _Import(task, desk, asked)
    raws: Iterator[bytes] = iter(_raws(asked, desk))
    written: list[bytes] = []
    effects: list[Effect] = []
    received = 0
    while step := list(islice(raws, STEP_ROWS)):
        results, rows = under_way.take(received, step)
        received += len(step)
        _stop_at_errors(asked, under_way.counts[FAILED], received)
        if spoiled := desk.spoil(results):
            written.append(encode(spoiled)[1:-1])
        if rows and not asked.dry_run:
            effects.append(Effect(PUT, rows))
            if under_way.notes:
                effects.append(Effect(WITNESS, [*under_way.notes]))
        under_way.notes.clear()
        yield None
    counts = {end: under_way.counts[status] for end, status in zip(_ENDS, _STATUSES, strict=True)}
    summary = desk.miscount(msgspec.to_builtins(ImportSummary(received=received, **counts)))
    page = desk.open("", "application/json")
    page.write(
        encode({"job_id": task.job_id, "kind": IMPORT, PROFILE.result_summary: summary})[:-1]
        + b","
        + encode(_KIND.results)
        + b":["
    )
    yield from write_rows(page, written, pad=desk.pad)
    page.write(b"]}")
    page.close()
    return Outcome(effects=effects, summary=summary)


def _stop_at_errors(asked: ImportPayload, failed: int, received: int) -> None:
    if failed and asked.on_error == "abort":
        raise WorkFailed("row_failed", "a row cannot be imported and on_error is abort")
    if asked.max_errors is not None and failed > asked.max_errors:
        raise WorkFailed("too_many_errors", f"more than {asked.max_errors} rows cannot be imported")
    if received > SOURCE_ROWS_MAX:
        raise WorkFailed("source_too_large", f"a source has at most {SOURCE_ROWS_MAX} rows")


CRAFT = Craft(check, perform, ImportPayload)
