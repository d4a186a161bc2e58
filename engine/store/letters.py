"""Dead letters beside a running engine: found, counted, edited, dropped; and read in order by whoever sends them again.

The ledger writes new ones and says when a replay has ended them. Here they are looked at without its lock, and changed
only while no replay has taken them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import StateError
from engine.store.schema import SCHEMA
from engine.store.sqlite import Database, Statement, ask_confined, connect

OPEN, EDITED, REPLAYING, REPLAYED, DROPPED = "open", "edited", "replaying", "replayed", "dropped"
STATES = (OPEN, EDITED, REPLAYING, REPLAYED, DROPPED)
TO_BE_HAD = (OPEN, EDITED)
_TABLE = "dead_letters"
# `row` is the record as a replay would read it, as text: what conditions on its content are written about.
_LETTERS = "(SELECT *, CAST(coalesce(edited, raw) AS TEXT) AS row FROM dead_letters)"
_OF_NEWEST = """coalesce(lands_in, epoch)=
(SELECT epoch FROM runs WHERE lands_in IS NULL ORDER BY started_ns DESC, epoch DESC LIMIT 1)"""
_CHUNK_ROWS = 1_000
_CHUNK_BYTES = 1024 * 1024


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter: a row that was rejected or given up, where it came from, why, and what became of it since.

    raw        the record as it was read           edited   what somebody made of it
    sent       what travelled, where not `raw`     state    open, edited, replaying, replayed, dropped
    replay_of  the letter this one was before it was sent again        replay_run   the run that sent it again
    """

    id: int
    run_id: str
    epoch: int
    seq: int | None
    bucket: str
    stage: str
    code: str
    reason: str
    input: str
    line: int
    start: int
    end: int
    key: str
    remote_id: str | None
    trace_id: str | None
    created_ns: int
    state: str
    changed_ns: int | None
    replay_of: int | None
    replay_run: str | None
    raw: bytes
    edited: bytes | None
    sent: bytes | None

    @property
    def text(self) -> bytes:
        """The record as a replay would read it."""
        return self.raw if self.edited is None else self.edited


COLUMNS = Letter.__struct_fields__
_NAMES = ", ".join(f'"{name}"' for name in COLUMNS)


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters: all conditions hold at once; an empty one holds for every letter. `where` is SQL of a user's."""

    ids: tuple[int, ...] = ()
    keys: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    bucket: str | None = None
    states: tuple[str, ...] = ()
    epochs: tuple[int, ...] = ()
    run_id: str | None = None
    where: str | None = None


def _condition(selection: Selection) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    lists: tuple[tuple[str, Sequence[Any]], ...] = (
        ("id", selection.ids), ("key", selection.keys), ("code", selection.codes), ("state", selection.states),
        ("epoch", selection.epochs),
    )  # fmt: skip
    for name, wanted in lists:
        if wanted:
            parts.append(f"{name} IN ({', '.join('?' * len(wanted))})")
            values += wanted
    for name, one in (("bucket", selection.bucket), ("run_id", selection.run_id)):
        if one is not None:
            parts.append(f"{name}=?")
            values.append(one)
    if selection.where is not None:
        # On lines of its own, so that a comment in it ends with it.
        parts.append(f"(\n{selection.where}\n)")
    return " AND ".join(parts) or "1", values


