"""Groups: writes of one turn of the loop go to the writer together, in order, and none is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from engine.errors import LedgerBroken
from engine.store.sqlite import Database

SCHEMA = "CREATE TABLE IF NOT EXISTS seen (number INTEGER, word TEXT NOT NULL);"
INSERT = "INSERT INTO seen (number, word) VALUES (?, ?)"
UPDATE = "UPDATE seen SET word=? WHERE number=?"

pytestmark = pytest.mark.anyio


@pytest.fixture
def database(tmp_path: Path):
    opened = Database(tmp_path / "d.sqlite", SCHEMA)
    yield opened
    opened.close()


async def test_writes_of_one_turn_are_one_group(database: Database) -> None:
    """However many write before anybody waits, the disk is asked once."""
    await asyncio.gather(*[database.write([(INSERT, [(number, "a")])]) for number in range(50)])

    assert (database.writes, database.groups) == (50, 1)
    assert database.rows("SELECT count(*) FROM seen") == [(50,)]


async def test_the_order_of_calls_is_the_order_of_effect(database: Database) -> None:
    """Neighbours that say the same are joined, and never moved past one that says something else."""
    written = [
        database.write([(INSERT, [(1, "a")]), (UPDATE, [("b", 1)])]),
        database.write([(INSERT, [(2, "a")])]),
        database.write([(UPDATE, [("c", 1)]), (UPDATE, [("c", 2)])]),
        database.write([(UPDATE, [("d", 2)]), (INSERT, [(1, "e")])]),
    ]
    await asyncio.gather(*written)

    assert database.rows("SELECT number, word FROM seen ORDER BY rowid") == [(1, "c"), (2, "d"), (1, "e")]


async def test_closing_writes_what_nobody_waited_for(tmp_path: Path) -> None:
    """A write that was queued in the same breath as the end is on disk after it."""
    database = Database(tmp_path / "e.sqlite", SCHEMA)
    database.write([(INSERT, [(1, "a")])])
    database.close()

    assert Database(tmp_path / "e.sqlite", SCHEMA).rows("SELECT number FROM seen") == [(1,)]


def test_a_loop_that_ended_before_its_turn_holds_nobody_up(tmp_path: Path) -> None:
    """What was written as one loop ended is on disk once the next loop has written."""
    database = Database(tmp_path / "f.sqlite", SCHEMA)

    def forget(number: int) -> None:
        loop = asyncio.new_event_loop()
        loop.call_soon(lambda: (database.write([(INSERT, [(number, "a")])]), loop.stop()))
        loop.run_forever()
        loop.close()

    async def wait(number: int) -> None:
        await database.write([(INSERT, [(number, "a")])])

    forget(1)
    asyncio.run(wait(2))
    assert database.rows("SELECT number FROM seen ORDER BY rowid") == [(1,), (2,)]
    database.close()


async def test_a_group_fails_whole(database: Database) -> None:
    """After a statement that the file refuses, nothing of its group stands, and everybody in it hears so."""
    good, bad = database.write([(INSERT, [(1, "a")])]), database.write([(INSERT, [(2, None)])])
    results = await asyncio.gather(good, bad, return_exceptions=True)

    assert [type(result) for result in results] == [LedgerBroken, LedgerBroken]
    assert database.rows("SELECT count(*) FROM seen") == [(0,)]
