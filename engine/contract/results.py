"""Results: what comes back of each kind, row by row, and the platform's own count of it (Q70-Q73).

The members by which a row is matched and judged are called as the contract profile says; the rest is ours.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.kinds import Kind
from engine.contract.profile import PROFILE


def _names(kind: Kind, match: str) -> dict[str, str]:
    """How the members of a row are called that name the input row and how it ended."""
    return {match: kind.match} | ({"status": kind.status} if kind.status else {})


def _counted(kind: Kind, *ends: str) -> dict[str, str]:
    """Counts are called as the statuses they count."""
    return dict(zip(ends, (*kind.accepted, *kind.rejected), strict=True))


class ImportRow(msgspec.Struct, frozen=True, kw_only=True, rename=_names(PROFILE.import_bulk, "external_id")):
    """One row result of `import.bulk`; `errors` are `{"pointer","message"}` (RFC 6901 pointers)."""

    index: int
    external_id: str | None
    status: str
    id: str | None
    errors: list[dict[str, Any]] = []


_IMPORT_COUNTS = {"received": PROFILE.import_bulk.total} | _counted(
    PROFILE.import_bulk, "created", "updated", "merged", "skipped", "failed"
)


class ImportSummary(msgspec.Struct, frozen=True, kw_only=True, rename=_IMPORT_COUNTS):
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


class EnrichRow(msgspec.Struct, frozen=True, kw_only=True, rename=_names(PROFILE.enrich_bulk, "profile_id")):
    """One row result of `intelligence.enrich.bulk`; score 0-100."""

    profile_id: str
    status: str
    attributes: list[Attribute] = []
    enrichment_score: int | None = None
    error: str | None = None


_ENRICH_COUNTS = {"requested": PROFILE.enrich_bulk.total} | _counted(PROFILE.enrich_bulk, "succeeded", "failed")


class EnrichSummary(msgspec.Struct, frozen=True, kw_only=True, rename=_ENRICH_COUNTS):
    """The platform's own count of an enrichment."""

    requested: int
    succeeded: int
    failed: int


class ExportFile(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.export_file_names):
    """One file of an export: rows and bytes as stored, SHA-256 in hex of those bytes, and a signed URL."""

    name: str
    format: str
    rows: int
    bytes: int
    sha256: str
    url: str


class ExportRow(msgspec.Struct, frozen=True, kw_only=True, rename=_names(PROFILE.export_bulk, "id")):
    """One exported entity in the JSON formats."""

    id: str
    external_id: str | None
    entity_type: str
    label: str | None
    updated_at: str
    properties: dict[str, Any]
    enrichment: dict[str, Any] | None = None


class GraphNode(msgspec.Struct, frozen=True, kw_only=True, rename=_names(PROFILE.graph_compute, "id")):
    """One node of `graph.compute`; roles BRIDGE, HUB, PERIPHERAL, ANOMALOUS."""

    id: str
    score: float | None
    role: str | None
    x: float | None = None
    y: float | None = None
    community: int | None = None