class Letters:
    """The dead letters of one pipeline's ledger."""

    def __init__(self, directory: Path) -> None:
        """Look into a pipeline's state directory.

        Raises:
            StateError: there is no ledger.
        """
        self.path = directory / "ledger.sqlite"
        self.pipeline = directory.name
        if not self.path.is_file():
            raise StateError(
                f"there is no ledger in {directory}", hint="run the pipeline first, or check `state_dir` in config.toml"
            )

    def find(self, selection: Selection, *, limit: int = -1) -> list[Letter]:
        """Letters, oldest first.

        Raises:
            ConfigError: `where` is no condition on the columns of a letter.
        """
        condition, values = _condition(selection)
        sql = f"SELECT {_NAMES} FROM {_LETTERS} WHERE {condition} ORDER BY id LIMIT ?"  # noqa: S608 - confined
        return [_letter(row) for row in ask_confined(self.path, _TABLE, sql, [*values, limit])]

    def ids(self, selection: Selection) -> list[int]:
        """Only their ids, however many there are."""
        condition, values = _condition(selection)
        sql = f"SELECT id FROM {_LETTERS} WHERE {condition} ORDER BY id"  # noqa: S608 - confined
        return [int(row[0]) for row in ask_confined(self.path, _TABLE, sql, values)]

    def counts(self, selection: Selection) -> list[tuple[str, str, str, int]]:
        """How many there are of each bucket, code and state."""
        condition, values = _condition(selection)
        sql = (
            f"SELECT bucket, code, state, count(*) FROM {_LETTERS} WHERE {condition}"  # noqa: S608 - confined
            " GROUP BY bucket, code, state ORDER BY 4 DESC, 1, 2, 3"
        )
        return [(str(a), str(b), str(c), int(n)) for a, b, c, n in ask_confined(self.path, _TABLE, sql, values)]

    def current_epochs(self) -> list[int]:
        """The epoch of the newest run of the input, and those of the replays that land in its output."""
        return [int(row[0]) for row in self._ask(f"SELECT DISTINCT epoch FROM runs WHERE {_OF_NEWEST}")]  # noqa: S608

    def is_replaying(self) -> bool:
        """Whether a replay into that epoch is unfinished."""
        sql = f"SELECT 1 FROM runs WHERE outcome IS NULL AND lands_in IS NOT NULL AND {_OF_NEWEST}"  # noqa: S608
        return bool(self._ask(sql))

    def _ask(self, sql: str) -> list[tuple[Any, ...]]:
        db = connect(self.path, read_only=True)
        try:
            return list(db.execute(sql))
        finally:
            db.close()

    def edit(self, letter: Letter, text: bytes, *, now_ns: int) -> None:
        """Give a letter another text; what was read stays beside it.

        Raises:
            StateError: a replay has taken it meanwhile.
        """
        self._change(letter, EDITED, text, now_ns=now_ns)

    def reset(self, letter: Letter, *, now_ns: int) -> None:
        """Take back every edit, and a drop."""
        self._change(letter, OPEN, None, now_ns=now_ns)

    def drop(self, letter: Letter, *, now_ns: int) -> None:
        """Say that a letter is never to be sent again; it stays readable."""
        self._change(letter, DROPPED, letter.edited, now_ns=now_ns)

    def _change(self, letter: Letter, state: str, edited: bytes | None, *, now_ns: int) -> None:
        sql = (
            "UPDATE dead_letters SET state=?, edited=?, changed_ns=?"
            " WHERE id=? AND state IN ('open','edited','dropped')"
        )
        change: Statement = (sql, [(state, edited, now_ns, letter.id)])
        database = Database(self.path, SCHEMA)
        try:
            database.write_now([change])
            now = database.rows("SELECT state, edited FROM dead_letters WHERE id=?", (letter.id,))
        finally:
            database.close()
        if now != [(state, edited)]:
            raise StateError(
                f"letter {letter.id} of {self.pipeline} is {now[0][0] if now else 'gone'} and cannot be changed",
                hint="a letter that was sent again has ended; if it failed, its successor can be changed",
            )


class Shelf:
    """The letters one replay has taken, in order of their ids, which are their places."""

    def __init__(self, path: Path, run_id: str) -> None:
        self._path = path
        self._run_id = run_id

    def chunks(self, after: int, until: int | None = None) -> Iterator[list[Letter]]:
        """Letters with `after < id <= until`, some at a time; at most 1 MiB, or one letter."""
        while chunk := self._chunk(after, until):
            yield chunk
            after = chunk[-1].id

    def _chunk(self, after: int, until: int | None) -> list[Letter]:
        # A connection for each chunk: chunks are asked for from whichever thread drives the source.
        db = connect(self._path, read_only=True)
        try:
            sql = (
                f"SELECT {_NAMES} FROM {_TABLE} WHERE replay_run=? AND id>? AND id<=coalesce(?, id)"  # noqa: S608
                " ORDER BY id LIMIT ?"
            )
            chunk: list[Letter] = []
            room = _CHUNK_BYTES
            for row in db.execute(sql, (self._run_id, after, until, _CHUNK_ROWS)):
                letter = _letter(row)
                room -= len(letter.text)
                if chunk and room < 0:
                    break
                chunk.append(letter)
            return chunk
        finally:
            db.close()


def _letter(row: Sequence[Any]) -> Letter:
    return Letter(**dict(zip(COLUMNS, row, strict=True)))
