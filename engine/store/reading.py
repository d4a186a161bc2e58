"""The ledger, read by humans: runs, jobs and counts, beside a running engine and without its lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import msgspec

from engine.errors import NothingSuch
from engine.record import Mark
from engine.store.ledger import job_from
from engine.store.migrate import steps
from engine.store.rows import REPLAYS_FROM, JobRow
from engine.store.sqlite import connect


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """One run with its books, in rows; `jobs` and `parts` are counts."""

    pipeline: str
    run_id: str
    epoch: int
    outcome: str
    started_ns: int
    ended_ns: int | None
    invocations: int
    read: int
    accepted: int
    rejected: int
    dead: int
    filtered: int
    open: int
    jobs: int
    parts: int
    lands_in: int | None = None


class Glance:
    """A read-only look into one pipeline's ledger. Use as a context manager."""

    def __init__(self, directory: Path) -> None:
        """Open the ledger of a pipeline's state directory.

        Raises:
            NothingSuch: there is none.
        """
        path = directory / "ledger.sqlite"
        if not path.is_file():
            raise NothingSuch(
                f"there is no ledger in {directory}", hint="run the pipeline first, or check `state_dir` in config.toml"
            )
        self.path = path
        self.pipeline = directory.name
        self._db = connect(path, read_only=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @property
    def file(self) -> str | None:
        """Where the pipeline's file was when it last ran."""
        return self._meta("file")

    @property
    def text(self) -> str | None:
        """What the pipeline's file said when it last ran."""
        return self._meta("text")

    @property
    def platform(self) -> str | None:
        """The platform at which its jobs are."""
        return self._meta("platform")

    @property
    def epoch(self) -> int | None:
        """The epoch of the newest run of the input; None before the first."""
        row = self._db.execute("SELECT max(epoch) FROM runs WHERE epoch<?", (REPLAYS_FROM,)).fetchone()
        return None if row[0] is None else int(row[0])

    def unfinished_text(self, digest: str) -> str | None:
        """What the pipeline's file said when the run was planned that is unfinished; None unless it said otherwise."""
        row = self._db.execute(
            "SELECT (SELECT value FROM meta WHERE name='text') FROM runs WHERE outcome IS NULL AND lands_in IS NULL"
            " AND settings_digest<>? AND started_ns=(SELECT max(started_ns) FROM runs WHERE lands_in IS NULL)",
            (digest,),
        ).fetchone()
        return str(row[0]) if row and row[0] else None

    def runs(self, *, limit: int, run_id: str | None = None) -> list[RunLine]:
        """Runs, newest first; `run_id` may be a unique beginning of one."""
        rows = self._db.execute(
            """
            SELECT r.*, coalesce(j.n,0) n, coalesce(j.accepted,0) a, coalesce(j.rejected,0) x, coalesce(j.dead,0) d,
                   (SELECT count(*) FROM parts p WHERE p.run_id=r.run_id) parts
            FROM runs r LEFT JOIN (
              SELECT run_id, count(*) n,
                     sum(CASE WHEN state IN ('committed','dead') THEN accepted ELSE 0 END) accepted,
                     sum(CASE WHEN state IN ('committed','dead') THEN rejected ELSE 0 END) rejected,
                     sum(CASE WHEN state IN ('committed','dead') THEN dead ELSE 0 END) dead
              FROM jobs GROUP BY run_id
            ) j ON j.run_id=r.run_id
            WHERE r.run_id LIKE coalesce(?,'') || '%' ORDER BY r.started_ns DESC LIMIT ?
            """,
            (run_id, limit),
        )
        names = [column[0] for column in rows.description]
        return [self._line(dict(zip(names, row, strict=True))) for row in rows]

    def jobs(
        self, *, limit: int, state: str | None = None, run_id: str | None = None, name: str | None = None
    ) -> list[JobRow]:
        """Jobs, newest first, by state, by run, or by `name`: a sequence number, a remote id, a key or a trace id."""
        columns = ", ".join(JobRow.__struct_fields__)
        rows = self._db.execute(
            f"""
            SELECT {columns} FROM jobs
            WHERE (?1 IS NULL OR state=?1 OR (?1='open' AND state NOT IN ('committed','dead')))
              AND (?2 IS NULL OR run_id LIKE ?2 || '%')
              AND (?3 IS NULL OR remote_id=?3 OR "key"=?3 OR trace_id=?3 OR CAST(seq AS TEXT)=?3)
            ORDER BY epoch DESC, seq DESC LIMIT ?4
            """,  # noqa: S608 - the column names are our own Struct's
            (state, run_id, name, limit),
        )
        return [job_from(row) for row in rows]

    def newest(self) -> tuple[int | None, str | None]:
        """The epoch of the newest run of the input, and that run's id while it is unfinished."""
        row = self._db.execute(
            "SELECT epoch, run_id, outcome FROM runs WHERE lands_in IS NULL ORDER BY started_ns DESC LIMIT 1"
        ).fetchone()
        return (None, None) if row is None else (row[0], None if row[2] else row[1])

    def marks(self, epoch: int) -> dict[str, Mark]:
        """How far each input has been taken."""
        rows = self._db.execute("SELECT input, offset, line, fingerprint, head FROM marks WHERE epoch=?", (epoch,))
        return {row[0]: Mark(*row[1:]) for row in rows}

    def last_pace(self) -> tuple[float | None, float | None]:
        """Seconds of the last run that one process did from start to end, and its rows per second."""
        row = self._db.execute(
            "SELECT (ended_ns-started_ns)/1e9, read FROM runs WHERE outcome='done' AND invocations=1 AND read>0"
            " AND ended_ns>started_ns AND lands_in IS NULL ORDER BY started_ns DESC LIMIT 1"
        ).fetchone()
        return (None, None) if row is None else (row[0], row[1] / row[0])

    def usual_job_s(self) -> float | None:
        """How long jobs took, from their creation until we knew: the median of the last hundred."""
        rows = self._db.execute(
            "SELECT (settled_ns-submitted_ns)/1e9 FROM jobs WHERE settled_ns>submitted_ns AND state='committed'"
            " ORDER BY settled_ns DESC LIMIT 100"
        )
        times = sorted(row[0] for row in rows)
        return times[len(times) // 2] if times else None

    def alive_ns(self, run_id: str) -> int | None:
        """When the process of a run last said that it lives; None once it stopped or ended."""
        row = self._db.execute(
            "SELECT alive_ns FROM runs WHERE run_id=? AND outcome IS NULL AND stopped_ns IS NULL", (run_id,)
        ).fetchone()
        return None if row is None else row[0]

    def open_jobs(self) -> dict[str, int]:
        """How many jobs have not ended, by state."""
        sql = "SELECT state, count(*) FROM jobs WHERE state NOT IN ('committed','dead') GROUP BY state ORDER BY state"
        return {str(state): int(count) for state, count in self._db.execute(sql)}

    def waiting_letters(self) -> int:
        """How many dead letters wait for somebody: not sent again, and not dropped."""
        sql = "SELECT count(*) FROM dead_letters WHERE state IN ('open','edited','replaying')"
        return int(self._db.execute(sql).fetchone()[0])

    def reasons(self, run_id: str) -> dict[str, int]:
        """How many dead letters of a run there are by code."""
        sql = "SELECT code, count(*) FROM dead_letters WHERE run_id=? GROUP BY code ORDER BY code"
        return {str(code): int(count) for code, count in self._db.execute(sql, (run_id,))}

    def attempts(self, job: JobRow) -> list[dict[str, Any]]:
        """Earlier attempts of a job, oldest first."""
        names = ("attempt", "remote_id", "outcome", "error", "ended_ns", "key", "trace_id", "code", "http_status")
        rows = self._db.execute(
            f"SELECT {', '.join(names)} FROM attempts WHERE epoch=? AND seq=? ORDER BY attempt",  # noqa: S608
            (job.epoch, job.seq),
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def job(self, epoch: int, seq: int) -> JobRow | None:
        """One job by its name for ever."""
        columns = ", ".join(JobRow.__struct_fields__)
        rows = self._db.execute(f"SELECT {columns} FROM jobs WHERE epoch=? AND seq=?", (epoch, seq))  # noqa: S608
        return next((job_from(row) for row in rows), None)

    def holds(self, *, remote_id: str, trace_id: str | None) -> bool:
        """Whether a remote job is ours: by its id, or by the trace of a create whose answer never came."""
        sql = (
            "SELECT 1 FROM jobs WHERE remote_id=?1 OR trace_id=?2"
            " UNION SELECT 1 FROM attempts WHERE remote_id=?1 OR trace_id=?2"
        )
        return self._db.execute(sql, (remote_id, trace_id)).fetchone() is not None

    def letters(self, *, run_id: str, limit: int) -> list[dict[str, Any]]:
        """Dead letters of a run without their bytes, oldest first."""
        names = ("id", "bucket", "stage", "code", "reason", "input", "line", "key", "seq", "remote_id", "trace_id")
        rows = self._db.execute(
            f"SELECT {', '.join(names)} FROM dead_letters WHERE run_id=? ORDER BY id LIMIT ?",  # noqa: S608
            (run_id, limit),
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _meta(self, name: str) -> str | None:
        row = self._db.execute("SELECT value FROM meta WHERE name=?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def _line(self, row: dict[str, Any]) -> RunLine:
        dead = row["dead"] + row["d"]
        return RunLine(
            pipeline=self.pipeline,
            run_id=row["run_id"],
            epoch=row["epoch"],
            outcome=row["outcome"] or ("stopped" if row["stopped_ns"] else "unfinished"),
            started_ns=row["started_ns"],
            ended_ns=row["ended_ns"],
            invocations=row["invocations"],
            read=row["read"],
            accepted=row["a"],
            rejected=row["x"],
            dead=dead,
            filtered=row["filtered"],
            open=row["read"] - row["a"] - row["x"] - dead - row["filtered"],
            jobs=row["n"],
            parts=row["parts"],
            lands_in=row["lands_in"],
        )


def is_old(path: Path) -> bool:
    """Whether a ledger file was written by an older engine, whose tables lack columns."""
    db = connect(path, read_only=True)
    try:
        return bool(steps(db.execute))
    finally:
        db.close()


def pipelines_in(state_dir: Path) -> list[str]:
    """Names of the pipelines that have a ledger under a state directory."""
    return sorted(path.parent.name for path in state_dir.glob("*/ledger.sqlite")) if state_dir.is_dir() else []
