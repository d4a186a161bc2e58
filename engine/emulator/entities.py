"""Entities: what imports store, enrichments extend, exports write out and graphs connect.

The table, the ways to read it, and the effects that change it. A reader is a `Shelf`: this file's reads SQLite,
`fixtures` makes its entities up for the sandbox. Nothing here knows a job.

A realm is a tenant's live or sandbox namespace; every row and every question has one.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from engine.codec.payload import dumps
from engine.emulator import provenance_chain
from engine.emulator.state import State

SCHEMA = """
CREATE TABLE IF NOT EXISTS entities (
    realm TEXT NOT NULL, external_id TEXT NOT NULL, id TEXT NOT NULL, entity_type TEXT NOT NULL, label TEXT,
    properties BLOB NOT NULL, updated_at TEXT NOT NULL, enrichment BLOB,
    PRIMARY KEY (realm, external_id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS entities_by_id ON entities (realm, id);
"""

# Made when a realm first asks for de-duplication: whoever does not, pays nothing for it on each import.
LABEL_INDEX = "CREATE INDEX IF NOT EXISTS entities_by_label ON entities (realm, entity_type, label)"

PUT = "put"
ENRICH = "enrich"
WITNESS = "witness"
_VERBS = {
    PUT: (
        "INSERT INTO entities (realm, external_id, id, entity_type, label, properties, updated_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (realm, external_id) DO UPDATE SET"
        " entity_type = excluded.entity_type, label = excluded.label, properties = excluded.properties,"
        " updated_at = excluded.updated_at"
    ),
    ENRICH: "UPDATE entities SET enrichment = ?3 WHERE realm = ?1 AND external_id = ?2",
}
_COLUMNS = "e.id, e.external_id, e.entity_type, e.label, e.properties, e.updated_at, e.enrichment"


class Entity(msgspec.Struct, frozen=True, gc=False):
    """One stored entity; `properties` and `enrichment` are JSON text, `updated_at` RFC 3339 UTC in seconds."""

    id: str
    external_id: str
    entity_type: str
    label: str | None
    properties: bytes
    updated_at: str
    enrichment: bytes | None = None


class Effect(msgspec.Struct, frozen=True, array_like=True):
    """Rows to change in one go. Applying an effect twice is the same as once, but for `witness`.

    put      rows of (realm, external_id, id, entity_type, label, properties, updated_at)
    enrich   rows of (realm, external_id, enrichment)
    witness  notes for the chains of custody (`provenance_chain.Note`), which grow with each
    """

    verb: str
    rows: list[tuple[Any, ...]]


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which entities: all members must hold; bounds of `updated_at` are inclusive."""

    entity_types: tuple[str, ...] = ()
    updated_from: str | None = None
    updated_to: str | None = None
    investigation_id: str | None = None


class Shelf(Protocol):
    """Where the work of a job reads entities."""

    def find(self, names: Sequence[str]) -> dict[str, Entity]:
        """The entities of these names (entity ids or external ids); unknown names are left out."""

    def known(self, external_ids: Sequence[str]) -> dict[str, Entity]:
        """The entities of these external ids alone: what an import asks, whose rows may be called anything."""

    def page(self, query: Query, *, after: str, limit: int) -> list[Entity]:
        """The next entities by id, after the id `after` (empty: from the start)."""

    def alike(self, entity_type: str, prefix: str) -> list[Entity]:
        """Entities of a type whose label begins with `prefix`, at most 50, by label."""


def entity_id(realm: str, external_id: str) -> str:
    """The id an entity has: a function of its realm and external id, so that any replay finds the same."""
    digest = hashlib.sha256(f"{realm}\0{external_id}".encode()).digest()
    return "ent_" + base64.b32encode(digest[:10]).decode().lower()


class Entities:
    """The shelf of one realm, in the emulator's database."""

    def __init__(self, state: State, realm: str) -> None:
        self._db = state.db
        self._realm = realm

    def find(self, names: Sequence[str]) -> dict[str, Entity]:
        """The entities of these names (entity ids or external ids); unknown names are left out."""
        found = self._join("external_id", names)
        by_id = [name for name in names if name.startswith("ent_") and name not in found]
        if by_id:
            found.update(self._join("id", by_id))
        return found

    def known(self, external_ids: Sequence[str]) -> dict[str, Entity]:
        """The entities of these external ids alone."""
        return self._join("external_id", external_ids)

    def page(self, query: Query, *, after: str, limit: int) -> list[Entity]:
        """The next entities by id, after the id `after` (empty: from the start)."""
        where, values = ["e.realm = ?", "e.id > ?"], [self._realm, after]
        if query.entity_types:
            where.append("e.entity_type IN (SELECT value FROM json_each(?))")
            values.append(dumps(query.entity_types).decode())
        for clause, value in (
            ("e.updated_at >= ?", query.updated_from),
            ("e.updated_at <= ?", query.updated_to),
            ("json_extract(CAST(e.properties AS TEXT), '$.investigation_id') = ?", query.investigation_id),
        ):
            if value is not None:
                where.append(clause)
                values.append(value)
        # The clauses are this function's own; every value is a parameter.
        sql = f"SELECT {_COLUMNS} FROM entities e WHERE {' AND '.join(where)} ORDER BY e.id LIMIT ?"  # noqa: S608
        return [Entity(*row) for row in self._db.execute(sql, (*values, limit))]

    def alike(self, entity_type: str, prefix: str) -> list[Entity]:
        """Entities of a type whose label begins with `prefix`, at most 50, by label."""
        self._db.execute(LABEL_INDEX)
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM entities e WHERE e.realm = ? AND e.entity_type = ?"  # noqa: S608 - constants
            " AND e.label >= ? AND e.label < ? ORDER BY e.label, e.id LIMIT 50",
            (self._realm, entity_type, prefix, prefix + "\U0010ffff"),
        )
        return [Entity(*row) for row in rows]

    def _join(self, column: str, names: Sequence[str]) -> dict[str, Entity]:
        # CROSS JOIN keeps SQLite from turning the order round: few names, perhaps a million entities.
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM json_each(?) j CROSS JOIN entities e"  # noqa: S608 - constants
            f" ON e.realm = ? AND e.{column} = j.value",
            (dumps(list(names)).decode(), self._realm),
        )
        at = 1 if column == "external_id" else 0
        return {row[at]: Entity(*row) for row in rows}


def apply(state: State, effects: Iterable[Effect]) -> None:
    """Write effects inside the caller's transaction; about 5 microseconds a row."""
    for effect in effects:
        if effect.verb == WITNESS:
            provenance_chain.append(state, effect.rows)
        else:
            state.db.executemany(_VERBS[effect.verb], effect.rows)
