"""The SQLite door: one file, one writer thread that commits in groups, and readers beside it.

WAL with `synchronous=FULL`: NORMAL loses acknowledged commits when power goes. Whoever writes awaits a
future that resolves once the group holding the write is on disk. No table is named here.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from engine import failpoints
from engine.clock import hold_time
from engine.errors import ConfigError, EngineError, LedgerBroken, OutputError
from engine.events import Waited
from engine.store.room import Room

Statement = tuple[str, Sequence[Sequence[Any]]]
_Ticket = tuple[list[Statement], "asyncio.Future[None]", asyncio.AbstractEventLoop]
# What the statements of a transaction change, as names of failpoints; asked only while one is set.
Places = Callable[[Iterable[Statement]], Iterable[str]]
# Asks the file what it is, and answers the statements that make it what it should be.
Migrate = Callable[[Callable[[str], Iterable[tuple[Any, ...]]]], Sequence[str]]
_GROUP_MAX = 4096
_TELL_EVERY_S = 0.1


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a database file with the pragmas every connection of ours has.

    Raises:
        LedgerBroken: not a database, or damaged. OutputError: the file cannot be opened.
    """
    try:
        if read_only:
            db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
        else:
            db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA busy_timeout=5000")
        db.execute("PRAGMA foreign_keys=ON")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as exc:
        raise _translate(exc, path) from exc
    return db


_FUNCTIONS_REFUSED = frozenset(("load_extension", "readfile", "writefile", "edit", "fts3_tokenizer"))


