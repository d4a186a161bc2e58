"""What an older ledger needs to become one of this version. Decides; `sqlite` does it, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from engine.store.schema import MIGRATIONS, VERSION


def steps(ask: Callable[[str], Iterable[tuple[Any, ...]]]) -> tuple[str, ...]:
    """The statements that bring a ledger file to `VERSION`; none for a new file, and for one this engine cannot know."""
    if not list(ask("SELECT 1 FROM sqlite_master WHERE type='table' AND name='meta'")):
        return ()
    version = int(next(iter(ask("SELECT value FROM meta WHERE name='version'")), (0,))[0])
    if version not in MIGRATIONS:
        return ()
    found = [sql for number in range(version, VERSION) for sql in MIGRATIONS[number]]
    return (*found, f"UPDATE meta SET value='{VERSION}' WHERE name='version'")  # noqa: S608 - a number of our own
