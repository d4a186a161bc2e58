"""The spans of a job's trace that are ours: its root, its wait, its fetch, its commit.

Each is told once, when it ends, with the times the ledger kept, so a job that outlived a process still has
one connected trace. Requests tell their own spans (`transport.traced`).
"""

from __future__ import annotations

from typing import Any

from engine.contract.exchange import new_span_id
from engine.events import SpanEnded
from engine.store.rows import JobRow, RunRow


def job_span(job: JobRow, run: RunRow) -> SpanEnded:
    """The root span of a job's trace, told once the job has ended, with the times the ledger kept."""
    attributes: dict[str, Any] = {
        "engine.job.kind": job.kind,
        "engine.job.seq": job.seq,
        "engine.job.attempt": job.attempt,
        "engine.job.rows": job.rows,
        "engine.job.accepted": job.accepted,
        "engine.job.rejected": job.rejected,
        "engine.job.dead": job.dead,
        "engine.job.state": job.state,
    }
    if job.remote_id:
        attributes["engine.job.remote_id"] = job.remote_id
    return SpanEnded(
        trace_id=job.trace_id,
        span_id=job.span_id,
        parent_span_id=None,
        name=f"job {job.kind}",
        kind="internal",
        start_ns=job.planned_ns,
        end_ns=job.ended_ns or job.planned_ns,
        attributes=attributes,
        error=job.error,
        links=((run.trace_id, run.span_id),),
    )


def wait_span(job: JobRow) -> SpanEnded:
    """From the platform's having the job to our knowing how it ended: one span, however long."""
    settled_ns = job.settled_ns or job.planned_ns
    return _child(job, "job.wait", job.submitted_ns or settled_ns, settled_ns, {"engine.job.status": job.state})


def fetch_span(job: JobRow, body_bytes: int, *, now_ns: int, took_s: float) -> SpanEnded:
    """Asking for the result, streaming it and matching its rows."""
    return _child(job, "job.fetch", now_ns - int(took_s * 1e9), now_ns, {"engine.result.bytes": body_bytes})


def commit_span(job: JobRow, *, took_s: float) -> SpanEnded:
    """Making the part that holds the job's rows durable, and saying so in the ledger."""
    ended_ns = job.ended_ns or job.planned_ns
    return _child(job, "job.commit", ended_ns - int(took_s * 1e9), ended_ns, {"engine.part": job.part or 0})


def _child(job: JobRow, name: str, start_ns: int, end_ns: int, attributes: dict[str, Any]) -> SpanEnded:
    return SpanEnded(
        trace_id=job.trace_id,
        span_id=new_span_id(),
        parent_span_id=job.span_id,
        name=name,
        kind="internal",
        start_ns=min(start_ns, end_ns),
        end_ns=end_ns,
        attributes=attributes,
    )
