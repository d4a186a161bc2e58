"""Room: waiting while a disk takes nothing, on whichever thread, and what is not waited for."""

from __future__ import annotations

import errno
import sqlite3
import threading

import pytest

from engine.errors import DiskFull, Exit, OutputError
from engine.events import Event, Waited, Warned
from engine.store.room import Room, lacks_room
from engine.store.sqlite import is_in_doubt


def _refused(number: int) -> OutputError:
    error = OutputError("p: refused")
    error.__cause__ = OSError(number, "refused")
    return error


def _database_error(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("refused")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE])
def test_these_refusals_are_waited_out(number: int) -> None:
    """No space, no quota, no writing, no descriptor: each may pass."""
    assert lacks_room(_refused(number))


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENOENT, errno.EBADF])
def test_other_refusals_are_not(number: int) -> None:
    """A broken disk, missing rights or a missing directory is for somebody to mend."""
    assert not lacks_room(_refused(number))
    assert not lacks_room(OutputError("nobody knows why"))


def test_sqlite_says_it_in_its_own_codes() -> None:
    """Full and refused writes may be made again; a failed fsync leaves doubt, and is no lack of room."""
    for code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CANTOPEN):
        assert lacks_room(_database_error(code))
        assert not is_in_doubt(_database_error(code))
    for code in (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC):
        assert is_in_doubt(_database_error(code))
        assert not lacks_room(_database_error(code))
    assert not lacks_room(_database_error(sqlite3.SQLITE_CORRUPT))


def test_an_act_is_done_again_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried until it succeeds; the wait is said once, each pause is told, and so is its end."""
    monkeypatch.setattr("engine.store.room.PAUSE_S", 0.001)
    room, told, left = Room(), list[Event](), [3]
    room.tell = told.append

    def act() -> str:
        if left[0]:
            left[0] -= 1
            assert bool(told) == room.is_paused
            raise _refused(errno.ENOSPC)
        return "done"

    assert room.patiently("the place", act) == "done"
    assert [event.code for event in told if isinstance(event, Warned)] == ["disk.full", "disk.room"]
    assert sum(isinstance(event, Waited) and event.reason == "disk" for event in told) == 3
    assert not room.is_paused


def test_giving_up_wakes_whoever_waits_and_lets_nobody_wait_again() -> None:
    """A stop ends a wait at once; what cannot be written afterwards fails with the code of an interruption."""
    room, paused, failures = Room(), threading.Event(), list[DiskFull]()
    room.tell = lambda _: paused.set()

    def act() -> None:
        raise _refused(errno.ENOSPC)

    def wait() -> None:
        try:
            room.patiently("the place", act)
        except DiskFull as exc:
            failures.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    assert paused.wait(10)
    room.give_up()
    thread.join(10)
    assert not thread.is_alive()
    assert [error.exit_code for error in failures] == [Exit.INTERRUPTED]
    with pytest.raises(DiskFull, match="p: refused"):
        room.patiently("the place", act)
    assert room.patiently("the place", lambda: 7) == 7


def test_other_errors_pass_through() -> None:
    """What room cannot mend is the caller's, at the first try."""
    tries: list[int] = []

    def act() -> None:
        tries.append(1)
        raise _refused(errno.EACCES)

    with pytest.raises(OutputError, match="p: refused"):
        Room().patiently("the place", act)
    assert len(tries) == 1
