"""Asynchronous jobs (contract 9): routes 28-32, the job object, and the completion callback.

What each kind's payload and result look like is in `kinds`.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Route

QUEUED = "queued"
RUNNING = "running"
SUCCEEDED = "succeeded"
FAILED = "failed"
CANCELLED = "cancelled"
STATUSES = (QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED)
TERMINAL = frozenset((SUCCEEDED, FAILED, CANCELLED))


class JobError(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.job_error_names):
    """Why a job failed (Q42)."""

    code: str
    message: str = ""
    retryable: bool = False


class RemoteJob(msgspec.Struct, frozen=True, kw_only=True):
    """The job object (contract 9.1). `error` may be a string on the wire; see `error_of`."""

    id: str
    kind: str
    status: str
    progress_pct: int | None = None
    created_at: str | None = None
    updated_at: str | None = None
    completed_at: str | None = None
    error: Any = None
    trace_id: str | None = None


def error_of(job: RemoteJob) -> JobError | None:
    """The job's error as a value, whatever shape the platform used (Q42)."""
    match job.error:
        case None:
            return None
        case str() as text:
            return JobError(code="failed", message=text)
        case dict() as members:
            names = PROFILE.job_error_names
            return JobError(
                code=str(members.get(names["code"], "failed")),
                message=str(members.get(names["message"], "")),
                retryable=members.get(names["retryable"]) is True,
            )
        case other:
            return JobError(code="failed", message=str(other))


class CreateJob(msgspec.Struct, frozen=True, kw_only=True):
    """Enqueue a job. `idempotency_key` is a header: a replay inside 24 h answers 200 and the same job."""

    kind: str
    payload: dict[str, Any]
    callback_url: str | UnsetType = UNSET
    secrecy_level: str | UnsetType = UNSET
    idempotency_key: str | UnsetType = UNSET


class CreatedJob(msgspec.Struct, frozen=True, kw_only=True):
    """The five members of a 201, and of a replay's 200, whose `status` is history (contract 9.2)."""

    id: str
    kind: str
    status: str
    created_at: str | None = None
    trace_id: str | None = None


class GetJob(msgspec.Struct, frozen=True):
    """One job by its id."""

    id: str


class ResultLink(msgspec.Struct, frozen=True, kw_only=True):
    """Where the result lies: `signed_url` is a lease, fetched without the bearer token (contract 9.4)."""

    id: str
    result_ref: str | None = None
    signed_url: str


class ListJobs(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.page_names):
    """A page of the tenant's jobs, newest first (contract 9.6)."""

    kind: str | None = None
    status: str | None = None
    limit: int | None = None
    cursor: str | None = None


class JobList(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.page_names):
    """A page of job objects; `next_cursor` is null on the last one."""

    jobs: list[RemoteJob]
    next_cursor: str | None = None
    total_count: int | None = None


class Callback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of a completion callback (contract 9.7); sent as canonical JSON, signed over those bytes."""

    id: str
    kind: str
    status: str
    trace_id: str | None = None
    result_ref: str | None = None
    error: Any = None


_HOSTS = (Host.API, Host.SANDBOX)
CREATE = Route(
    number=28, name="jobs.create", method="POST", path="/v1/jobs", hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.jobs_write_scopes, ask=CreateJob, answer=CreatedJob, status=(201, 200),
    headers={"idempotency_key": "Idempotency-Key"},
)  # fmt: skip
GET = Route(
    number=29, name="jobs.get", method="GET", path="/v1/jobs/{id}", hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.jobs_read_scopes, ask=GetJob, answer=RemoteJob,
)  # fmt: skip
RESULT = Route(
    number=30, name="jobs.result", method="GET", path="/v1/jobs/{id}/result", hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.jobs_read_scopes, ask=GetJob, answer=ResultLink,
    refusals=(PROFILE.result_not_ready_status, PROFILE.result_failed_status, PROFILE.result_expired_status),
)  # fmt: skip
# What is taken for a cancel that was heard: the statuses of the profile, and those it may have instead (contract 9.5).
_CANCELLED = tuple(
    dict.fromkeys(
        (PROFILE.cancel_queued_status, PROFILE.cancel_running_status, PROFILE.cancel_again_status, 200, 202, 204)
    )
)
CANCEL = Route(
    number=31, name="jobs.cancel", method="DELETE", path="/v1/jobs/{id}", hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.jobs_write_scopes, ask=GetJob, answer=RemoteJob,
    status=_CANCELLED, refusals=(PROFILE.cancel_ended_status,),
)  # fmt: skip
LIST = Route(
    number=32, name="jobs.list", method="GET", path="/v1/jobs", hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.jobs_read_scopes, ask=ListJobs, answer=JobList,
)  # fmt: skip

ROUTES = (CREATE, GET, RESULT, CANCEL, LIST)
EXAMPLES = {
    CREATE.name: CreateJob(
        kind="intelligence.enrich.bulk", payload={"profile_ids": ["p1", "p2"]},
        idempotency_key="3f2b8a52-7f0e-4c1e-9d0a-0b8f1e0c7a11",
    ),
    GET.name: GetJob("01HFXY0000000000000000000A"),
    RESULT.name: GetJob("01HFXY0000000000000000000A"),
    CANCEL.name: GetJob("01HFXY0000000000000000000A"),
    LIST.name: ListJobs(kind="intelligence.enrich.bulk", status="running", limit=50),
}  # fmt: skip
