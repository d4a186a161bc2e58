"""Notices: which callbacks were taken, each durable before it is answered, each known again for ever.

The job callback signs no time (contract 9.7), so a captured one stays valid: only this memory tells a replay
from news. It says nothing about how a job really ended; that is asked of the platform.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import msgspec

from engine.contract.exchange import Trace
from engine.store.sqlite import Database, Statement

NOTICES_SCHEMA = """
CREATE TABLE IF NOT EXISTS notices (
  remote_id TEXT NOT NULL, status TEXT NOT NULL, kind TEXT NOT NULL, trace_id TEXT, body_sha256 TEXT NOT NULL,
  received_ns INTEGER NOT NULL, deliveries INTEGER NOT NULL, last_ns INTEGER NOT NULL,
  PRIMARY KEY (remote_id, status)
) WITHOUT ROWID, STRICT;
CREATE INDEX IF NOT EXISTS notices_by_age ON notices (received_ns);

CREATE TABLE IF NOT EXISTS webhook_ids (
  id TEXT PRIMARY KEY, remote_id TEXT NOT NULL, status TEXT NOT NULL, received_ns INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
"""

_KEEP = (
    "INSERT INTO notices (remote_id, status, kind, trace_id, body_sha256, received_ns, deliveries, last_ns)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, ?6)"
    " ON CONFLICT (remote_id, status) DO UPDATE SET deliveries = deliveries + 1, last_ns = excluded.last_ns"
)
_KEEP_ID = "INSERT OR IGNORE INTO webhook_ids (id, remote_id, status, received_ns) VALUES (?, ?, ?, ?)"
_IS_KNOWN = (
    "SELECT EXISTS (SELECT 1 FROM notices WHERE remote_id=? AND status=?)"
    " OR EXISTS (SELECT 1 FROM webhook_ids WHERE id=?)"
)
_STORED = (
    "SELECT remote_id, status, kind, trace_id, body_sha256, received_ns, deliveries FROM notices"
    " ORDER BY received_ns DESC LIMIT ?"
)


class Notice(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What a callback said, once its signature was proven: a hint, to be confirmed by GET.

    `received_ns` is wall time; `body_sha256` (hex) is of the signed bytes; `delivery_id` is the sender's id of the
    delivery where it gives one; `sender` is its span. `deliveries` counts how often the same was told.
    """

    remote_id: str
    status: str
    kind: str
    trace_id: str | None
    body_sha256: str
    received_ns: int
    deliveries: int = 1
    delivery_id: str | None = None
    sender: Trace | None = None


class Notices:
    """The notices of one ledger, or of a file of their own (`open_alone`)."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._under_way: dict[tuple[str, str], asyncio.Future[None]] = {}

    @classmethod
    def open_alone(cls, path: Path) -> Notices:
        """Open or create a file that holds notices only; the owner calls `close`.

        Raises:
            LedgerBroken: not such a file, or damaged. OutputError: it cannot be opened.
        """
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return cls(Database(path, NOTICES_SCHEMA))

    async def keep(self, notice: Notice) -> bool:
        """Make a notice durable; whether it is news: the first of this job and status, under a new delivery id.

        Of the same notice twice at the same time one is news, and neither returns before that one is on disk.
        """
        told = (notice.remote_id, notice.status)
        first = self._under_way.get(told)
        if first is None and not self._is_known(notice):
            written = self._under_way[told] = self._db.write(_statements(notice))
            try:
                await asyncio.shield(written)
            finally:
                del self._under_way[told]
            return True
        if first is not None:
            # If the first fails, so must this one: answered well, the sender would not come again.
            await asyncio.shield(first)
        await self._db.write(_statements(notice))
        return False

    def stored(self, *, limit: int = 10_000) -> list[Notice]:
        """The newest notices there are, newest first."""
        names = ("remote_id", "status", "kind", "trace_id", "body_sha256", "received_ns", "deliveries")
        return [Notice(**dict(zip(names, row, strict=True))) for row in self._db.rows(_STORED, (limit,))]

    def close(self) -> None:
        """Finish queued writes and close a file of one's own."""
        self._db.close()

    def _is_known(self, notice: Notice) -> bool:
        return self._db.first(_IS_KNOWN, (notice.remote_id, notice.status, notice.delivery_id)) == (1,)


def _statements(notice: Notice) -> list[Statement]:
    kept = (
        notice.remote_id, notice.status, notice.kind, notice.trace_id, notice.body_sha256, notice.received_ns,
    )  # fmt: skip
    statements: list[Statement] = [(_KEEP, [kept])]
    if notice.delivery_id is not None:
        statements.append((_KEEP_ID, [(notice.delivery_id, notice.remote_id, notice.status, notice.received_ns)]))
    return statements
