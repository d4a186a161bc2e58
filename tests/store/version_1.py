"""A ledger as the first version wrote it: its tables, and today's rows as far as it had columns for them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

TABLES = (Path(__file__).parent / "ledger-1.sql").read_text()
_NAMES = ("meta", "runs", "marks", "jobs", "attempts", "kept", "parts", "dead_letters")


def downgrade(path: Path) -> None:
    """Write a closed ledger file anew, as version 1 of this engine would have."""
    now = path.with_suffix(".now")
    path.rename(now)
    for tail in ("-wal", "-shm"):
        path.with_name(path.name + tail).unlink(missing_ok=True)
    db = sqlite3.connect(path)
    db.executescript(TABLES)
    db.execute("ATTACH ? AS now", (str(now),))
    for name in _NAMES:
        columns = ", ".join(f'"{row[1]}"' for row in db.execute(f"PRAGMA table_info({name})"))
        db.execute(f"INSERT INTO main.{name} ({columns}) SELECT {columns} FROM now.{name}")
    db.execute("UPDATE main.meta SET value='1' WHERE name='version'")
    db.execute("DELETE FROM main.meta WHERE name='file'")
    db.commit()
    db.close()
    now.unlink()
