"""The chains of custody: what jobs did to evidence, one append-only chain for each piece of it (contract 11.1).

An entity is evidence by its type (Q84). Work notes what it does to evidence; the notes become records, each bound to
the one before, in the transaction that makes the work true. A record is kept as its leaf, the canonical bytes that
hashes are over, and is never changed. Signatures are made when somebody asks, in `provenance`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

from engine.codec.canonical import canonical
from engine.contract.profile import PROFILE
from engine.contract.provenance import CREATE, UPDATE
from engine.emulator.state import State
from engine.trust.transcript import digest_text

SCHEMA = """
CREATE TABLE IF NOT EXISTS provenance (
    realm TEXT NOT NULL, evidence_id TEXT NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL, leaf BLOB NOT NULL,
    signed_at TEXT NOT NULL, secrecy_level TEXT NOT NULL, PRIMARY KEY (realm, evidence_id, position)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS provenance_signatures (
    realm TEXT NOT NULL, evidence_id TEXT NOT NULL, algorithm TEXT NOT NULL, position INTEGER NOT NULL,
    signature TEXT NOT NULL, PRIMARY KEY (realm, evidence_id, algorithm, position)
) WITHOUT ROWID;
"""


class Witness(NamedTuple):
    """On whose behalf work is done: all that a record says of it beyond the deed."""

    realm: str
    job_id: str
    actor_id: str
    trace_id: str
    secrecy_level: str


class Note(NamedTuple):
    """One deed on one piece of evidence, on its way to the chain."""

    realm: str
    job_id: str
    actor_id: str
    trace_id: str
    secrecy_level: str
    evidence_id: str
    operation: str
    content_hash: str


class Chain(NamedTuple):
    """A chain as stored: its leaves in order, and the secrecy levels of the jobs that wrote the evidence."""

    leaves: list[bytes]
    secrecy_levels: frozenset[str]


class _Link(NamedTuple):
    """The end of a chain, to which the next record is tied."""

    position: int
    id: str | None
    digest: str | None
    signed_at: str


def is_evidence(entity_type: str) -> bool:
    """Whether entities of this type have a chain."""
    return entity_type in PROFILE.evidence_types


def note(witness: Witness, evidence_id: str, operation: str, properties: bytes, enrichment: bytes | None) -> Note:
    """A deed; its content hash is over the stored properties, and after a line end the enrichment if there is one."""
    content = properties if enrichment is None else properties + b"\n" + enrichment
    return Note(*witness, evidence_id, operation, "sha256:" + sha256(content).hexdigest())


def append(state: State, notes: Iterable[Sequence[str]]) -> None:
    """Tie notes to their chains, inside the caller's transaction; about 20 microseconds each."""
    ends: dict[tuple[str, str], _Link] = {}
    rows = []
    now = state.now_text()
    for told in notes:
        new = Note(*told)
        whose = (new.realm, new.evidence_id)
        end = ends.get(whose) or _end(state, *whose)
        # The chain's time never goes backwards, whatever the wall clock does (contract 11.4).
        signed_at = max(now, end.signed_at)
        record_id = state.new_id()
        leaf = canonical(_members(new, end, record_id, signed_at))
        # Whoever only looks does not raise what he looks at.
        level = new.secrecy_level if new.operation in (CREATE, UPDATE) else ""
        rows.append((*whose, end.position + 1, record_id, leaf, signed_at, level))
        ends[whose] = _Link(end.position + 1, record_id, digest_text(leaf), signed_at)
    state.db.executemany("INSERT INTO provenance VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


def load(state: State, realm: str, evidence_id: str) -> Chain | None:
    """A chain; None when this realm has no such evidence."""
    rows = state.db.execute(
        "SELECT leaf, secrecy_level FROM provenance WHERE realm = ? AND evidence_id = ? ORDER BY position",
        (realm, evidence_id),
    ).fetchall()
    return Chain([bytes(row[0]) for row in rows], frozenset(row[1] for row in rows if row[1])) if rows else None


def signatures(state: State, realm: str, evidence_id: str, algorithm: str) -> list[str]:
    """The signatures made so far, those of the first records of the chain."""
    rows = state.db.execute(
        "SELECT signature FROM provenance_signatures WHERE realm = ? AND evidence_id = ? AND algorithm = ?"
        " ORDER BY position",
        (realm, evidence_id, algorithm),
    )
    return [row[0] for row in rows]


def keep_signatures(
    state: State, realm: str, evidence_id: str, algorithm: str, made: Iterable[tuple[int, str]]
) -> None:
    """Keep signatures by position, from 0; one that is there already stays."""
    with state.transaction() as db:
        db.executemany(
            "INSERT OR IGNORE INTO provenance_signatures VALUES (?, ?, ?, ?, ?)",
            ((realm, evidence_id, algorithm, position, signature) for position, signature in made),
        )


def _end(state: State, realm: str, evidence_id: str) -> _Link:
    row = state.db.execute(
        "SELECT position, id, leaf, signed_at FROM provenance WHERE realm = ? AND evidence_id = ?"
        " ORDER BY position DESC LIMIT 1",
        (realm, evidence_id),
    ).fetchone()
    if row is None:
        return _Link(-1, None, None, "")
    return _Link(row[0], row[1], digest_text(bytes(row[2])), row[3])


def _members(new: Note, end: _Link, record_id: str, signed_at: str) -> dict[str, str | None]:
    """A record without its signature and algorithm: the leaf (contract 11.4)."""
    return {
        "id": record_id,
        "operation": new.operation,
        "actor_id": new.actor_id,
        "actor_kind": PROFILE.job_actor_kind,
        "content_hash": new.content_hash,
        "parent_id": end.id,
        "parent_hash": end.digest,
        "signed_at": signed_at,
        "trace_id": new.trace_id,
        "job_id": new.job_id,
    }
