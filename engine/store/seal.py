"""Seal: what a ledger looked like when it was closed, so that a disk that changed it since is found out.

SQLite has no checksums: a bit that flips inside a value reads as another value. A seal is the SHA-256 of the whole
file, written at a clean close and taken off when the file is opened again. A ledger without one (its process was
killed, or somebody edited it) is read through by SQLite instead, which finds all damage but such bits. Both cost
about a second per gigabyte, which is some millions of jobs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import msgspec

from engine.codec.payload import decode, encode
from engine.errors import EngineError, LedgerBroken, OutputError
from engine.store.sqlite import Database

_SEAL_BYTES_MAX = 4096


class _Seal(msgspec.Struct, frozen=True):
    size: int
    mtime_ns: int
    sha256: str


def seal(path: Path) -> None:
    """Seal a ledger that was just closed. One that cannot be sealed stays as it is: a seal is a help, not a duty."""
    with contextlib.suppress(OSError):
        if _wal(path).exists():
            return  # Something of it is still outside the file.
        found, temporary = _look(path), _seal_path(path).with_suffix(".tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, encode(found))
            os.fsync(fd)
        finally:
            os.close(fd)
        temporary.rename(_seal_path(path))
        _sync_directory(path)


def unseal(path: Path) -> bool:
    """Take the seal off a ledger that is about to be opened, creating an empty file where there is none.

    True: it is whole, and nothing more need be checked.

    Raises:
        LedgerBroken: the file was emptied, or its bytes changed while nobody wrote it. OutputError: no write is taken.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return _unseal(path)
    except OSError as exc:
        raise OutputError(
            f"{path}: {exc.strerror}", hint="free space or fix the rights of the state directory, then run again"
        ) from exc


def _unseal(path: Path) -> bool:
    said, status = _read(_seal_path(path)), path.stat()
    if not status.st_size and (said is not None or _has_log(path)):
        # SQLite would take it for a new one, and the parts of the lost one would be swept away.
        raise _broken(path, "is empty and was not")
    if said is None:
        return False
    # An edit moves the time of change, a failing disk does not. Whoever edits a ledger, or restores one, is believed.
    is_same_file = status.st_mtime_ns == said.mtime_ns and not _has_log(path)
    is_whole = is_same_file and _look(path) == said
    if is_same_file and not is_whole:
        raise _broken(path, "is not what was written: its checksum differs, though nobody changed it")
    # Gone for good before the first write: a seal that outlived one would accuse a sound file.
    _seal_path(path).unlink(missing_ok=True)
    _sync_directory(path)
    return is_whole


def read_through(db: Database) -> None:
    """Have SQLite read every page of a ledger that has no seal.

    Raises:
        LedgerBroken: it found damage.
    """
    try:
        found = [row[0] for row in db.rows("PRAGMA quick_check(3)")]
        if found != ["ok"]:
            raise _broken(db.path, f"is damaged: {found[0].splitlines()[-1]}")
    except EngineError:
        db.close()
        raise


def _broken(path: Path, what: str) -> LedgerBroken:
    return LedgerBroken(
        f"{path} {what}",
        hint=f"restore a copy, or move {path.stem}* away and run again: keys come from the input, so no job is created "
        "twice within 24 h",
    )


def _look(path: Path) -> _Seal:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        return _Seal(status.st_size, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest())


def _read(path: Path) -> _Seal | None:
    try:
        return decode(path.read_bytes(), _Seal, max_bytes=_SEAL_BYTES_MAX)
    except (OSError, EngineError):
        return None


def _seal_path(path: Path) -> Path:
    return path.with_suffix(".seal")


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _has_log(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return _wal(path).stat().st_size > 0
    return False


def _sync_directory(path: Path) -> None:
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
