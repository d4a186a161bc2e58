"""Room: what a run does while a disk is full, read-only or out of files: it waits, says so, and goes on.

Plain and blocking on purpose: writers call it on their threads, so whoever awaits them is held back, and back-pressure
reaches the source. It writes nothing itself. A failed fsync is never waited out: what it left behind is not known.
"""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from engine.errors import DiskFull, OutputError
from engine.events import Event, Waited, Warned
from engine.ports import Observer

T = TypeVar("T")

PAUSE_S = 0.5
_ERRNOS = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE))
# By number, because SQLite enters by `sqlite` alone: FULL, CANTOPEN (one file too many), IOERR_WRITE, IOERR_TRUNCATE,
# and IOERR_SHMOPEN and IOERR_SHMSIZE, a full disk as the index of the write-ahead log meets it. A write that was
# refused leaves the transaction undone, so it can be made again.
_SQLITE_CODES = frozenset((13, 14, 778, 1546, 4618, 4874))


def lacks_room(error: BaseException) -> bool:
    """Whether a write failed for want of space, of a writable disk, of a file descriptor or of whoever takes it.

    Such a write may be made again.
    """
    if is_away(error):
        return True
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno in _ERRNOS
        if (code := getattr(cause, "sqlite_errorcode", None)) is not None:
            return code in _SQLITE_CODES
        cause = cause.__cause__
    return False


def is_away(error: BaseException) -> bool:
    """Whether whoever takes the output is not there for now: it says so of itself, in the fact `is_away`."""
    return isinstance(error, OutputError) and error.facts.get("is_away") is True


class Room:
    """The patience of one run; shared by its ledger and its sink, and safe to use from any thread.

    `tell` is called, on the thread that waits, with what an operator should know: once when a place is found full, once
    when it has room again, and with every wait in between.
    """

    def __init__(self) -> None:
        self.tell: Callable[[Event], None] = _tell_nobody
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        self._away: set[str] = set()

    @property
    def is_paused(self) -> bool:
        """Whether somebody waits for room now."""
        return bool(self._since)

    def report_to(self, observer: Observer) -> None:
        """Tell this observer, on the loop that runs now."""
        loop = asyncio.get_running_loop()

        def tell(event: Event) -> None:
            loop.call_soon_threadsafe(observer.notice, event)

        self.tell = tell

    def patiently(self, place: str, act: Callable[[], T]) -> T:
        """Do `act`, again and again while `place` has no room for it. Blocks; `act` must be safe to repeat.

        Raises:
            DiskFull: there was no room until a stop was asked for. Else as `act`.
        """
        while True:
            try:
                done = act()
            except OutputError as exc:
                if not lacks_room(exc):
                    raise
                self._pause(place, exc)
            else:
                self._resume(place)
                return done

    def give_up(self) -> None:
        """A stop was asked for: nobody waits any more."""
        self._is_over.set()

    def _pause(self, place: str, error: OutputError) -> None:
        gone = is_away(error)
        with self._lock:
            is_new = place not in self._since
            since = self._since.setdefault(place, time.monotonic())
            (self._away.add if gone else self._away.discard)(place)
        if self._is_over.is_set():
            with self._lock:
                self._since.pop(place, None)
            what = "bring it back" if gone else "free space"
            raise DiskFull(
                f"{error.message}; stopped after {time.monotonic() - since:.0f} s of waiting",
                hint=f"{what}, then run again: the run goes on where it is, nothing is lost",
            ) from error
        if is_new:
            what = "it" if gone else "room"
            said = f"{error.message}; the run waits for {what}, and goes on by itself. Ctrl-C stops it, nothing is lost"
            self.tell(Warned("output.away" if gone else "disk.full", said))
        self._is_over.wait(PAUSE_S)
        self.tell(Waited("output" if gone else "disk", PAUSE_S))

    def _resume(self, place: str) -> None:
        if not self._since:
            return
        with self._lock:
            since = self._since.pop(place, None)
        if since is not None:
            waited_s = time.monotonic() - since
            code, what = (
                ("output.back", "the sink takes rows") if place in self._away else ("disk.room", f"{place} has room")
            )
            self.tell(Warned(code, f"{what} again after {waited_s:.1f} s; the run goes on"))


def _tell_nobody(_: Event) -> None:
    return
