"""export.bulk: entities become files (Q71), and the result is the list of those files.

Rows are read page by page and written piece by piece, so an export of any size runs in bounded memory. How a row
looks in each format is `export_formats`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from engine.codec.payload import loads
from engine.contract.kinds import EXPORT
from engine.contract.problem import FieldFault
from engine.contract.profile import PROFILE
from engine.contract.provenance import EXPORT as DEED
from engine.contract.results import ExportRow
from engine.emulator.entities import WITNESS, Effect, Entity, Query
from engine.emulator.export_formats import FORMATS, Format, masked
from engine.emulator.work import (
    STEP_ROWS,
    Craft,
    Desk,
    Outcome,
    Page,
    Stored,
    Task,
    Vouch,
    Work,
    WorkFailed,
    fault,
    notes_of,
    read_payload,
)

# A larger export is cut into several files, so that no reader has to take it in one go.
FILE_ROWS = 100_000
_NAMES = PROFILE.export_file_names
_FILTER, _IDS = PROFILE.export_bulk.path
_UNSERVED = ("parquet", "stix21", "xlsx", "xml")


class Filter(msgspec.Struct, kw_only=True, rename={"ids": _IDS}):
    """Which entities. `ids` may name entity ids or external ids; times are RFC 3339, both ends inclusive."""

    ids: list[str] | None = None
    external_ids: list[str] | None = None
    updated_from: str | None = None
    updated_to: str | None = None
    entity_type: str | None = None


class ExportPayload(msgspec.Struct, kw_only=True, rename={"filter": _FILTER}):
    """The payload; `fields` names the properties to write, `mask_pii` hides what names or reaches a person."""

    entity_types: list[str] | None = None
    filter: Filter | None = None
    fields: list[str] | None = None
    format: str = "jsonl"
    mask_pii: bool = False


def check(payload: bytes, vouch: Vouch) -> list[FieldFault]:
    """Everything that is wrong with an export's payload, before a job exists."""
    asked = read_payload(payload, ExportPayload)
    if isinstance(asked, list):
        return asked
    faults = []
    if asked.format not in FORMATS:
        why = "not written by the emulator" if asked.format in _UNSERVED else "unknown"
        faults.append(fault(f"{asked.format} is {why}; it writes {', '.join(FORMATS)}", "format"))
    wanted = asked.filter or Filter()
    for name in ("updated_from", "updated_to"):
        text = getattr(wanted, name)
        if text is not None and _moment(text) is None:
            faults.append(fault("not an RFC 3339 time", _FILTER, name))
    if wanted.ids is not None and wanted.external_ids is not None:
        faults.append(fault(f"give either {_IDS} or external_ids", _FILTER))
    for name, names in ((_IDS, wanted.ids), ("external_ids", wanted.external_ids)):
        if names is not None and len(names) > PROFILE.profile_ids_max:
            faults.append(fault(f"give at most {PROFILE.profile_ids_max}", _FILTER, name))
    return faults


