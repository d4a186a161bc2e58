"""The ledger of one pipeline: runs, jobs, positions, parts and dead letters, each change durable before it counts.

Says what is written together; how it reaches the disk is `sqlite`'s work, what a state may become
`jobs.lifecycle`'s. Reading for humans is in `reading`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from engine.codec.payload import decode, encode
from engine.errors import LedgerBroken
from engine.record import DeadLetter, Mark, Slice
from engine.store import replays
from engine.store.lock import StateLock
from engine.store.migrate import steps
from engine.store.notices import NOTICES_SCHEMA, Notices
from engine.store.rows import REPLAYS_FROM, Book, JobRow, PartRow, Planned, RunRow
from engine.store.schema import SCHEMA, VERSION
from engine.store.seal import read_through, seal, unseal
from engine.store.sqlite import Database, Statement

_JOB_COLUMNS = JobRow.__struct_fields__
_RUN_COLUMNS = RunRow.__struct_fields__
_PART_COLUMNS = PartRow.__struct_fields__
_JOB_NAMES = ", ".join(_JOB_COLUMNS)
_RUN_NAMES = ", ".join(_RUN_COLUMNS)
_PART_NAMES = ", ".join(_PART_COLUMNS)
_MOVED = (
    "state", "attempt", "key", "trace_id", "remote_id", "sent_ns", "submitted_ns", "settled_ns", "ended_ns", "accepted",
    "rejected", "dead", "part", "error",
)  # fmt: skip
# Every job is written four times or more, so its row is made in C.
_SLICES = _JOB_COLUMNS.index("slices")
_job_columns = attrgetter(*_JOB_COLUMNS)
_moved_columns = attrgetter(*_MOVED, "epoch", "seq")


def _insert(table: str, columns: Sequence[str], *, or_replace: bool = False) -> str:
    names = ", ".join(f'"{name}"' for name in columns)
    verb = "INSERT OR REPLACE" if or_replace else "INSERT"
    return f"{verb} INTO {table} ({names}) VALUES ({', '.join('?' * len(columns))})"


_INSERT_JOB = _insert("jobs", _JOB_COLUMNS)
_MOVE_JOB = f"UPDATE jobs SET {', '.join(f'{name}=?' for name in _MOVED)} WHERE epoch=? AND seq=?"  # noqa: S608
_RESEAL = "UPDATE jobs SET digest=?, keys_digest=?, body_bytes=?, key=? WHERE epoch=? AND seq=? AND state='planned'"
_INSERT_RUN = _insert("runs", _RUN_COLUMNS, or_replace=True)
_END_RUN = "UPDATE runs SET outcome=?, ended_ns=? WHERE run_id=?"
_ADD_TO_RUN = "UPDATE runs SET read=read+?, filtered=filtered+?, dead=dead+? WHERE run_id=?"
_INSERT_PART = _insert("parts", _PART_COLUMNS, or_replace=True)
_LETTER_COLUMNS = (
    "run_id", "epoch", "seq", "bucket", "stage", "code", "reason", "input", "line", "start", "end", "key", "raw",
    "remote_id", "trace_id", "created_ns", "sent",
)  # fmt: skip
_INSERT_LETTER = _insert("dead_letters", _LETTER_COLUMNS)
_PUT_MARK = _insert("marks", ("epoch", "input", "offset", "line", "fingerprint", "head"), or_replace=True)
_KEEP = _insert("kept", ("epoch", "seq", "records"), or_replace=True)
_PUT_META = _insert("meta", ("name", "value"), or_replace=True)
_DROP_LETTERS = "UPDATE dead_letters SET state='dropped' WHERE epoch=? AND seq=? AND state IN ('open','edited')"
_UNKEEP = "DELETE FROM kept WHERE epoch=? AND seq=?"
_ATTEMPT = _insert(
    "attempts",
    (
        "epoch", "seq", "attempt", "remote_id", "outcome", "error", "ended_ns", "key", "trace_id", "code",
        "http_status",
    ),
    or_replace=True,
)  # fmt: skip


def job_values(job: JobRow) -> tuple[Any, ...]:
    """A job as the values of its table row."""
    values = list(_job_columns(job))
    values[_SLICES] = encode(job.slices)  # Slices are written once, never updated.
    return tuple(values)


def job_from(row: Sequence[Any]) -> JobRow:
    """A table row as a job."""
    members = dict(zip(_JOB_COLUMNS, row, strict=True))
    members["slices"] = decode(members["slices"], tuple[Slice, ...])
    return JobRow(**members)


def _places(statements: Iterable[Statement]) -> Iterator[str]:
    """The failpoints a transaction passes: `ledger:<state>` for each state some job enters; `ledger:ended` of a run."""
    columns = {_INSERT_JOB: _JOB_COLUMNS.index("state"), _MOVE_JOB: _MOVED.index("state")}
    for sql, rows in statements:
        if sql in columns:
            yield from (f"ledger:{row[columns[sql]]}" for row in rows)
        elif sql == _END_RUN:
            yield "ledger:ended"


class Ledger:
    """Opened by one process at a time; see `StateLock`.

    Every method that returns a future has queued its write; awaiting it waits for the disk.
    """

    def __init__(self, directory: Path, pipeline: str) -> None:
        """Lock the directory and open the ledger in it, creating both when absent.

        Raises:
            LedgerBusy: another process runs this pipeline.
            LedgerBroken: the file is damaged, newer than this engine, or another pipeline's. OutputError: it cannot be
            written.
        """
        self.directory = directory
        self._lock = StateLock(directory / "lock")
        self._lock.acquire()
        try:
            self.path = path = directory / "ledger.sqlite"
            is_whole = unseal(path)
            self._db = Database(path, SCHEMA + NOTICES_SCHEMA, migrate=steps, places=_places)
            if not is_whole:
                read_through(self._db)
            self.room = self._db.room
            self.notices = Notices(self._db)
            self._check(pipeline)
        except BaseException:
            self._lock.release()
            raise

    def _check(self, pipeline: str) -> None:
        meta = dict(self._db.rows("SELECT name, value FROM meta"))
        if not meta:
            self._db.write_now(
                [(_insert("meta", ("name", "value")), [("version", str(VERSION)), ("pipeline", pipeline)])]
            )
            return
        if meta.get("pipeline") != pipeline:
            self.close()
            raise LedgerBroken(
                f"{self._db.path} belongs to pipeline {meta.get('pipeline')!r}, not {pipeline!r}",
                hint="give the pipeline another name, or use another state_dir",
            )

    def close(self) -> None:
        """Finish queued writes, close, seal, unlock."""
        self._db.close()
        if not self._db.is_in_doubt:
            seal(self._db.path)
        self._lock.release()

    def identity(self) -> str:
        """What this ledger is known by to others; made up once, and kept for as long as the file is."""
        rows = self._db.rows("SELECT value FROM meta WHERE name='identity'")
        if rows:
            return str(rows[0][0])
        made = uuid.uuid4().hex
        self._db.write_now([(_PUT_META, [("identity", made)])])
        return made

    # What is there ---------------------------------------------------------------------------

    def platform(self) -> str | None:
        """The platform the newest run spoke to; None before the first."""
        rows = self._db.rows("SELECT value FROM meta WHERE name='platform'")
        return str(rows[0][0]) if rows else None

    def put_platform(self, platform: str) -> asyncio.Future[None]:
        """Remember the platform whose jobs this ledger holds from now on."""
        return self._db.write([(_insert("meta", ("name", "value"), or_replace=True), [("platform", platform)])])

    def last_run(self, *, epoch: int | None = None, is_done: bool = False) -> RunRow | None:
        """The newest run of the input, or of one epoch, a replay's too; only among those that are done, where asked."""
        return self._run(
            "epoch=coalesce(?1, epoch) AND (outcome IS NOT NULL OR NOT ?2) AND (lands_in IS NULL OR epoch=?1)",
            (epoch, is_done),
        )

    def open_replay(self) -> RunRow | None:
        """The newest replay of dead letters that is unfinished."""
        return self._run("outcome IS NULL AND lands_in IS NOT NULL", ())

    def next_replay_epoch(self) -> int:
        """An epoch no replay has had."""
        newest = int(self._db.rows("SELECT coalesce(max(epoch), 0) FROM runs")[0][0])
        return max(REPLAYS_FROM, newest + 1)

    def _run(self, condition: str, values: Sequence[Any]) -> RunRow | None:
        rows = self._db.rows(
            f"SELECT {_RUN_NAMES} FROM runs WHERE {condition} ORDER BY started_ns DESC, epoch DESC LIMIT 1",  # noqa: S608
            values,
        )
        return RunRow(**dict(zip(_RUN_COLUMNS, rows[0], strict=True))) if rows else None

    def open_jobs(self, epoch: int) -> list[JobRow]:
        """Jobs of this epoch that have not ended, by sequence."""
        rows = self._db.rows(
            f"SELECT {_JOB_NAMES} FROM jobs WHERE epoch=? AND state NOT IN ('committed','dead')"  # noqa: S608
            " ORDER BY seq",
            (epoch,),
        )
        return [job_from(row) for row in rows]

    def ended_jobs(self, run_id: str) -> dict[str, int]:
        """How many jobs of a run are committed, and how many dead."""
        sql = "SELECT state, count(*) FROM jobs WHERE run_id=? AND state IN ('committed','dead') GROUP BY state"
        return {str(state): int(count) for state, count in self._db.rows(sql, (run_id,))}

    def submitted_jobs(self) -> list[JobRow]:
        """Jobs of every epoch that are at the platform."""
        rows = self._db.rows(f"SELECT {_JOB_NAMES} FROM jobs WHERE state='submitted' ORDER BY epoch, seq")  # noqa: S608
        return [job_from(row) for row in rows]

    def job(self, epoch: int, seq: int) -> JobRow | None:
        """One job by its name for ever."""
        rows = self._db.rows(f"SELECT {_JOB_NAMES} FROM jobs WHERE epoch=? AND seq=?", (epoch, seq))  # noqa: S608
        return next((job_from(row) for row in rows), None)

    def last_seq(self, epoch: int) -> int:
        """The highest sequence number planned in this epoch; 0 when none."""
        return int(self._db.rows("SELECT coalesce(max(seq), 0) FROM jobs WHERE epoch=?", (epoch,))[0][0])

    def marks(self, epoch: int) -> dict[str, Mark]:
        """How far each input has been taken."""
        rows = self._db.rows("SELECT input, offset, line, fingerprint, head FROM marks WHERE epoch=?", (epoch,))
        return {row[0]: Mark(*row[1:]) for row in rows}

    def parts(self, epoch: int | None = None) -> list[PartRow]:
        """Durable parts, of one epoch or all."""
        rows = self._db.rows(
            f"SELECT {_PART_NAMES} FROM parts WHERE epoch=coalesce(?, epoch) ORDER BY epoch, number",  # noqa: S608
            (epoch,),
        )
        return [PartRow(**dict(zip(_PART_COLUMNS, row, strict=True))) for row in rows]

    def known_remotes(self, remote_ids: Sequence[str]) -> set[str]:
        """Which of these remote ids some job or earlier attempt of ours already holds."""
        asked = encode(list(remote_ids)).decode()
        sql = (
            "SELECT remote_id FROM jobs WHERE remote_id IN (SELECT value FROM json_each(?1))"
            " UNION SELECT remote_id FROM attempts WHERE remote_id IN (SELECT value FROM json_each(?1))"
        )
        return {row[0] for row in self._db.rows(sql, (asked,))}

    def aborted_attempts(self, job: JobRow) -> set[int]:
        """Numbers of the attempts of a job that we ourselves cancelled, or asked to be."""
        sql = "SELECT attempt FROM attempts WHERE epoch=? AND seq=? AND outcome IN ('aborting','aborted')"
        return {int(row[0]) for row in self._db.rows(sql, (job.epoch, job.seq))}

    def kept(self, job: JobRow) -> bytes | None:
        """The records of a job whose source cannot be read again."""
        rows = self._db.rows("SELECT records FROM kept WHERE epoch=? AND seq=?", (job.epoch, job.seq))
        return bytes(rows[0][0]) if rows else None

    def book(self, run_id: str) -> Book:
        """Add up the books of a run from what is on disk."""
        run = self._db.rows("SELECT read, filtered, dead FROM runs WHERE run_id=?", (run_id,))[0]
        jobs = self._db.rows(
            "SELECT count(*), coalesce(sum(accepted),0), coalesce(sum(rejected),0), coalesce(sum(dead),0)"
            " FROM jobs WHERE run_id=? AND state IN ('committed','dead')",
            (run_id,),
        )[0]
        total = self._db.rows("SELECT count(*) FROM jobs WHERE run_id=?", (run_id,))[0][0]
        parts = self._db.rows("SELECT count(*) FROM parts WHERE run_id=?", (run_id,))[0][0]
        return Book(
            read=run[0], filtered=run[1], accepted=jobs[1], rejected=jobs[2], dead=run[2] + jobs[3], jobs=total,
            parts=parts,
        )  # fmt: skip

    # What changes ----------------------------------------------------------------------------

    def put_run(self, run: RunRow) -> asyncio.Future[None]:
        """Write a run as it stands; not for the counts of a run that is being planned."""
        return self._db.write([(_INSERT_RUN, [tuple(getattr(run, name) for name in _RUN_COLUMNS)])])

    def end_run(self, run_id: str, *, outcome: str, now_ns: int) -> asyncio.Future[None]:
        """A run is over."""
        return self._db.write([(_END_RUN, [(outcome, now_ns, run_id)])])

    def stop_run(self, run_id: str, *, now_ns: int) -> asyncio.Future[None]:
        """A run was asked to stop and did so in order."""
        return self._db.write([("UPDATE runs SET stopped_ns=? WHERE run_id=?", [(now_ns, run_id)])])

    def note_file(self, path: str, text: str) -> asyncio.Future[None]:
        """Remember where the pipeline's file is, and what it says: references to secrets, never their values."""
        return self._db.write([(_PUT_META, [("file", path), ("text", text)])])

    def take_back(self, job: JobRow, kept: bytes | None) -> asyncio.Future[None]:
        """A job is open again, and so is its run; its dead letters are dropped, for its rows may yet arrive."""
        statements: list[Statement] = [
            self._moves([job]),
            (_DROP_LETTERS, [(job.epoch, job.seq)]),
            ("UPDATE runs SET outcome=NULL, ended_ns=NULL WHERE run_id=?", [(job.run_id,)]),
        ]
        if kept is not None:
            statements.append((_KEEP, [(job.epoch, job.seq, kept)]))
        return self._db.write(statements)

    def forget_run(self, run_id: str) -> asyncio.Future[None]:
        """Take back a run that found nothing to do."""
        return self._db.write([("DELETE FROM runs WHERE run_id=? AND read=0", [(run_id,)])])

    def touch_run(self, run_id: str, *, now_ns: int) -> asyncio.Future[None]:
        """Note that the run is alive, so that a resumed one can say when it died."""
        return self._db.write([("UPDATE runs SET alive_ns=? WHERE run_id=?", [(now_ns, run_id)])])

    def plan(
        self, run_id: str, epoch: int, planned: Sequence[Planned], letters: Sequence[tuple[Any, ...]]
    ) -> asyncio.Future[None]:
        """Jobs, books, positions and dead letters of planning: one transaction."""
        statements: list[Statement] = []
        jobs = [entry.job for entry in planned if entry.job is not None]
        if jobs:
            statements.append((_INSERT_JOB, [job_values(job) for job in jobs]))
        kept = [(entry.job.epoch, entry.job.seq, entry.kept) for entry in planned if entry.job and entry.kept]
        if kept:
            statements.append((_KEEP, kept))
        newest = {name: mark for entry in planned for name, mark in entry.marks.items()}
        statements.append(
            (_PUT_MARK, [(epoch, name, m.offset, m.line, m.fingerprint, m.head) for name, m in newest.items()])
        )
        totals = [(entry.read, entry.filtered, entry.dead, run_id) for entry in planned]
        statements.append((_ADD_TO_RUN, totals))
        if epoch >= REPLAYS_FROM:
            statements += [replays.ended(run_id, entry.slices) for entry in planned if entry.job is None]
        return self._db.write(statements + self._letters(letters))

    def move(self, jobs: Sequence[JobRow]) -> asyncio.Future[None]:
        """Write jobs as they stand now."""
        return self._db.write([self._moves(jobs)])

    def reseal(self, jobs: Sequence[JobRow]) -> asyncio.Future[None]:
        """Write what unsent jobs are made of, after it has changed."""
        rows = [(job.digest, job.keys_digest, job.body_bytes, job.key, job.epoch, job.seq) for job in jobs]
        return self._db.write([(_RESEAL, rows)])

    def close_attempt(
        self, job: JobRow, *, outcome: str, now_ns: int, code: str | None = None, http_status: int | None = None
    ) -> asyncio.Future[None]:
        """Remember an attempt that is over, before its job starts another one; call with the job as it was.

        `code` says why in a word; `http_status` is that of an answer that refused the request.
        """
        row = (
            job.epoch, job.seq, job.attempt, job.remote_id, outcome, job.error, now_ns, job.key, job.trace_id, code,
            http_status,
        )  # fmt: skip
        return self._db.write([(_ATTEMPT, [row])])

    def take_letters(self, run: RunRow, letter_ids: Sequence[int], *, now_ns: int) -> asyncio.Future[None]:
        """Begin a replay: its run, and the letters it takes, at once."""
        row = tuple(getattr(run, name) for name in _RUN_COLUMNS)
        return self._db.write([(_INSERT_RUN, [row]), replays.take(run.run_id, letter_ids, now_ns=now_ns)])

    def abandon_replay(self, run_id: str, *, outcome: str, now_ns: int) -> asyncio.Future[None]:
        """End a replay as it is; letters that have not ended are to be had again."""
        end: Statement = ("UPDATE runs SET outcome=?, ended_ns=? WHERE run_id=?", [(outcome, now_ns, run_id)])
        return self._db.write([replays.give_back(run_id), end])

    def end_jobs(
        self, jobs: Sequence[JobRow], *, part: PartRow | None, letters: Sequence[tuple[Any, ...]]
    ) -> asyncio.Future[None]:
        """Jobs that are committed or dead, the part that holds their rows, and their dead letters: one transaction."""
        statements = [self._moves(jobs), (_UNKEEP, [(job.epoch, job.seq) for job in jobs])]
        if part is not None:
            statements.append((_INSERT_PART, [tuple(getattr(part, name) for name in _PART_COLUMNS)]))
        return self._db.write(statements + self._letters(letters) + replays.ended_jobs(jobs))

    def forget_parts(self, epoch: int) -> asyncio.Future[None]:
        """Drop parts of every epoch but this one, once their files are to go."""
        return self._db.write([("DELETE FROM parts WHERE epoch<>?", [(epoch,)])])

    def _moves(self, jobs: Sequence[JobRow]) -> Statement:
        return (_MOVE_JOB, [_moved_columns(job) for job in jobs])

    def _letters(self, letters: Sequence[tuple[Any, ...]]) -> list[Statement]:
        if not letters:
            return []
        inserted: list[Statement] = [(_INSERT_LETTER, letters)]
        run_id, epoch = letters[0][:2]
        return [*inserted, replays.came_from(run_id)] if epoch >= REPLAYS_FROM else inserted


def letter_values(letter: DeadLetter, *, run_id: str, epoch: int, now_ns: int) -> tuple[Any, ...]:
    """A dead letter as the values of its table row."""
    return (
        run_id, epoch, letter.seq, letter.bucket, letter.stage, letter.code, letter.reason, letter.input, letter.line,
        letter.start, letter.end, letter.key, letter.raw, letter.remote_id, letter.trace_id, now_ns, letter.sent,
    )  # fmt: skip
