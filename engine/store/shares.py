"""Shares: in how many processes a pipeline runs, written beside its state; each share has a ledger of its own there.

The number is fixed once a share has begun: which rows were taken is known only share by share. Who works on what,
and how, is not decided here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from engine.codec.payload import decode, encode
from engine.errors import ConfigError, EngineError, LedgerBroken, OutputError
from engine.record import BLOCK_BYTES, Share
from engine.store.reading import Glance

_FILE = "processes.json"
_BYTES_MAX = 64 * 1024
_TAG = re.compile(r"([1-9]\d{0,3})of([1-9]\d{0,3})")


class Division(msgspec.Struct, frozen=True, kw_only=True):
    """How a pipeline is divided. `anew` has the epoch of each share that is still to begin a fresh one, by its tag."""

    processes: int
    block_bytes: int = BLOCK_BYTES
    anew: dict[str, int] = {}

    @property
    def shares(self) -> list[Share]:
        """The shares, in order."""
        return [Share(number, self.processes, self.block_bytes) for number in range(1, self.processes + 1)]


def share_of_tag(tag: str) -> Share:
    """The share that a tag names.

    Raises:
        ConfigError: it is not like `1of2`.
    """
    found = _TAG.fullmatch(tag)
    if found is None or not int(found[1]) <= int(found[2]) > 1:
        raise ConfigError(f"`{tag}` names no share", hint="write it like 1of2")
    return Share(int(found[1]), int(found[2]))


def find_division(directory: Path) -> Division | None:
    """How the pipeline with this state directory is divided; None where it is not.

    Raises:
        LedgerBroken: the file says something else.
    """
    path = directory / _FILE
    try:
        with path.open("rb") as file:
            return decode(file.read(_BYTES_MAX), Division)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, EngineError) as exc:
        raise LedgerBroken(f"{path} cannot be read", hint="restore it from a backup of the state directory") from exc


def shares_begun(directory: Path) -> list[Share]:
    """The shares of a pipeline that have a ledger; none where it runs in one process."""
    division = find_division(directory)
    return [] if division is None else [share for share in division.shares if _ledger(directory, share).is_file()]


def refuse_divided(directory: Path) -> None:
    """Refuse to run a pipeline in one process that has run in several: it would send every row again.

    Raises:
        ConfigError: it has.
    """
    begun = [share for share in shares_begun(directory) if _epoch_of(directory, share) is not None]
    if begun:
        raise ConfigError(
            f"{directory.name} runs in {begun[0].of} processes, and its state is divided among them",
            hint=f"add --processes {begun[0].of}; another number needs another name, sink path and all rows anew",
        )


def divide(directory: Path, *, processes: int, fresh: bool) -> Division:
    """Fix the number of processes, durably, and say which shares are to begin anew. Call it with the lock held.

    Raises:
        ConfigError: the pipeline runs in another number of processes. OutputError: the directory cannot be written.
    """
    if epoch_in(directory) is not None:
        raise ConfigError(
            f"{directory.name} has run in one process, and what it has taken is not divided",
            hint="leave --processes out, or give the pipeline another name and sink path: all rows are sent anew",
        )
    known = find_division(directory)
    found = {share.tag: _epoch_of(directory, share) for share in shares_begun(directory)}
    epochs = {tag: epoch for tag, epoch in found.items() if epoch is not None}
    if epochs and known is not None and (known.processes, known.block_bytes) != (processes, BLOCK_BYTES):
        raise ConfigError(
            f"{directory.name} runs in {known.processes} processes, and its state is divided among them",
            hint=f"use --processes {known.processes}, or another name and sink path: all rows are sent anew",
        )
    waiting = {} if known is None else known.anew
    # A share that has begun its epoch since is not to begin another one, however often it is killed.
    anew = {tag: epoch for tag, epoch in epochs.items() if fresh or waiting.get(tag) == epoch}
    division = Division(processes=processes, anew=anew)
    if division != known:
        _write(directory / _FILE, encode(division))
    return division


def _ledger(directory: Path, share: Share) -> Path:
    return directory.with_name(share.named(directory.name)) / "ledger.sqlite"


def _epoch_of(directory: Path, share: Share) -> int | None:
    return epoch_in(_ledger(directory, share).parent)


def epoch_in(directory: Path) -> int | None:
    """The epoch of the newest run of the input in a state directory; None where nothing has run."""
    if not (directory / "ledger.sqlite").is_file():
        return None
    with Glance(directory) as glance:
        return glance.epoch


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as exc:
        raise OutputError(f"{path}: {exc.strerror}", hint="free space, or fix the rights of the directory") from exc
