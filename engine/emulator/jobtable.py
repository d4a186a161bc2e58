"""The table of jobs: what is stored of each, the legal ways to change it, and how to read it back.

Every transition is one guarded UPDATE, so a terminal state is written exactly once whoever comes late. A realm is a
tenant's live or sandbox namespace. Nothing here waits, works or answers requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import msgspec

from engine.codec.payload import encode, loads
from engine.contract.jobs import QUEUED, RUNNING, SUCCEEDED, JobError, RemoteJob
from engine.emulator.state import State

# Ids are ULIDs, so their order is the order of creation and a page is a range of one index. Counts are kept by
# triggers: a list is asked for far more often than a job changes.
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, realm TEXT NOT NULL, tenant_id TEXT NOT NULL, client_id TEXT NOT NULL, kind TEXT NOT NULL,
    status TEXT NOT NULL, secrecy_level TEXT NOT NULL, callback_url TEXT, trace_id TEXT NOT NULL,
    span_id TEXT NOT NULL, digest BLOB NOT NULL, is_sandbox INTEGER NOT NULL, created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL, claimed_ns INTEGER, due_ns INTEGER, completed_ns INTEGER,
    attempt INTEGER NOT NULL DEFAULT 0, is_stuck INTEGER NOT NULL DEFAULT 0,
    is_cancelling INTEGER NOT NULL DEFAULT 0, progress_pct INTEGER, error BLOB, summary BLOB
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_by_kind_and_status ON jobs (realm, kind, status, id);
CREATE INDEX IF NOT EXISTS jobs_by_kind ON jobs (realm, kind, id);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (realm, status, id);
CREATE INDEX IF NOT EXISTS jobs_by_realm ON jobs (realm, id);
CREATE TABLE IF NOT EXISTS payloads (job_id TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS idempotency (
    realm TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, created_ns INTEGER NOT NULL, PRIMARY KEY (realm, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job_counts (
    realm TEXT NOT NULL, kind TEXT NOT NULL, status TEXT NOT NULL, n INTEGER NOT NULL,
    PRIMARY KEY (realm, kind, status)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job_answers (name TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS jobs_count_in AFTER INSERT ON jobs BEGIN
    INSERT INTO job_counts VALUES (new.realm, new.kind, new.status, 1)
    ON CONFLICT (realm, kind, status) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER IF NOT EXISTS jobs_count_on AFTER UPDATE OF status ON jobs WHEN old.status <> new.status BEGIN
    UPDATE job_counts SET n = n - 1 WHERE realm = old.realm AND kind = old.kind AND status = old.status;
    INSERT INTO job_counts VALUES (new.realm, new.kind, new.status, 1)
    ON CONFLICT (realm, kind, status) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER IF NOT EXISTS jobs_count_out AFTER DELETE ON jobs BEGIN
    UPDATE job_counts SET n = n - 1 WHERE realm = old.realm AND kind = old.kind AND status = old.status;
END;
"""


