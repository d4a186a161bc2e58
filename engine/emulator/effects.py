"""Effects: how what a job did to entities becomes true together with its terminal state, whatever its size.

Few rows are written in the transaction that ends the job. Many would hold everybody up for too long, so that
transaction stores them as a redo log, and they are applied right after, a run at a time, before any other job
reads entities; a restart applies what is left first. Applying twice is the same as once.
"""

from __future__ import annotations

import msgspec

from engine.emulator import entities
from engine.emulator.entities import Effect
from engine.emulator.state import State

SCHEMA = """
CREATE TABLE IF NOT EXISTS redo (
    number INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL, effect BLOB NOT NULL
);
"""
# About ten milliseconds of writing.
_AT_ONCE_ROWS = 1500

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Effect)


def commit(state: State, job_id: str, done: list[Effect]) -> None:
    """Make effects certain, inside the transaction that ends the job."""
    if sum(len(effect.rows) for effect in done) <= _AT_ONCE_ROWS:
        entities.apply(state, done)
        return
    state.db.executemany(
        "INSERT INTO redo (job_id, effect) VALUES (?, ?)",
        [(job_id, _encoder.encode(effect)) for effect in done],
    )


async def finish(state: State) -> None:
    """Apply what is certain but not yet written, oldest first, a run of rows at a time."""
    while row := state.db.execute("SELECT number, effect FROM redo ORDER BY number LIMIT 1").fetchone():
        with state.transaction() as db:
            entities.apply(state, [_decoder.decode(row[1])])
            db.execute("DELETE FROM redo WHERE number = ?", (row[0],))
        await state.clock.sleep(0)
