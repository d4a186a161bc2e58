"""Old ledgers under new code: what an earlier version wrote is brought up to date, once, and loses nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from engine.errors import LedgerBroken
from engine.store.ledger import Ledger
from engine.store.reading import Glance, is_old
from engine.store.schema import MIGRATIONS, SCHEMA, VERSION
from tests.store.version_1 import TABLES


def _columns(db: sqlite3.Connection) -> dict[str, set[tuple[str, str, int]]]:
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")]
    return {name: {(row[1], row[2], row[3]) for row in db.execute(f"PRAGMA table_info({name})")} for name in names}


def _version_1(directory: Path) -> Path:
    directory.mkdir()
    path = directory / "ledger.sqlite"
    db = sqlite3.connect(path)
    db.executescript(TABLES)
    db.executescript(
        """
        INSERT INTO meta VALUES ('version', '1'), ('pipeline', 'old');
        INSERT INTO runs VALUES ('run-1', 1, 5, 't', 's', 10, 0, 1, 1, 6, NULL, NULL, NULL, 'digest');
        INSERT INTO jobs VALUES (1, 1, 'run-1', 'import.bulk', 9, 90, x'00', x'00', 'key', 'trace', 'span', x'5b5d', 5,
          'submitted', 2, 'remote-2', 5, 5, NULL, NULL, 0, 0, 0, NULL, NULL);
        INSERT INTO attempts VALUES (1, 1, 1, 'remote-1', 'failed', 'boom', 6);
        INSERT INTO dead_letters VALUES
          (7, 'run-1', 1, NULL, 'dead', 'read', 'record.json', 'no', 'in', 3, 20, 30, '', x'7b', NULL, NULL, 6);
        """
    )
    db.close()
    return directory


def test_a_migrated_ledger_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    """Version 1 and its migrations give the columns that a new file has."""
    old, new = sqlite3.connect(":memory:"), sqlite3.connect(":memory:")
    old.executescript(TABLES)
    for version in range(1, VERSION):
        for statement in MIGRATIONS[version]:
            old.execute(statement)
    old.executescript(SCHEMA)
    new.executescript(SCHEMA)
    assert _columns(old) == _columns(new)


def test_a_ledger_of_version_1_is_brought_up_to_date(tmp_path: Path) -> None:
    """Its run, its job, its attempt and its letter are all there, and it is not old a second time."""
    directory = _version_1(tmp_path / "old")
    assert is_old(directory / "ledger.sqlite")
    ledger = Ledger(directory, "old")
    run = ledger.last_run()
    jobs = ledger.open_jobs(1)
    ledger.close()
    assert run is not None
    assert (run.run_id, run.read, run.lands_in) == ("run-1", 10, None)
    assert [job.remote_id for job in jobs] == ["remote-2"]
    assert not is_old(directory / "ledger.sqlite")
    with Glance(directory) as glance:
        assert [(attempt["error"], attempt["key"]) for attempt in glance.attempts(jobs[0])] == [("boom", None)]
    db = sqlite3.connect(directory / "ledger.sqlite")
    assert db.execute("SELECT id, state, edited, replay_of, raw FROM dead_letters").fetchall() == [
        (7, "open", None, None, b"{")
    ]
    db.close()


def test_a_migration_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """A file is of one version or of the next, never in between."""
    directory = _version_1(tmp_path / "old")
    db = sqlite3.connect(directory / "ledger.sqlite")
    db.execute("ALTER TABLE dead_letters ADD COLUMN state TEXT")
    db.commit()
    before = _columns(db)
    with pytest.raises(LedgerBroken, match="duplicate column"):
        Ledger(directory, "old")
    assert _columns(db) == before
    db.close()


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    """What a later engine wrote is not touched."""
    directory = _version_1(tmp_path / "old")
    db = sqlite3.connect(directory / "ledger.sqlite")
    db.execute("UPDATE meta SET value=? WHERE name='version'", (str(VERSION + 1),))
    db.commit()
    db.close()
    with pytest.raises(LedgerBroken, match="has version"):
        Ledger(directory, "old")
