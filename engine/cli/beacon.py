"""Beacon: a small file beside the ledger in which a run says, once a second, how far it is; `engine top` reads it.

It is replaced whole and never made durable: what it says is old a second later. A disk that takes no writes costs the
file, never the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from engine.codec.payload import dumps, loads
from engine.errors import RecordError

NAME = "live.json"
EVERY_S = 1.0
# A process that has not written for so long is gone, or stands still.
STALE_S = 10.0
_BYTES_MAX = 64 * 1024


class Beacon:
    """Writes `fields()` to the file from a second after `light` until `put_out`; needs a running loop."""

    def __init__(self, directory: Path, fields: Callable[[], dict[str, object]]) -> None:
        self._path = directory / NAME
        self._fields = fields
        self._timer: asyncio.TimerHandle | None = None

    def light(self) -> None:
        """Begin; a run that is over in a moment leaves no trace."""
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._write)

    def _write(self) -> None:
        with contextlib.suppress(OSError):
            text = dumps({**self._fields(), "pid": os.getpid(), "at": round(time.time(), 3)})
            temporary = self._path.with_suffix(".tmp")
            temporary.write_bytes(text)
            temporary.replace(self._path)
        self.light()

    def put_out(self) -> None:
        """Remove the file."""
        if self._timer is not None:
            self._timer.cancel()
        for path in (self._path, self._path.with_suffix(".tmp")):
            with contextlib.suppress(OSError):
                path.unlink()


def beacons(state_dir: Path, names: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
    """What the runs under a state directory say of themselves now, by name of their pipeline."""
    for path in sorted(state_dir.glob(f"*/{NAME}")):
        if names and path.parent.name not in names:
            continue
        try:
            with path.open("rb") as file:
                told = loads(file.read(_BYTES_MAX))
        except (OSError, RecordError):
            continue  # It was replaced or removed while we looked.
        if isinstance(told, dict) and time.time() - float(told.get("at", 0)) <= STALE_S:
            yield told