def _moment(text: str) -> str | None:
    """A time as entities carry it, or None."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    if at.tzinfo is None:
        return None
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _query(asked: ExportPayload) -> Query:
    wanted = asked.filter or Filter()
    types = tuple(asked.entity_types or ())
    if wanted.entity_type:
        types = tuple(t for t in types if t == wanted.entity_type) if types else (wanted.entity_type,)
        types = types or ("",)
    return Query(
        entity_types=types,
        updated_from=_moment(wanted.updated_from) if wanted.updated_from else None,
        updated_to=_moment(wanted.updated_to) if wanted.updated_to else None,
    )


def _is_wanted(entity: Entity, query: Query) -> bool:
    return (
        (not query.entity_types or entity.entity_type in query.entity_types)
        and (query.updated_from is None or entity.updated_at >= query.updated_from)
        and (query.updated_to is None or entity.updated_at <= query.updated_to)
    )


def _pages(asked: ExportPayload, desk: Desk) -> Iterator[list[tuple[str, Entity]]]:
    """The entities with the name each was asked by, in the order asked, else by id."""
    query = _query(asked)
    wanted = asked.filter or Filter()
    names = wanted.ids if wanted.ids is not None else wanted.external_ids
    if names is not None:
        for at in range(0, len(names), STEP_ROWS):
            some = names[at : at + STEP_ROWS]
            found = desk.shelf.find(some)
            yield [(name, found[name]) for name in some if name in found and _is_wanted(found[name], query)]
        return
    after = ""
    while page := desk.shelf.page(query, after=after, limit=STEP_ROWS):
        after = page[-1].id
        yield [(entity.id, entity) for entity in page]


def row_of(name: str, entity: Entity, asked: ExportPayload) -> ExportRow:
    """An entity as a row; `id` is the name it was asked by, so that rows can be matched to questions."""
    properties = loads(entity.properties)
    if asked.fields is not None:
        properties = {field: properties[field] for field in asked.fields if field in properties}
    row = ExportRow(
        id=name, external_id=entity.external_id, entity_type=entity.entity_type, label=entity.label,
        updated_at=entity.updated_at, properties=properties,
        enrichment=None if entity.enrichment is None else loads(entity.enrichment),
    )  # fmt: skip
    return masked(row) if asked.mask_pii else row


class _Files:
    """The files of one export: opened when a row comes, closed when full."""

    def __init__(self, desk: Desk, name: str, layout: Format) -> None:
        self._desk = desk
        self._name = name
        self._layout = layout
        self._page: Page | None = None
        self._rows = 0
        self._is_first = True
        self.done: list[dict[str, Any]] = []

    def add(self, rows: list[ExportRow]) -> None:
        """Append rows, at most a step of them, to the file that is open."""
        if self._page is not None and self._rows + len(rows) > FILE_ROWS:
            self.close()
        page = self._open()
        # The manifest says what should be there; what is spoiled is what really is.
        self._layout_rows(page, self._desk.spoil(rows))
        self._rows += len(rows)

    def _layout_rows(self, page: Page, rows: list[ExportRow]) -> None:
        if rows:
            page.write(self._layout.rows(rows, self._is_first))
            self._is_first = False

    def _open(self) -> Page:
        if self._page is None:
            name = f"entities-{len(self.done) + 1:04d}.{self._layout.suffix}"
            self._page = self._desk.open(name, self._layout.media_type)
            self._page.write(self._layout.head())
            self._rows, self._is_first = 0, True
        return self._page

    def close(self) -> None:
        """End the open file; an export of nothing is one file without rows."""
        page = self._open()
        page.write(self._layout.tail())
        stored: Stored = page.close()
        self._page = None
        told = {
            "name": stored.name, "format": self._name, "rows": self._rows, "bytes": stored.body_bytes,
            "sha256": stored.sha256,
        }  # fmt: skip
        self.done.append({_NAMES[name]: value for name, value in told.items()})


def perform(task: Task, desk: Desk) -> Work:
    """Write the files, then the manifest."""
    asked = read_payload(task.payload, ExportPayload)
    if isinstance(asked, list):
        raise WorkFailed("invalid_payload", asked[0].msg)
    layout = FORMATS[asked.format]()
    if layout.needs_columns:
        columns: set[str] = set()
        for page in _pages(asked, desk):
            columns.update(*(loads(entity.properties) for _, entity in page))
            yield None
        layout.columns = [c for c in asked.fields if c in columns] if asked.fields else sorted(columns)
    files = _Files(desk, asked.format, layout)
    effects: list[Effect] = []
    for page in _pages(asked, desk):
        if page:
            files.add([row_of(name, entity, asked) for name, entity in page])
        if notes := notes_of(task, DEED, (entity for _, entity in page)):
            effects.append(Effect(WITNESS, [*notes]))
        yield None
    files.close()
    rows = sum(file[_NAMES["rows"]] for file in files.done)
    summary = desk.miscount({"files": len(files.done), PROFILE.export_bulk.total: rows})
    found = {PROFILE.result_summary: summary, PROFILE.export_bulk.results: files.done}
    desk.manifest({"job_id": task.job_id, "kind": EXPORT, **found})
    return Outcome(effects=effects, summary=summary)


CRAFT = Craft(check, perform, ExportPayload)
