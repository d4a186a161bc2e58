"""Cancelling remote jobs on purpose: to stop without leaving work behind, or because an operator gives them up.

The platform may say "cancelled", that it will be soon, or that the job had ended before. Whichever it is, the ledger
knows it; where the rows are to be sent again, it knew before the first request left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from engine.client.client import Client
from engine.contract.exchange import Trace
from engine.contract.jobs import CANCELLED, TERMINAL, RemoteJob, error_of
from engine.errors import EngineError, Missing, PlatformError, TimedOut, TransportError
from engine.jobs.key import derive_key
from engine.jobs.lifecycle import settle, start_over
from engine.ports import Clock
from engine.store.ledger import Ledger
from engine.store.rows import JobRow

# Outcomes of an attempt that we cancelled ourselves: asked for, and confirmed.
ABORTING, ABORTED = "aborting", "aborted"
_AT_ONCE = 16


class Cancelled(msgspec.Struct, kw_only=True):
    """What came of it, in jobs: cancelled now, being cancelled, had ended before, could not be asked."""

    cancelled: int = 0
    asked: int = 0
    ended: int = 0
    failed: int = 0
    first_error: EngineError | None = None


async def cancel_jobs(
    jobs: Sequence[JobRow],
    *,
    client: Client,
    ledger: Ledger,
    clock: Clock,
    again_as: str | None = None,
    within_s: float | None = None,
) -> Cancelled:
    """Ask the platform to end submitted jobs, and write down what it answered, `within_s` at most.

    With `again_as`, the pipeline's name, cancelled jobs are planned again, each with a new key; without it they are
    cancelled for good, and the next run makes dead letters of their rows.
    """
    if again_as is not None:
        marks = [ledger.close_attempt(job, outcome=ABORTING, now_ns=clock.now_ns()) for job in jobs]
        await asyncio.gather(*marks)
    told = Cancelled()
    by_remote: dict[str, list[JobRow]] = {}
    for job in jobs:
        by_remote.setdefault(job.remote_id or "", []).append(job)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(remote_id: str, rows: list[JobRow]) -> None:
        async with slots:
            remote = await _ask(client, remote_id, rows, told)
        if remote is not None:
            await _write_down(remote, rows, told, ledger=ledger, clock=clock, again_as=again_as)

    try:
        async with asyncio.timeout(within_s):
            await asyncio.gather(*(one(remote_id, rows) for remote_id, rows in by_remote.items()))
    except TimeoutError:
        # Whatever arrived all the same is recognised by the mark, when the next run asks about the job.
        told.failed = len(jobs) - told.cancelled - told.asked - told.ended
        told.first_error = told.first_error or TimedOut(f"no answer within {within_s:g} s")
    return told


async def _ask(client: Client, remote_id: str, rows: list[JobRow], told: Cancelled) -> RemoteJob | None:
    try:
        return (await client.jobs.cancel(remote_id, trace=Trace(rows[0].trace_id, rows[0].span_id))).answer
    except Missing:
        return RemoteJob(id=remote_id, kind=rows[0].kind, status=CANCELLED)
    except (PlatformError, TransportError) as exc:
        told.failed += len(rows)
        told.first_error = told.first_error or exc
        return None


async def _write_down(
    remote: RemoteJob, rows: list[JobRow], told: Cancelled, *, ledger: Ledger, clock: Clock, again_as: str | None
) -> None:
    if remote.status not in TERMINAL:
        told.asked += len(rows)
        return
    error = error_of(remote)
    for job in rows:
        settle(job, remote.status, now_ns=clock.now_ns(), error=f"{error.code}: {error.message}" if error else None)
        if remote.status != CANCELLED:
            told.ended += 1
            continue
        told.cancelled += 1
        if again_as is not None:
            await ledger.close_attempt(job, outcome=ABORTED, now_ns=clock.now_ns())
            attempt = job.attempt + 1
            key = derive_key(pipeline=again_as, epoch=job.epoch, seq=job.seq, attempt=attempt, digest=job.digest)
            start_over(job, key=key)
    await ledger.move(rows)
