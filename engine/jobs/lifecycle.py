"""What may become of a job: the table of states, and the plain functions that move a row along it.

The only place that knows which transition is legal. Nothing here writes or sends; the lanes call a
function, then hand the row to the ledger.
"""

from __future__ import annotations

from engine.store.rows import JobRow

PLANNED = "planned"
SUBMITTING = "submitting"
SUBMITTED = "submitted"
SUCCEEDED = "succeeded"
FAILED = "failed"
CANCELLED = "cancelled"
COMMITTED = "committed"
DEAD = "dead"

# From each state, the states that may follow. `failed -> planned` is a new attempt of the same job.
LEGAL: dict[str, frozenset[str]] = {
    PLANNED: frozenset((SUBMITTING, DEAD)),
    SUBMITTING: frozenset((SUBMITTED, PLANNED, DEAD)),
    SUBMITTED: frozenset((SUCCEEDED, FAILED, CANCELLED, DEAD)),
    SUCCEEDED: frozenset((COMMITTED, SUBMITTED, DEAD)),
    FAILED: frozenset((PLANNED, DEAD)),
    CANCELLED: frozenset((PLANNED, DEAD)),
    COMMITTED: frozenset(),
    DEAD: frozenset(),
}
ENDED = frozenset((COMMITTED, DEAD))


# What only an operator can ask for: a job that has no result, or whose result did not balance, is looked at again.
BY_HAND = frozenset((SUCCEEDED, FAILED, CANCELLED, DEAD))


class IllegalMove(AssertionError):
    """A bug of ours: the table does not allow this transition."""


def _move(job: JobRow, state: str) -> None:
    if state not in LEGAL[job.state]:
        raise IllegalMove(f"job {job.epoch}/{job.seq}: {job.state} -> {state}")
    job.state = state


def send(job: JobRow, *, now_ns: int) -> None:
    """The request is about to leave; the first time of an attempt starts its idempotency window."""
    if job.state != SUBMITTING:
        _move(job, SUBMITTING)
    if job.sent_ns is None:
        job.sent_ns = now_ns


def accept(job: JobRow, *, remote_id: str, trace_id: str | None, now_ns: int) -> None:
    """201 or 200 was read. Where the platform names another trace, theirs is the truth."""
    _move(job, SUBMITTED)
    job.remote_id = remote_id
    job.submitted_ns = now_ns
    if trace_id:
        job.trace_id = trace_id


def answer(job: JobRow, *, now_ns: int) -> None:
    """Its rows were asked for each by itself, or needed no asking: nothing at the platform is left to wait for."""
    if job.state == PLANNED:
        _move(job, SUBMITTING)
    _move(job, SUBMITTED)
    _move(job, SUCCEEDED)
    job.submitted_ns = job.settled_ns = now_ns


def settle(job: JobRow, status: str, *, now_ns: int, error: str | None = None) -> None:
    """A terminal status was confirmed by GET."""
    _move(job, status)
    job.settled_ns = now_ns
    job.error = error


def start_over(job: JobRow, *, key: str) -> None:
    """A new attempt, with a key of its own; the trace stays."""
    _move(job, PLANNED)
    job.attempt += 1
    job.key = key
    job.remote_id = job.sent_ns = job.submitted_ns = job.settled_ns = None


def commit(job: JobRow, *, part: int | None, now_ns: int) -> None:
    """Its rows are durable in `part` (None: it had none to land)."""
    _move(job, COMMITTED)
    job.part = part
    job.ended_ns = now_ns


def give_up(job: JobRow, *, reason: str, now_ns: int) -> None:
    """No result will come; every row of it is a dead letter."""
    _move(job, DEAD)
    job.accepted = job.rejected = 0
    job.dead = job.rows
    job.error = reason
    job.ended_ns = now_ns


def take_back(job: JobRow, *, now_ns: int, is_fetched: bool) -> None:
    """Re-attach to the remote job, by an operator's word: it is asked about again, or fetched at once.

    Its deadline starts anew.
    """
    if job.state not in BY_HAND or job.remote_id is None:
        raise IllegalMove(f"job {job.epoch}/{job.seq}: {job.state} cannot be taken back")
    job.state = SUCCEEDED if is_fetched else SUBMITTED
    job.submitted_ns = now_ns
    job.accepted = job.rejected = job.dead = 0
    job.settled_ns = job.ended_ns = job.error = None


def is_inside_window(job: JobRow, *, now_ns: int, window_s: float) -> bool:
    """Whether sending the same key again is sure to find the job the first request made (contract 9.2).

    A minute is kept in hand, because the platform's clock is not ours.
    """
    return job.sent_ns is None or now_ns - job.sent_ns < (window_s - 60) * 1_000_000_000