class Job(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One job as stored; times in wall nanoseconds. `error` and `summary` are JSON text."""

    id: str
    realm: str
    tenant_id: str
    client_id: str
    kind: str
    status: str
    secrecy_level: str
    callback_url: str | None
    trace_id: str
    span_id: str
    digest: bytes
    is_sandbox: bool
    created_ns: int
    updated_ns: int
    claimed_ns: int | None = None
    due_ns: int | None = None
    completed_ns: int | None = None
    attempt: int = 0
    is_stuck: bool = False
    is_cancelling: bool = False
    progress_pct: int | None = None
    error: bytes | None = None
    summary: bytes | None = None


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ends."""

    status: str
    at_ns: int
    error: JobError | None = None
    summary: dict[str, Any] | None = None
    progress_pct: int = 100


_FIELDS = Job.__struct_fields__
_COLUMNS = ", ".join(_FIELDS)
# Not OR IGNORE: SQLite would hand that policy down into the counting trigger.
_INSERT = f"INSERT INTO jobs ({_COLUMNS}) VALUES ({', '.join('?' * len(_FIELDS))}) ON CONFLICT (id) DO NOTHING"  # noqa: S608
# What a job that was just created has; the rest is what the table says by itself.
_NEW = _FIELDS[: _FIELDS.index("claimed_ns")]
_INSERT_NEW = f"INSERT INTO jobs ({', '.join(_NEW)}) VALUES ({', '.join('?' * len(_NEW))})"  # noqa: S608
_new_values = attrgetter(*_NEW)


def _job(row: tuple[Any, ...]) -> Job:
    return Job(**dict(zip(_FIELDS, row, strict=True)))


def accept(state: State, job: Job, payload: bytes, *, key: str | None, body: bytes) -> None:
    """Store a job that was just created, what it is to do, and the 201 its key is bound to: all or none."""
    with state.transaction() as db:
        db.execute(_INSERT_NEW, _new_values(job))
        db.execute("INSERT INTO payloads (job_id, body) VALUES (?, ?)", (job.id, payload))
        if key is not None:
            remember(state, job.realm, key, body)
        count_answer(state, "creates")


def insert(state: State, job: Job) -> bool:
    """Store a job of the sandbox, which has no work left; False when its id is taken."""
    return state.db.execute(_INSERT, msgspec.structs.astuple(job)).rowcount == 1


def load(state: State, job_id: str, *, realm: str | None = None) -> Job | None:
    """One job; None when unknown, or when it is another realm's (contract 1.5)."""
    row = state.db.execute(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608
    job = None if row is None else _job(row)
    return job if job is not None and realm in (None, job.realm) else None


def payload_of(state: State, job_id: str) -> bytes:
    """What the job is to do, as it came; kept until the job ends."""
    row = state.db.execute("SELECT body FROM payloads WHERE job_id = ?", (job_id,)).fetchone()
    return bytes(row[0]) if row else b"null"


def page(
    state: State, realm: str, *, kind: str | None, statuses: Sequence[str] | None, before: str | None, limit: int
) -> tuple[list[Job], int]:
    """Jobs older than the id `before`, newest first, and how many match in all."""
    where, values = ["realm = ?"], [realm]
    if kind is not None:
        where.append("kind = ?")
        values.append(kind)
    if statuses is not None:
        where.append(f"status IN ({', '.join('?' * len(statuses))})")
        values.extend(statuses)
    count = "SELECT COALESCE(SUM(n), 0) FROM job_counts WHERE " + " AND ".join(where)  # noqa: S608 - own clauses
    total = state.db.execute(count, values).fetchone()[0]
    if before is not None:
        where.append("id < ?")
        values.append(before)
    chosen = f"SELECT {_COLUMNS} FROM jobs WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?"  # noqa: S608
    return [_job(row) for row in state.db.execute(chosen, (*values, limit))], total


def unfinished(state: State) -> list[tuple[str, str, int]]:
    """(id, status, due_ns or 0) of each live job that is queued or running, oldest first."""
    rows = state.db.execute(
        "SELECT id, status, COALESCE(due_ns, 0) FROM jobs WHERE status IN (?, ?) AND NOT is_sandbox ORDER BY id",
        (QUEUED, RUNNING),
    )
    return [(row[0], row[1], row[2]) for row in rows]


def claim(state: State, job_id: str, *, due_ns: int, is_stuck: bool) -> bool:
    """Move a job from queued to running."""
    now_ns = state.clock.now_ns()
    changed = state.db.execute(
        "UPDATE jobs SET status = ?, claimed_ns = ?, due_ns = ?, updated_ns = ?, is_stuck = ?, attempt = attempt + 1"
        " WHERE id = ? AND status = ?",
        (RUNNING, now_ns, due_ns, now_ns, is_stuck, job_id, QUEUED),
    )
    return changed.rowcount == 1


def requeue(state: State, job: Job) -> bool:
    """Move a job from running back to queued: the reaper, when its heartbeat is lost (contract 9.1)."""
    changed = state.db.execute(
        "UPDATE jobs SET status = ?, claimed_ns = NULL, due_ns = NULL, updated_ns = ?, is_stuck = 0"
        " WHERE id = ? AND status = ? AND attempt = ?",
        (QUEUED, state.clock.now_ns(), job.id, RUNNING, job.attempt),
    )
    return changed.rowcount == 1


def ask_to_stop(state: State, job: Job, *, due_ns: int) -> bool:
    """Have a running job stop at `due_ns`."""
    changed = state.db.execute(
        "UPDATE jobs SET is_cancelling = 1, is_stuck = 0, due_ns = ?, updated_ns = ? WHERE id = ? AND status = ?",
        (due_ns, state.clock.now_ns(), job.id, RUNNING),
    )
    return changed.rowcount == 1


def end(state: State, job: Job, ending: Ending) -> bool:
    """Write the terminal state, once: False when the job is no longer what `job` says, and nothing changed.

    Call inside the transaction that makes the job's effects true.
    """
    changed = state.db.execute(
        "UPDATE jobs SET status = ?, completed_ns = ?, updated_ns = ?, error = ?, summary = ?, progress_pct = ?"
        " WHERE id = ? AND status = ? AND attempt = ? AND (is_cancelling = 0 OR ? <> 'succeeded')",
        (
            ending.status, ending.at_ns, ending.at_ns, None if ending.error is None else encode(ending.error),
            None if ending.summary is None else encode(ending.summary), ending.progress_pct,
            job.id, job.status, job.attempt, ending.status,
        ),
    )  # fmt: skip
    if changed.rowcount != 1:
        return False
    state.db.execute("DELETE FROM payloads WHERE job_id = ?", (job.id,))
    return True


def progress(job: Job, now_ns: int) -> int:
    """0-100, never falling within an attempt; computed, since a row per heartbeat would say no more."""
    if job.status == QUEUED:
        return 0
    if job.progress_pct is not None:
        return job.progress_pct
    if job.status == SUCCEEDED:
        return 100
    if job.claimed_ns is None or job.due_ns is None or job.is_stuck:
        return 0
    return max(0, min(99, 100 * (now_ns - job.claimed_ns) // max(1, job.due_ns - job.claimed_ns)))


def heartbeat_ns(job: Job, now_ns: int, every_s: float) -> int:
    """When the worker last showed a sign of life; a stuck one does so once, when it claims the job."""
    if job.status != RUNNING or job.claimed_ns is None or job.is_stuck:
        return job.updated_ns
    every_ns = int(every_s * 1e9)
    return max(job.updated_ns, job.claimed_ns + (now_ns - job.claimed_ns) // every_ns * every_ns)


def view(state: State, job: Job) -> RemoteJob:
    """The job object of contract 9.1, as of now."""
    now_ns = job.updated_ns if job.is_sandbox else state.clock.now_ns()
    pulse_ns = heartbeat_ns(job, now_ns, state.profile.heartbeat_s)
    return RemoteJob(
        id=job.id, kind=job.kind, status=job.status, progress_pct=progress(job, now_ns),
        created_at=state.now_text(job.created_ns), updated_at=state.now_text(pulse_ns),
        completed_at=None if job.completed_ns is None else state.now_text(job.completed_ns),
        error=None if job.error is None else loads(job.error), trace_id=job.trace_id,
    )  # fmt: skip


def replay_of(state: State, realm: str, key: str) -> bytes | None:
    """The 201 this key was answered with, while its window lasts; a later use starts afresh (contract 9.2)."""
    row = state.db.execute(
        "SELECT body, created_ns FROM idempotency WHERE realm = ? AND key = ?", (realm, key)
    ).fetchone()
    if row is None or row[1] <= state.clock.now_ns() - state.profile.idempotency_window_s * 1_000_000_000:
        return None
    return bytes(row[0])


def remember(state: State, realm: str, key: str, body: bytes) -> None:
    """Bind a key to the 201 it was answered with."""
    state.db.execute(
        "INSERT OR REPLACE INTO idempotency (realm, key, body, created_ns) VALUES (?, ?, ?, ?)",
        (realm, key, body, state.clock.now_ns()),
    )


def count_answer(state: State, name: str) -> None:
    """Count a 201 (`creates`) or a replay's 200 (`replays`)."""
    state.db.execute("INSERT INTO job_answers VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET n = n + 1", (name,))


def purge(state: State) -> None:
    """Forget jobs past their retention (Q47) and keys past their window. Results have their own, shorter one."""
    now_ns = state.clock.now_ns()
    with state.transaction() as db:
        db.execute(
            "DELETE FROM jobs WHERE completed_ns < ? AND NOT is_sandbox",
            (now_ns - state.profile.job_retention_s * 1_000_000_000,),
        )
        db.execute(
            "DELETE FROM idempotency WHERE created_ns < ?",
            (now_ns - state.profile.idempotency_window_s * 1_000_000_000,),
        )


def books(state: State) -> dict[str, Any]:
    """What the emulator counted of jobs, for whoever checks somebody else's books against it.

    `same_trace` and `same_payload`: how many trace ids, and payload digests of live jobs, more than one job has.
    """
    db = state.db
    counted = db.execute("SELECT kind, status, SUM(n) FROM job_counts GROUP BY kind, status").fetchall()
    answers = dict(db.execute("SELECT name, n FROM job_answers").fetchall())
    doubles = "SELECT COUNT(*) FROM (SELECT 1 FROM jobs {} GROUP BY {} HAVING COUNT(*) > 1)"
    by_kind: dict[str, dict[str, int]] = {}
    by_status: dict[str, int] = {}
    for kind, status, n in counted:
        if n:
            by_kind.setdefault(kind, {})[status] = n
            by_status[status] = by_status.get(status, 0) + n
    return {
        "jobs": by_status,
        "jobs_by_kind": by_kind,
        "creates": answers.get("creates", 0),
        "replays": answers.get("replays", 0),
        "same_trace": db.execute(doubles.format("", "realm, trace_id")).fetchone()[0],
        "same_payload": db.execute(doubles.format("WHERE NOT is_sandbox", "realm, kind, digest")).fetchone()[0],
    }
