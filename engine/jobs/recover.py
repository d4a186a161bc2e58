"""Lost creates past the idempotency window: found again in the job list, by trace id.

Inside the window the same key is enough. Past it the same key would start a second job, so the list is
read once, newest first, for all lost creates together (contract 9.2, "Finding a lost create again").
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.client.client import Client
from engine.contract.dates import rfc3339_s
from engine.jobs.key import derive_key
from engine.jobs.lifecycle import SUBMITTING, accept, is_inside_window, start_over
from engine.ports import Clock
from engine.store.ledger import Ledger
from engine.store.rows import JobRow

_CLOCKS_APART_S = 300


async def recover(
    lost: Sequence[JobRow], *, client: Client, ledger: Ledger, clock: Clock, pipeline: str
) -> list[JobRow]:
    """Re-attach lost creates that exist; start a new attempt for those that do not. Answers the re-attached.

    Remote ids the ledger already holds are left out: earlier attempts of a job share its trace.
    """
    if not lost:
        return []
    by_trace = {job.trace_id: job for job in lost}
    oldest_s = min(job.sent_ns or 0 for job in lost) / 1e9 - _CLOCKS_APART_S
    found: list[JobRow] = []
    async for remote in client.jobs.every(kind=lost[0].kind):
        if _is_before(remote.created_at, oldest_s) or not by_trace:
            break
        job = by_trace.get(remote.trace_id or "")
        if job is None or ledger.known_remotes([remote.id]):
            continue
        del by_trace[job.trace_id]
        accept(job, remote_id=remote.id, trace_id=None, now_ns=clock.now_ns())
        found.append(job)
    for job in by_trace.values():
        await ledger.close_attempt(job, outcome="never_arrived", now_ns=clock.now_ns())
        start_over(
            job,
            key=derive_key(pipeline=pipeline, epoch=job.epoch, seq=job.seq, attempt=job.attempt + 1, digest=job.digest),
        )
    await ledger.move(lost)
    return found


async def find_by_trace(client: Client, job: JobRow) -> str | None:
    """The remote id of the job that this one's create made, by its trace, newest first; None when there is none."""
    oldest_s = (job.sent_ns or 0) / 1e9 - _CLOCKS_APART_S
    async for remote in client.jobs.every(kind=job.kind):
        if _is_before(remote.created_at, oldest_s):
            return None
        if remote.trace_id == job.trace_id:
            return remote.id
    return None


def is_lost(job: JobRow, *, now_ns: int, window_s: float) -> bool:
    """Whether a job's create may have arrived, and asking again with its key could make a second one."""
    return job.state == SUBMITTING and not is_inside_window(job, now_ns=now_ns, window_s=window_s)


def _is_before(created_at: str | None, oldest_s: float) -> bool:
    at_s = rfc3339_s(created_at) if created_at else None
    return at_s is not None and at_s < oldest_s
