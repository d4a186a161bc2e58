"""Asynchronous jobs, as asked (contract 9): routes 28-32. When to ask is `engine.jobs`'s matter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from engine.client.call import Answered, Caller
from engine.client.pages import items
from engine.contract import jobs
from engine.contract.exchange import Trace
from engine.contract.jobs import CreatedJob, CreateJob, GetJob, JobList, ListJobs, RemoteJob, ResultLink
from engine.contract.profile import PROFILE
from engine.contract.route import Wire
from engine.errors import Conflict, RecordError


class Jobs:
    """Create, look at, fetch the result of, cancel and list jobs."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def create(
        self,
        kind: str,
        payload: dict[str, Any],
        *,
        callback_url: str | UnsetType = UNSET,
        secrecy_level: str | UnsetType = UNSET,
        idempotency_key: str | UnsetType = UNSET,
        trace: Trace | None = None,
    ) -> Answered[CreatedJob]:
        """Enqueue a job. Status 200 instead of 201: the key is known, and this is the job it made.

        A replay answers the first job even when the payload differs, and its `status` is history (contract 9.2).
        Without a key, twice makes two jobs.
        """
        ask = CreateJob(
            kind=kind,
            payload=payload,
            callback_url=callback_url,
            secrecy_level=secrecy_level,
            idempotency_key=idempotency_key,
        )
        return await self._caller.call(jobs.CREATE, ask, trace=trace)

    async def create_raw(self, body: bytes, *, key: str, trace: Trace | None = None) -> Answered[CreatedJob]:
        """As `create`, for a body that is encoded already: what bulk work uses."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return await self._caller.call_raw(jobs.CREATE, Wire(jobs.CREATE.path, headers, body), trace=trace)

    async def get(self, id: str, *, trace: Trace | None = None) -> Answered[RemoteJob]:
        """One job as it is now."""
        return await self._caller.call(jobs.GET, GetJob(id), trace=trace)

    async def result(self, id: str, *, trace: Trace | None = None) -> Answered[ResultLink]:
        """Where the result of a succeeded job lies, for a while; every call gives a new lease.

        Raises:
            Conflict: not succeeded (yet); `retry_after_s` while it runs. Missing: past its retention.
        """
        return await self._caller.call(jobs.RESULT, GetJob(id), trace=trace)

    async def cancel(self, id: str, *, trace: Trace | None = None) -> Answered[RemoteJob]:
        """Ask for a job's end, and answer it as it is now: cancelled, still running, or ended before (Q46)."""
        try:
            answered = await self._caller.call(jobs.CANCEL, GetJob(id), trace=trace)
        except Conflict:
            return await self.get(id, trace=trace)
        if answered.status == 204:
            now = await self.get(id, trace=trace)
            return msgspec.structs.replace(now, status=204)
        return answered

    async def list(
        self,
        *,
        kind: str | None = None,
        status: str | Sequence[str] | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        trace: Trace | None = None,
    ) -> Answered[JobList]:
        """One page of the tenant's jobs, newest first; `limit` is clamped to what the profile allows, 200.

        Raises:
            RecordError: several statuses, or one that is none, where the platform would not say so itself (Q48).
        """
        ask = ListJobs(kind=kind, status=_wanted(status), limit=limit, cursor=cursor)
        return await self._caller.call(jobs.LIST, ask, trace=trace)

    def every(
        self,
        *,
        kind: str | None = None,
        status: str | Sequence[str] | None = None,
        limit: int | None = PROFILE.page_limit_max,
    ) -> AsyncIterator[RemoteJob]:
        """Every job, newest first, page after page. Jobs made meanwhile are not in it."""
        return items(
            lambda cursor: self.list(kind=kind, status=status, limit=limit, cursor=cursor),
            lambda page: page.jobs,
        )


def _wanted(status: str | Sequence[str] | None) -> str | None:
    """The statuses to list as the platform takes them."""
    if status is None:
        return None
    several = (status,) if isinstance(status, str) else tuple(status)
    strange = [one for one in several if one not in jobs.STATUSES]
    if strange and not PROFILE.refuses_unknown_status:
        # The platform would pass over it, and answer a page that says nothing.
        raise RecordError(f"no job has the status {strange[0][:40]!a}", hint=f"use one of {', '.join(jobs.STATUSES)}")
    if len(several) > 1 and PROFILE.status_separator is None:
        raise RecordError("a list of jobs is asked for one status at a time", hint="ask once for each")
    return (PROFILE.status_separator or "").join(several)
