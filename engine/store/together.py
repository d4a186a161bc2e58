"""Together: which runs of the shares of a pipeline were one run, and how that ended.

A note beside the division, for whoever looks back; nothing is decided by it. Without one, as after a kill of the
process that started the shares, the newest run of each share is as much as can be said.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from engine.codec.payload import decode, encode
from engine.errors import EngineError

_FILE = "together.json"
_BYTES_MAX = 256 * 1024


class OneRun(msgspec.Struct, frozen=True, kw_only=True):
    """How a run of several processes ended: the run of each share that had something to do, by its tag."""

    runs: dict[str, str]
    outcome: str
    exit_code: int
    seconds: float


def note_together(directory: Path, together: OneRun) -> None:
    """Remember it in the state directory of the pipeline; a disk that takes no writes costs the note alone."""
    temporary = directory / f"{_FILE}.tmp"
    with contextlib.suppress(OSError):
        temporary.write_bytes(encode(together))
        temporary.replace(directory / _FILE)


def noted_together(directory: Path) -> OneRun | None:
    """What was remembered; None where nothing was, or it cannot be read."""
    try:
        with (directory / _FILE).open("rb") as file:
            return decode(file.read(_BYTES_MAX), OneRun)
    except (OSError, EngineError):
        return None
