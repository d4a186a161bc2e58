"""The routes of jobs (contract 9.2-9.6): create, read, list, cancel, and where the result is.

A job that was answered 201 is in the database before the answer leaves. The payload stays the bytes that came: its
outline is checked here, its rows are read when the job runs. What happens to a job then is `life`, in the sandbox
`jobs_sandbox`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from engine.codec.payload import decoder, encode
from engine.contract import jobs as contract
from engine.contract.jobs import (
    CANCELLED,
    FAILED,
    QUEUED,
    SUCCEEDED,
    TERMINAL,
    CreatedJob,
    JobList,
    ResultLink,
)
from engine.contract.paging import Cursor, write_cursor
from engine.contract.problem import FieldFault
from engine.contract.route import Host
from engine.emulator import (
    callbacks,
    effects,
    entities,
    jobs_sandbox,
    jobtable,
    life,
    provenance_chain,
    results,
    subscriptions,
    webhooks,
)
from engine.emulator.asks import key_of
from engine.emulator.call import Call, Caller, Handler, Reply
from engine.emulator.crafts import CRAFTS
from engine.emulator.jobtable import Ending, Job
from engine.emulator.paging import limit_of, place_of
from engine.emulator.refusal import Refusal, invalid, unfit
from engine.emulator.state import State

_STORES = (jobtable, entities, provenance_chain, effects, results, callbacks, subscriptions)
SCHEMA = "".join(store.SCHEMA for store in _STORES)


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a create, its payload left as bytes."""

    kind: str
    payload: msgspec.Raw
    callback_url: str | None = None
    secrecy_level: str = "standard"


def realm_of(caller: Caller) -> str:
    """Whose jobs and entities a caller sees: its tenant's, and in the sandbox a world apart from the live one."""
    return f"{caller.tenant_id}\x1fsandbox" if caller.is_sandbox else caller.tenant_id


def books(state: State) -> dict[str, Any]:
    """What the emulator counted of jobs; see `jobtable.books`."""
    return jobtable.books(state)


def handlers(state: State) -> dict[str, Handler]:
    """Routes 28-32."""
    routes = _Routes(state)
    return {
        contract.CREATE.name: routes.create,
        contract.GET.name: routes.get,
        contract.RESULT.name: routes.result,
        contract.CANCEL.name: routes.cancel,
        contract.LIST.name: routes.page,
    }


