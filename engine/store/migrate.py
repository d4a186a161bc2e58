"""What an older ledger needs to become one of this version. Decides; `sqlite` does it, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from engine.errors import LedgerBroken
from engine.store.schema import MIGRATIONS, VERSION


def steps(ask: Callable[[str], Iterable[tuple[Any, ...]]]) -> tuple[str, ...]:
    """The statements that bring a ledger file to `VERSION`; none for a new file.

    Raises:
        LedgerBroken: a version that this engine does not know; nothing of the file has been touched.
    """
    if not list(ask("SELECT 1 FROM sqlite_master WHERE type='table' AND name='meta'")):
        return ()
    found = next(iter(ask("SELECT value FROM meta WHERE name='version'")), None)
    if found is None or found[0] == str(VERSION):
        return ()
    if found[0] not in map(str, MIGRATIONS):
        raise LedgerBroken(
            f"the ledger has version {found[0]}, this engine writes {VERSION}",
            hint="use the engine version that wrote it, or another state_dir",
        )
    changes = [sql for number in range(int(found[0]), VERSION) for sql in MIGRATIONS[number]]
    return (*changes, f"UPDATE meta SET value='{VERSION}' WHERE name='version'")  # noqa: S608 - a number of our own
