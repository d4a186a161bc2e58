"""The four job kinds: how a batch becomes a payload, and what the result looks like (Q70-Q73).

`KINDS` is what the batcher, the fetch lane and the emulator's work read. Payload and result members
beyond `profile_ids` are our default of the contract profile.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

IMPORT = "import.bulk"
ENRICH = "intelligence.enrich.bulk"
EXPORT = "export.bulk"
GRAPH = "graph.compute"


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """How one kind carries rows.

    carries    "rows": each record travels whole; "keys": only its key travels
    path       where in the payload the array of rows or keys goes
    results    the result member that holds the row results; for `files` see `manifest`
    match      the member of a row result that names the input row; `index` counts from 0 in the batch
    status     the member that says how the row ended, None when presence is success
    accepted, rejected   default buckets by status
    manifest   True: the result is a list of files to fetch (`files`), each a lease of its own
    rows_max   most rows a job may carry
    defaults   payload members the platform requires, used unless the pipeline says otherwise
    members    payload members we know of; the platform may take more
    """

    name: str
    carries: Literal["rows", "keys"]
    path: tuple[str, ...]
    results: str
    match: str
    status: str | None
    accepted: tuple[str, ...]
    rejected: tuple[str, ...]
    manifest: bool = False
    rows_max: int = 10_000
    defaults: dict[str, Any] = {}
    members: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            name=IMPORT, carries="rows", path=("source", "inline"), results="rows", match="external_id",
            status="status", accepted=("created", "updated", "merged"), rejected=("skipped", "failed"),
            defaults={"entity_type": "person", "mode": "upsert", "on_error": "skip"},
            members=("source", "entity_type", "mapping", "mode", "dedupe", "on_error", "max_errors", "dry_run"),
        ),
        Kind(
            name=ENRICH, carries="keys", path=("profile_ids",), results="results", match="profile_id",
            status="status", accepted=("succeeded",), rejected=("failed",),
            members=("profile_ids", "providers", "fields", "force"),
        ),
        Kind(
            name=EXPORT, carries="keys", path=("filter", "ids"), results="files", match="id",
            status=None, accepted=(), rejected=(), manifest=True, defaults={"format": "jsonl"},
            members=("entity_types", "filter", "fields", "format", "mask_pii"),
        ),
        Kind(
            name=GRAPH, carries="keys", path=("scope", "node_ids"), results="nodes", match="id",
            status=None, accepted=(), rejected=(), members=("algorithm", "scope", "params"),
        ),
    )
}  # fmt: skip


class ImportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row result of `import.bulk`; `errors` are `{"pointer","message"}` (RFC 6901 pointers)."""

    index: int
    external_id: str | None
    status: str
    id: str | None
    errors: list[dict[str, Any]] = []


class ImportSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The platform's own count of an import."""

    received: int
    created: int
    updated: int
    merged: int
    skipped: int
    failed: int


class Attribute(msgspec.Struct, frozen=True, kw_only=True):
    """One derived attribute; confidence in [0, 1]."""

    name: str
    value: Any
    confidence: float
    source: str
    retrieved_at: str


class EnrichRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row result of `intelligence.enrich.bulk`; score 0-100."""

    profile_id: str
    status: str
    attributes: list[Attribute] = []
    enrichment_score: int | None = None
    error: str | None = None


class EnrichSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The platform's own count of an enrichment."""

    requested: int
    succeeded: int
    failed: int


class ExportFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an export: rows and bytes as stored, SHA-256 in hex of those bytes, and a signed URL."""

    name: str
    format: str
    rows: int
    bytes: int
    sha256: str
    url: str


class ExportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One exported entity in the JSON formats."""

    id: str
    external_id: str | None
    entity_type: str
    label: str | None
    updated_at: str
    properties: dict[str, Any]
    enrichment: dict[str, Any] | None = None


class GraphNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node of `graph.compute`; roles BRIDGE, HUB, PERIPHERAL, ANOMALOUS."""

    id: str
    score: float | None
    role: str | None
    x: float | None = None
    y: float | None = None
    community: int | None = None
