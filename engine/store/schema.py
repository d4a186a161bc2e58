"""The tables of a pipeline's ledger. A change here is a new `VERSION`, with its migration."""

from __future__ import annotations

VERSION = 2

# From each version, what makes a file of it one of the next. `SCHEMA` runs afterwards, so new tables and indexes need
# no line here.
MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE runs ADD COLUMN lands_in INTEGER",
        "ALTER TABLE attempts ADD COLUMN key TEXT",
        "ALTER TABLE attempts ADD COLUMN trace_id TEXT",
        "ALTER TABLE attempts ADD COLUMN code TEXT",
        "ALTER TABLE attempts ADD COLUMN http_status INTEGER",
        "ALTER TABLE dead_letters ADD COLUMN sent BLOB",
        "ALTER TABLE dead_letters ADD COLUMN state TEXT NOT NULL DEFAULT 'open'",
        "ALTER TABLE dead_letters ADD COLUMN edited BLOB",
        "ALTER TABLE dead_letters ADD COLUMN changed_ns INTEGER",
        "ALTER TABLE dead_letters ADD COLUMN replay_of INTEGER",
        "ALTER TABLE dead_letters ADD COLUMN replay_run TEXT",
    ),
}

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;

CREATE TABLE IF NOT EXISTS runs (
  run_id TEXT PRIMARY KEY, epoch INTEGER NOT NULL, started_ns INTEGER NOT NULL,
  trace_id TEXT NOT NULL, span_id TEXT NOT NULL,
  read INTEGER NOT NULL, filtered INTEGER NOT NULL, dead INTEGER NOT NULL,
  invocations INTEGER NOT NULL, alive_ns INTEGER, stopped_ns INTEGER, ended_ns INTEGER, outcome TEXT,
  settings_digest TEXT NOT NULL, lands_in INTEGER
) STRICT;

CREATE TABLE IF NOT EXISTS marks (
  epoch INTEGER NOT NULL, input TEXT NOT NULL,
  offset INTEGER NOT NULL, line INTEGER NOT NULL, fingerprint TEXT NOT NULL, head INTEGER NOT NULL,
  PRIMARY KEY (epoch, input)
) WITHOUT ROWID, STRICT;

CREATE TABLE IF NOT EXISTS jobs (
  epoch INTEGER NOT NULL, seq INTEGER NOT NULL, run_id TEXT NOT NULL, kind TEXT NOT NULL,
  rows INTEGER NOT NULL, body_bytes INTEGER NOT NULL, digest BLOB NOT NULL, keys_digest BLOB NOT NULL,
  key TEXT NOT NULL, trace_id TEXT NOT NULL, span_id TEXT NOT NULL, slices BLOB NOT NULL,
  planned_ns INTEGER NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL, remote_id TEXT,
  sent_ns INTEGER, submitted_ns INTEGER, settled_ns INTEGER, ended_ns INTEGER,
  accepted INTEGER NOT NULL, rejected INTEGER NOT NULL, dead INTEGER NOT NULL, part INTEGER, error TEXT,
  PRIMARY KEY (epoch, seq)
) WITHOUT ROWID, STRICT;
CREATE INDEX IF NOT EXISTS jobs_open ON jobs (epoch, seq) WHERE state NOT IN ('committed', 'dead');
CREATE INDEX IF NOT EXISTS jobs_by_run ON jobs (run_id);
CREATE INDEX IF NOT EXISTS jobs_by_remote ON jobs (remote_id) WHERE remote_id IS NOT NULL;

CREATE TABLE IF NOT EXISTS attempts (
  epoch INTEGER NOT NULL, seq INTEGER NOT NULL, attempt INTEGER NOT NULL,
  remote_id TEXT, outcome TEXT NOT NULL, error TEXT, ended_ns INTEGER NOT NULL,
  key TEXT, trace_id TEXT, code TEXT, http_status INTEGER,
  PRIMARY KEY (epoch, seq, attempt)
) WITHOUT ROWID, STRICT;

CREATE TABLE IF NOT EXISTS kept (
  epoch INTEGER NOT NULL, seq INTEGER NOT NULL, records BLOB NOT NULL, PRIMARY KEY (epoch, seq)
) STRICT;

CREATE TABLE IF NOT EXISTS parts (
  epoch INTEGER NOT NULL, number INTEGER NOT NULL, run_id TEXT NOT NULL, name TEXT NOT NULL,
  rows INTEGER NOT NULL, body_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, created_ns INTEGER NOT NULL,
  PRIMARY KEY (epoch, number)
) WITHOUT ROWID, STRICT;

CREATE TABLE IF NOT EXISTS dead_letters (
  id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, epoch INTEGER NOT NULL, seq INTEGER,
  bucket TEXT NOT NULL, stage TEXT NOT NULL, code TEXT NOT NULL, reason TEXT NOT NULL,
  input TEXT NOT NULL, line INTEGER NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL,
  key TEXT NOT NULL, raw BLOB NOT NULL, remote_id TEXT, trace_id TEXT, created_ns INTEGER NOT NULL,
  sent BLOB, state TEXT NOT NULL DEFAULT 'open', edited BLOB, changed_ns INTEGER,
  replay_of INTEGER, replay_run TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS dead_letters_by_run ON dead_letters (run_id);
CREATE INDEX IF NOT EXISTS dead_letters_by_key ON dead_letters (key);
CREATE INDEX IF NOT EXISTS dead_letters_by_replay ON dead_letters (replay_run, id) WHERE replay_run IS NOT NULL;
"""
