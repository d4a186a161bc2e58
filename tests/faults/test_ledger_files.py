"""F08: a ledger file that is not what it was is refused by name, with the next step, and never written to."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import LedgerBroken
from engine.runtime.drain import StopFlag
from engine.store.ledger import Ledger
from tests.runtime.conftest import Rig

pytestmark = pytest.mark.anyio


def _ledger(rig: Rig) -> Path:
    return rig.directory / "state" / "rig" / "ledger.sqlite"


def _half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _flip(path: Path) -> None:
    """One bit, the way a disk loses it: nobody wrote the file."""
    status, data = path.stat(), bytearray(path.read_bytes())
    place = random.Random(8).randrange(100, len(data))
    data[place] ^= 0x10
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _scribble(path: Path) -> None:
    path.write_bytes(b"not a database at all, and longer than a header" * 100)


def _version(number: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        db = sqlite3.connect(path)
        db.execute("UPDATE meta SET value=? WHERE name='version'", (str(number),))
        db.commit()
        db.close()

    return write


def _pipeline(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("UPDATE meta SET value='other' WHERE name='pipeline'")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    "damage",
    [_empty, _half, _flip, _scribble, _version(0), _version(99), _pipeline],
    ids=["emptied", "half", "bit", "scribbled", "older", "newer", "pipeline"],
)
async def test_f08_a_damaged_ledger_is_refused_and_a_good_copy_goes_on(
    rig: Rig, damage: Callable[[Path], None]
) -> None:
    """Refused naming the file and what to do, left as it was found; with the good copy back the run goes on."""
    rig.write(30)
    assert (await rig.run()).accepted == 30
    path = _ledger(rig)
    good = path.read_bytes()
    parts = {part.name for part in rig.out.iterdir()}
    damage(path)
    damaged = path.read_bytes()
    assert damaged != good
    rig.write(10, first=30)

    with pytest.raises(LedgerBroken) as caught:
        await rig.run()

    assert str(path) in caught.value.message
    assert caught.value.hint
    assert path.read_bytes() == damaged
    assert {part.name for part in rig.out.iterdir()} == parts
    path.write_bytes(good)
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 10)
    assert rig.keys() == sorted(f"r{n}" for n in range(40))


@pytest.mark.parametrize("damage", [_half, _empty], ids=["half", "emptied"])
async def test_f08_a_ledger_without_a_seal_is_read_through(rig: Rig, damage: Callable[[Path], None]) -> None:
    """After a kill nobody sealed the file: what SQLite's own check can see is refused all the same."""
    rig.write(400)
    rig.replace("rows = 10", "rows = 1")
    await rig.run()
    path = _ledger(rig)
    _as_killed(path)
    damage(path)

    with pytest.raises(LedgerBroken) as caught:
        await rig.run()

    assert str(path) in caught.value.message
    assert caught.value.hint


async def test_f08_a_closed_ledger_is_sealed_and_an_open_one_is_not(rig: Rig) -> None:
    """The seal stands only while nobody writes, so a kill can never leave one that accuses a sound file."""
    rig.write(10)
    await rig.run()
    seal = _ledger(rig).with_suffix(".seal")
    assert seal.exists()
    ledger = Ledger(seal.parent, "rig")
    try:
        assert not seal.exists()
    finally:
        ledger.close()
    assert seal.exists()
    assert (await rig.run(stop=StopFlag())).outcome == "nothing_new"


def _as_killed(path: Path) -> None:
    """The files a killed process leaves: no seal, and a log that is not empty."""
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM meta").fetchone()
    writer = sqlite3.connect(path)
    writer.execute("UPDATE runs SET alive_ns=alive_ns+1")
    writer.commit()
    log = path.with_name(path.name + "-wal")
    kept = log.read_bytes()
    writer.close()
    reader.close()
    log.write_bytes(kept)
    path.with_suffix(".seal").unlink()
    assert log.stat().st_size > 0