class _Routes:
    def __init__(self, state: State) -> None:
        self._state = state
        self._agenda = life.agenda_of(state)

    async def create(self, call: Call) -> Reply:
        """Store a job and answer 201, or answer a known key with what it was answered then (contract 9.2)."""
        caller = call.known
        key = key_of(call.headers.get("idempotency-key"), self._state.profile)
        if key is not None:
            replay = self._replay(realm_of(caller), key)
            if replay is not None:
                return replay
        asked = self._asked(call, realm_of(caller))
        job, payload = self._job(call, asked, caller), bytes(asked.payload)
        if caller.is_sandbox:
            # The work of a sandbox job is done before the answer, and others may run meanwhile.
            job, body = await jobs_sandbox.play(self._state, job, call, payload)
            replay = self._replay(job.realm, key) if key is not None else None
            if replay is not None:
                return replay
            with self._state.transaction():
                if key is not None:
                    jobtable.remember(self._state, job.realm, key, body)
                jobtable.count_answer(self._state, "creates")
        else:
            body = created(self._state, job)
            jobtable.accept(self._state, job, payload, key=key, body=body)
            self._agenda.arrive(job.id)
        return Reply(status=201, body=body, headers={"Location": f"/v1/jobs/{job.id}"})

    def get(self, call: Call) -> Reply:
        """The job object."""
        return Reply(body=jobtable.view(self._state, self._find(call)))

    def page(self, call: Call) -> Reply:
        """A page of the tenant's jobs, newest first; `total_count` counts all that match the filters."""
        ask: contract.ListJobs = call.ask
        statuses = self._statuses(ask.status)
        limit, place = limit_of(ask.limit, self._state.profile), place_of(ask.cursor)
        realm, before = realm_of(call.known), place.id if place else None
        page, total = jobtable.page(
            self._state, realm, kind=ask.kind, statuses=statuses, before=before, limit=limit + 1
        )
        following = None
        if len(page) > limit:
            page = page[:limit]
            following = write_cursor(Cursor(self._state.now_text(page[-1].created_ns), page[-1].id))
        jobs = [jobtable.view(self._state, job) for job in page]
        return Reply(body=JobList(jobs=jobs, next_cursor=following, total_count=total))

    def cancel(self, call: Call) -> Reply:
        """Stop a job: at once while it is queued, by its next heartbeat while it runs (Q46)."""
        job = self._find(call)
        state, profile = self._state, self._state.profile
        now_ns = state.clock.now_ns()
        if job.status in (SUCCEEDED, FAILED):
            said = f"The job has already {job.status}."
            raise Refusal(profile.cancel_ended_status, f"job_{job.status}", said, extra={"job_status": job.status})
        if job.status == CANCELLED:
            return self._cancelled(call, profile.cancel_again_status)
        if job.is_sandbox:
            return self._cancelled(call, profile.cancel_running_status)
        if job.status == QUEUED:
            ending = Ending(status=CANCELLED, at_ns=now_ns, progress_pct=0)
            with state.transaction():
                jobtable.end(state, job, ending)
                delivery_id = callbacks.enqueue(state, job, ending)
                webhooks.tell_of_job(state, job, ending)
            self._agenda.tell(delivery_id)
            return self._cancelled(call, profile.cancel_queued_status)
        stop_ns = self._next_heartbeat_ns(job, now_ns)
        if jobtable.ask_to_stop(state, job, due_ns=stop_ns):
            self._agenda.stop(job.id, stop_ns)
        return self._cancelled(call, profile.cancel_running_status)

    def _cancelled(self, call: Call, status: int) -> Reply:
        """The answer to a cancel: the job as it is now, unless the status has no body (Q46)."""
        return Reply(status=status, body=None if status == 204 else jobtable.view(self._state, self._find(call)))

    def result(self, call: Call) -> Reply:
        """Where the result lies, as a fresh lease; or why there is none (contract 9.4, Q41)."""
        job, profile = self._find(call), self._state.profile
        extra = {"job_status": job.status}
        if job.status not in TERMINAL:
            wait = {"Retry-After": str(profile.result_retry_after_s)}
            code, said = profile.result_not_ready_code, f"The job is {job.status}."
            raise Refusal(profile.result_not_ready_status, code, said, wait, extra=extra)
        if job.status != SUCCEEDED:
            said = f"The job has {job.status}."
            raise Refusal(profile.result_failed_status, f"job_{job.status}", said, extra=extra)
        if results.is_past_retention(self._state, job):
            raise Refusal(profile.result_expired_status, "result_expired", "The result is past its retention.")
        url = results.sign(self._state, job, "", origin=call.base_url)
        return Reply(body=ResultLink(id=job.id, result_ref=results.reference(job.id), signed_url=url))

    def _statuses(self, asked: str | None) -> tuple[str, ...] | None:
        """The statuses a list is asked for: as many as the profile allows, known ones where it insists (Q48)."""
        if asked is None:
            return None
        separator = self._state.profile.status_separator
        statuses = tuple(asked.split(separator)) if separator else (asked,)
        if self._state.profile.refuses_unknown_status and not frozenset(statuses) <= frozenset(contract.STATUSES):
            raise invalid("query", "status", f"must be one of: {', '.join(contract.STATUSES)}")
        return statuses

    def _find(self, call: Call) -> Job:
        """The job asked for; another tenant's is as unknown as one that never was (contract 1.5)."""
        job = jobtable.load(self._state, call.ask.id, realm=realm_of(call.known))
        if job is None:
            raise Refusal(404, "not_found", "No job of this id.")
        return job

    def _replay(self, realm: str, key: str) -> Reply | None:
        """The answer to a known key: 200 and the original body, whatever the payload is now."""
        body = jobtable.replay_of(self._state, realm, key)
        if body is None:
            return None
        jobtable.count_answer(self._state, "replays")
        first = decoder(CreatedJob).decode(body)
        fault = self._state.faults.strike("create.replay", kind=first.kind, subject=first.id)
        if fault is not None and fault.flag("other_id"):
            first = msgspec.structs.replace(first, id=self._state.new_id())
            body = encode(first)
        return Reply(status=200, body=body, headers={"Location": f"/v1/jobs/{first.id}"})

    def _asked(self, call: Call, realm: str) -> NewJob:
        """The body, checked as a whole: every fault is told at once, and a refused body consumes no key.

        The dispatch has read it under its caps already; here the payload is only passed over, and kept.
        """
        try:
            asked: NewJob = decoder(NewJob).decode(call.body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
            raise unfit(f"The body is not a job: {exc}.") from exc
        faults = self._faults_of(asked, realm)
        if faults:
            text = "; ".join(f"{'.'.join(map(str, fault.loc))}: {fault.msg}" for fault in faults)
            raise unfit(text, faults)
        return asked

    def _faults_of(self, asked: NewJob, realm: str) -> list[FieldFault]:
        faults = []
        craft = CRAFTS.get(asked.kind)
        if craft is None:
            faults.append(FieldFault(["body", "kind"], f"must be one of: {', '.join(CRAFTS)}", "enum"))
        else:
            faults += craft.check(bytes(asked.payload), lambda url: results.vouch(self._state, realm, url) is not None)
        if asked.callback_url is not None and (fault := callbacks.check_url(self._state, asked.callback_url)):
            faults.append(fault)
        levels = (*self._state.profile.secrecy_levels, "sandbox")
        if asked.secrecy_level not in levels:
            faults.append(FieldFault(["body", "secrecy_level"], f"must be one of: {', '.join(levels)}", "enum"))
        return faults

    def _job(self, call: Call, asked: NewJob, caller: Caller) -> Job:
        now_ns = self._state.clock.now_ns()
        return Job(
            id="" if caller.is_sandbox else self._state.new_id(), realm=realm_of(caller),
            tenant_id=caller.tenant_id, client_id=caller.client_id, kind=asked.kind, status=QUEUED,
            secrecy_level=asked.secrecy_level, callback_url=asked.callback_url, trace_id=call.trace.trace_id,
            span_id=call.trace.span_id, digest=hashlib.sha256(asked.payload).digest(),
            is_sandbox=call.host is Host.SANDBOX, created_ns=now_ns, updated_ns=now_ns,
        )  # fmt: skip

    def _next_heartbeat_ns(self, job: Job, now_ns: int) -> int:
        """When a running job notices that it shall stop: at its next heartbeat, or when it would have ended."""
        every_ns = int(self._state.profile.heartbeat_s * 1e9)
        since_ns = job.claimed_ns or now_ns
        beat_ns = since_ns + ((now_ns - since_ns) // every_ns + 1) * every_ns
        return beat_ns if job.is_stuck or job.due_ns is None else min(beat_ns, job.due_ns)


def created(state: State, job: Job) -> bytes:
    """The body of the 201: five members, `queued` whatever becomes of the job (contract 9.2)."""
    at = state.now_text(job.created_ns)
    return encode(CreatedJob(id=job.id, kind=job.kind, status=QUEUED, created_at=at, trace_id=job.trace_id))
