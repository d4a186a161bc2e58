"""State: what the emulator remembers, in one SQLite connection, and its only sources of time and chance.

The one file of the emulator that imports sqlite3. It owns the connection, the lock beside the file, ids, seeded
choices and secrets; the tables belong to the groups, which hand in their schemas. Everything runs on the loop's
thread. In memory, or in a file that survives `kill -9` (not a power cut: it is an emulator).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from engine.contract.profile import PROFILE, Profile
from engine.emulator.faults import Faults
from engine.errors import LedgerBroken, LedgerBusy
from engine.ports import Clock
from engine.store.lock import StateLock

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two characters at once, for ten bits.
_PAIRS = [first + second for first in _CROCKFORD for second in _CROCKFORD]
_PAIR_SHIFTS = range(120, -1, -10)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
_FORMAT = 1


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How this emulator behaves. Durations in seconds.

    `latency_s` is a job's typical running time, `latency_spread` how far it strays (0.5: half to one and a half
    times); `callback_time_factor` scales the waits between delivery attempts; `workers` jobs run at once. With
    `inventory` the first tenant has some devices, encounters and evidence from the start.
    """

    state_path: str | None = None
    seed: int = 0
    latency_s: float = 0.2
    latency_spread: float = 0.5
    token_ttl_s: int | None = None
    callback_time_factor: float = 1.0
    allow_loopback_callbacks: bool = True
    workers: int = 64
    inventory: bool = False


class _Transaction:
    """One block of statements; a class, because a generator costs each request more than its statements do."""

    __slots__ = ("_db", "_is_outermost")

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._is_outermost = not db.in_transaction

    def __enter__(self) -> sqlite3.Connection:
        if self._is_outermost:
            self._db.execute("BEGIN IMMEDIATE")
        return self._db

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._is_outermost:
            self._db.execute("COMMIT" if kind is None else "ROLLBACK")


class State:
    """The emulator's memory. `base_url` and `sandbox_url` are set once the ports are known.

    `db` is in autocommit: a statement alone is a transaction of its own, and `transaction()` makes several one.
    Between the first and the last there is no `await`.
    """

    def __init__(
        self,
        options: Options,
        db: sqlite3.Connection,
        *,
        clock: Clock,
        faults: Faults,
        profile: Profile,
    ) -> None:
        self.options = options
        self.profile = profile
        self.clock = clock
        self.db = db
        self.faults = faults
        self.is_open = True
        self.base_url = ""
        self.sandbox_url = ""
        self._lock: StateLock | None = None
        # Spans that `tracing` has not written yet.
        self.unwritten_spans: list[Any] = []
        self._secrets: dict[str, bytes] = {}
        self._last_ms = 0
        self._last_tail = 0
        self._second = 0
        self._second_text = ""
        self._opening = self._count_opening()

    @classmethod
    def open(cls, options: Options, *, clock: Clock, faults: Faults | None = None, profile: Profile = PROFILE) -> State:
        """Open or create the state.

        Raises:
            LedgerBusy: another emulator works on this file; it says which, and since when.
            LedgerBroken: the file is not a state file, or of another version.
        """
        lock = None
        target = ":memory:"
        if options.state_path is not None:
            target = options.state_path
            lock = _lock(Path(target))
            # Signing keys and hashed secrets are inside: nobody else on this machine may read it.
            os.close(os.open(target, os.O_RDWR | os.O_CREAT, 0o600))
        db = sqlite3.connect(target, isolation_level=None, cached_statements=256)
        try:
            _prepare(db)
            state = cls(options, db, clock=clock, faults=faults or Faults(seed=options.seed), profile=profile)
        except sqlite3.DatabaseError as exc:
            db.close()
            if lock is not None:
                lock.release()
            raise LedgerBroken(
                f"{target} is not a state file of the emulator: {exc}",
                hint="name another file with --state, or move this one away",
            ) from exc
        state._lock = lock
        return state

    def apply_schema(self, schema: str) -> None:
        """Create a group's tables and indexes (`CREATE … IF NOT EXISTS`)."""
        self.db.executescript(schema)

    def transaction(self) -> _Transaction:
        """Several statements, all or none. Inside another transaction it joins that one."""
        return _Transaction(self.db)

    def now_s(self) -> float:
        """Wall time in seconds since 1970 UTC."""
        return self.clock.now_ns() / 1e9

    def now_text(self, at_ns: int | None = None) -> str:
        """A wall time as the contract writes it (1.8): RFC 3339, UTC, whole seconds, `Z`."""
        second = (self.clock.now_ns() if at_ns is None else at_ns) // 1_000_000_000
        if second != self._second:
            self._second = second
            self._second_text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self._second_text

    def new_id(self, prefix: str = "") -> str:
        """`prefix` and a ULID: 26 Crockford characters that sort in the order they were made."""
        now_ms = self.clock.now_ns() // 1_000_000
        if now_ms > self._last_ms:
            self._last_ms = now_ms
            digest = self._digest("id", self._opening, now_ms)
            # The top bit stays free, so that counting up inside one millisecond cannot overflow.
            self._last_tail = int.from_bytes(digest[:10]) >> 1
        else:
            self._last_tail += 1
        return prefix + ulid(self._last_ms, self._last_tail)

    def random(self, *parts: str | int) -> float:
        """A number in [0, 1) that depends on the seed and `parts` alone: the same in every run."""
        return (int.from_bytes(self._digest("random", *parts)[:7]) >> 3) / (1 << 53)

    def secret(self, name: str) -> bytes:
        """32 random bytes under this name, made once and kept with the state."""
        value = self._secrets.get(name)
        if value is None:
            self.db.execute(
                "INSERT OR IGNORE INTO secrets (name, value) VALUES (?, ?)", (name, secrets.token_bytes(32))
            )
            value = bytes(self.db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()[0])
            self._secrets[name] = value
        return value

    def close(self) -> None:
        """Close the connection and let go of the lock. Doing it twice is harmless."""
        self.is_open = False
        self.db.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _digest(self, *parts: str | int) -> bytes:
        text = "\x1f".join(map(str, (self.options.seed, *parts)))
        return hashlib.sha256(text.encode()).digest()

    def _count_opening(self) -> int:
        """Ids must not repeat after a restart, so each opening draws from its own sequence."""
        row = self.db.execute(
            "INSERT INTO meta (name, value) VALUES ('openings', 1)"
            " ON CONFLICT (name) DO UPDATE SET value = value + 1 RETURNING value"
        ).fetchone()
        return int(row[0])


def ulid(at_ms: int, tail: int) -> str:
    """48 bits of time and 80 bits of tail as 26 Crockford characters (the ULID specification)."""
    value = (at_ms & ((1 << 48) - 1)) << 80 | (tail & ((1 << 80) - 1))
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in _PAIR_SHIFTS])


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA journal_mode = WAL")
    # A killed process loses nothing that reached the file system; only a power cut would (faults, 1).
    db.execute("PRAGMA synchronous = OFF")
    db.execute("PRAGMA temp_store = MEMORY")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, _FORMAT):
        raise sqlite3.DatabaseError(f"version {version}, and this engine reads {_FORMAT}")
    db.executescript(_SCHEMA)
    db.execute(f"PRAGMA user_version = {_FORMAT}")


def _lock(path: Path) -> StateLock:
    lock = StateLock(path.with_name(path.name + ".lock"))
    try:
        lock.acquire()
    except LedgerBusy as exc:
        raise LedgerBusy(
            f"another emulator works on {path}: {exc.message}",
            hint="stop it, or name another file with --state",
        ) from exc
    return lock