def ask_confined(path: Path, table: str, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a question that holds SQL of a user's: it can read the columns of one table, and do nothing else.

    Raises:
        ConfigError: the database refuses it, in the database's words.
    """

    def judge(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        is_fine = (
            action == sqlite3.SQLITE_SELECT
            or (action == sqlite3.SQLITE_READ and first == table)
            or (action == sqlite3.SQLITE_FUNCTION and second not in _FUNCTIONS_REFUSED)
        )
        return sqlite3.SQLITE_OK if is_fine else sqlite3.SQLITE_DENY

    db = connect(path, read_only=True)
    try:
        db.set_authorizer(judge)
        return db.execute(sql, values).fetchall()
    except (sqlite3.Error, sqlite3.Warning) as exc:
        raise ConfigError(f"the condition cannot be used: {exc}") from exc
    finally:
        db.close()


def _translate(exc: sqlite3.Error, path: Path) -> LedgerBroken | OutputError:
    text = str(exc)
    if "full" in text or "readonly" in text or "unable to open" in text or "I/O" in text:
        return OutputError(
            f"{path}: {text}", hint="free space or fix the rights of the state directory, then run again"
        )
    return LedgerBroken(
        f"{path}: {text}",
        hint=f"move {path.name}* away, or restore a copy, and run again: keys come from the input, "
        "so no job is created twice within 24 h",
    )


def is_in_doubt(error: sqlite3.Error) -> bool:
    """Whether the system failed to say if a commit is durable: the pages may be gone, and a second fsync would lie."""
    return getattr(error, "sqlite_errorcode", 0) in (sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC)


def _unconfirmed(path: Path) -> OutputError:
    return OutputError(
        f"{path}: the disk failed while a commit was made durable, so it is not known whether it holds",
        hint="check the disk, then run again: the next run goes by what the file really says",
    )


class Database:
    """One SQLite file with a writer thread of its own.

    A group that a full disk refuses is made again until there is room, as `room` says; later ones wait behind it.
    After a commit that could not be made durable nothing is written any more: the next process reads what is there.
    """

    def __init__(
        self, path: Path, schema: str, *, migrate: Migrate | None = None, places: Places | None = None
    ) -> None:
        """Open or create; `schema` must be safe to run again. `migrate` says what an older file needs before that."""
        self.path = path
        self._places = places if failpoints.IS_ON else None
        self._db = connect(path)
        self._reader: sqlite3.Connection | None = None
        try:
            if migrate is not None:
                self._change(migrate(self._db.execute))
            self._db.executescript(schema)
        except sqlite3.DatabaseError as exc:
            self._db.close()
            raise _translate(exc, path) from exc
        except LedgerBroken as exc:
            self._db.close()
            raise LedgerBroken(f"{path}: {exc.message}", hint=exc.hint) from exc
        self.room = Room()
        self._doubt: OutputError | None = None
        self._held: deque[_Ticket] = deque()
        self._tickets: queue.SimpleQueue[list[_Ticket] | None] = queue.SimpleQueue()
        self._untold_s = 0.0  # Time spent in commits that nobody was told of yet.
        self._thread = threading.Thread(target=self._write_groups, name="ledger-writer", daemon=True)
        self._thread.start()
        self.groups = 0
        self.writes = 0

    @property
    def is_in_doubt(self) -> bool:
        """Whether a commit could not be made durable; nothing is written since."""
        return self._doubt is not None

    def write(self, statements: list[Statement]) -> asyncio.Future[None]:
        """Queue statements, all or nothing; the future resolves when they are durable.

        Each statement is `(sql, rows)`, run once per row. Order of calls is order of effect.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        hold_time(future)
        is_first = not self._held
        self._held.append((statements, future, loop))
        if is_first:
            # Whatever is ready on the loop now writes too: all of it wakes the writer once, and is one group.
            loop.call_soon(self._hand_over)
        elif self._held[0][2] is not loop:
            self._hand_over()
        return future

    def _hand_over(self) -> None:
        """Give the writer what is held, in order; from any thread, each ticket once."""
        tickets: list[_Ticket] = []
        with contextlib.suppress(IndexError):
            while True:
                tickets.append(self._held.popleft())
        if tickets:
            self._tickets.put(tickets)

    def write_now(self, statements: list[Statement]) -> None:
        """Write on the calling thread; for moments when no loop runs and nobody else writes."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for sql, rows in statements:
                self._db.executemany(sql, rows)
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            self._roll_back()
            raise _translate(exc, self.path) from exc

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read on a connection of its own, beside the writer."""
        try:
            db = connect(self.path, read_only=True)
            try:
                return db.execute(sql, values).fetchall()
            finally:
                db.close()
        except sqlite3.Error as exc:
            raise _translate(exc, self.path) from exc

    def first(self, sql: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Read the first row on a connection that stays open: for what is asked a thousand times a second."""
        try:
            if self._reader is None:
                self._reader = connect(self.path, read_only=True)
            row: tuple[Any, ...] | None = self._reader.execute(sql, values).fetchone()
        except sqlite3.Error as exc:
            raise _translate(exc, self.path) from exc
        return row

    def _change(self, statements: Sequence[str]) -> None:
        """Change the tables, all or nothing: a file is of one version or of the next."""
        if not statements:
            return
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for sql in statements:
                self._db.execute(sql)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            self._roll_back()
            raise

    def close(self) -> None:
        """Finish what is queued, then close; safe to call twice. Waits for no room."""
        self.room.give_up()
        if self._thread.is_alive():
            self._hand_over()
            self._tickets.put(None)
            self._thread.join()
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._db.close()

    def _write_groups(self) -> None:
        while (tickets := self._tickets.get()) is not None:
            group = tickets
            is_last = False
            while len(group) < _GROUP_MAX:
                try:
                    following = self._tickets.get_nowait()
                except queue.Empty:
                    break
                if following is None:
                    is_last = True
                    break
                group += following
            self._commit(group)
            if is_last:
                return

    def _commit(self, group: list[_Ticket]) -> None:
        failure: EngineError | None = self._doubt
        started = time.monotonic()
        if failure is None:
            try:
                self.room.patiently(str(self.path), lambda: self._write_group(group))
            except EngineError as exc:
                failure = exc
        self._untold_s += time.monotonic() - started
        if self._untold_s >= _TELL_EVERY_S:
            self.room.tell(Waited("ledger", self._untold_s))
            self._untold_s = 0.0
        self.groups += 1
        self.writes += len(group)
        for loop, tickets in groupby(group, key=itemgetter(2)):
            # The loop may be gone: then the process is ending, or nobody waits there any more.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, [future for _, future, _ in tickets], failure)

    def _write_group(self, group: list[_Ticket]) -> None:
        """One transaction of the whole group; after an error none of it stands."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            # Neighbours that say the same are one statement: most of a group is jobs that moved on.
            in_order = chain.from_iterable(statements for statements, _, _ in group)
            for sql, same in groupby(in_order, key=itemgetter(0)):
                self._db.executemany(sql, chain.from_iterable(rows for _, rows in same))
            self._commit_group(group)
        except sqlite3.Error as exc:
            with contextlib.suppress(sqlite3.Error):
                self._roll_back()
            if is_in_doubt(exc):
                # The kernel may have dropped the pages it could not write, and a second fsync would say all is well.
                self._doubt = _unconfirmed(self.path)
                raise self._doubt from None
            raise _translate(exc, self.path) from exc

    def _commit_group(self, group: list[_Ticket]) -> None:
        if self._places is None:
            self._db.execute("COMMIT")
            return
        places = sorted(set(self._places(statement for statements, _, _ in group for statement in statements)))
        for place in places:
            failpoints.reach(place, failpoints.BEFORE)
        self._db.execute("COMMIT")
        for place in places:
            failpoints.reach(place, failpoints.AFTER)

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _resolve(futures: list[asyncio.Future[None]], failure: Exception | None) -> None:
    for future in futures:
        if future.done():
            continue
        if failure is None:
            future.set_result(None)
        else:
            future.set_exception(failure)
