"""One process per pipeline: a file lock that dies with its holder and says who that is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from pathlib import Path

import msgspec

from engine.codec.payload import decode, encode
from engine.errors import EngineError, LedgerBusy, OutputError


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock."""

    pid: int
    host: str
    since: str


class StateLock:
    """An exclusive lock on a directory of state.

    The kernel drops it when the process dies, however it dies, so there is never a stale one to remove.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LedgerBusy: somebody has it; says who, since when and where.
            OutputError: the directory cannot be written.
        """
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise OutputError(
                f"{self._path.parent}: {exc.strerror}",
                hint="set `state_dir` in config.toml to a writable directory",
            ) from exc
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said = os.pread(fd, 4096, 0)
            os.close(fd)
            raise LedgerBusy(_describe(self._path, said), hint="wait for it to end, or stop that process") from None
        holder = Holder(os.getpid(), socket.gethostname(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
        with contextlib.suppress(OSError):
            # A disk that is full takes no name; the lock holds without.
            os.ftruncate(fd, 0)
            os.pwrite(fd, encode(holder), 0)
        self._fd = fd

    def release(self) -> None:
        """Give it back; safe to call twice."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _describe(path: Path, said: bytes) -> str:
    try:
        holder = decode(said, Holder, max_bytes=4096)
    except EngineError:
        return f"{path.parent} is in use by another process"
    return f"{path.parent} is in use by process {holder.pid} on {holder.host} since {holder.since}"
