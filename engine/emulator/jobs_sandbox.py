"""Jobs of the sandbox: functions of the question, done before the answer leaves (contract 10.4, Q55).

Equal requests give the same job, byte for byte, at the one moment where the sandbox's clock stands still. The work
is the live kinds' own, on the fixtures of a scenario; its effects are thrown away, so no request changes what
another one sees.
"""

from __future__ import annotations

import msgspec

from engine.codec.payload import encode, loads
from engine.contract.jobs import FAILED, QUEUED, RUNNING, SUCCEEDED, CreatedJob, JobError
from engine.emulator import callbacks, jobtable, life, webhooks
from engine.emulator.call import Call
from engine.emulator.crafts import CRAFTS
from engine.emulator.desk import JobDesk
from engine.emulator.fixtures import Fixtures
from engine.emulator.jobtable import Ending, Job
from engine.emulator.refusal import unfit
from engine.emulator.scenarios import Question, sandbox_now_ns, sandbox_scenario, sandbox_seed
from engine.emulator.state import State, ulid
from engine.emulator.work import Task, WorkFailed
from engine.errors import RecordError

# Its jobs never end, but only for who asked for it: one payload in five that hangs would help nobody.
_ENDLESS = "incident.escalating"
_ENDLESS_PCT = 50


async def play(state: State, draft: Job, call: Call, payload: bytes) -> tuple[Job, bytes]:
    """The job that this request is, made now if it is the first of its kind, and the body of its 201."""
    scenarios = call.caller.scenarios if call.caller else ()
    try:
        seed = sandbox_seed(
            Question(
                tenant=draft.tenant_id, client_id=draft.client_id, scenarios=scenarios, method="POST",
                path="/v1/jobs", body=loads(call.body),
            )
        )  # fmt: skip
    except RecordError as exc:
        raise unfit(f"The sandbox cannot repeat this body: {exc.message}.") from exc
    now_ns = sandbox_now_ns(state.profile)
    # The caller's trace where it sent one; else the question's own (Q55).
    trace_id = draft.trace_id if call.parent_span_id else seed[:16].hex()
    job = msgspec.structs.replace(
        draft, id=ulid(now_ns // 1_000_000, int.from_bytes(seed[:10])), trace_id=trace_id, created_ns=now_ns,
        updated_ns=now_ns,
    )  # fmt: skip
    at = state.now_text(now_ns)
    body = encode(CreatedJob(id=job.id, kind=job.kind, status=QUEUED, created_at=at, trace_id=trace_id))
    scenario = sandbox_scenario(seed, scenarios)
    is_endless = scenario == _ENDLESS and _ENDLESS in scenarios
    # One at a time: of two equal requests that arrive together, the second finds the first one's job.
    async with life.agenda_of(state).sandbox:
        if jobtable.load(state, job.id) is None:
            await _perform(state, job, payload, scenario, is_endless=is_endless)
    return job, body


async def _perform(state: State, job: Job, payload: bytes, scenario: str, *, is_endless: bool) -> None:
    now_ns = job.created_ns
    running = msgspec.structs.replace(job, status=RUNNING, claimed_ns=now_ns, due_ns=now_ns, attempt=1)
    if is_endless:
        jobtable.insert(state, msgspec.structs.replace(running, progress_pct=_ENDLESS_PCT))
        return
    shelf = Fixtures(scenario, job.realm)
    task = Task(
        job_id=job.id, realm=job.realm, kind=job.kind, payload=payload, now=state.now_text(now_ns),
        seed=state.options.seed,
    )  # fmt: skip
    try:
        outcome = await life.drive(CRAFTS[job.kind].perform(task, JobDesk(state, job, shelf)), state.clock)
        ending = Ending(status=SUCCEEDED, at_ns=now_ns, summary=outcome.summary)
    except WorkFailed as exc:
        error = JobError(code=exc.code, message=exc.message, retryable=exc.retryable)
        ending = Ending(status=FAILED, at_ns=now_ns, error=error)
    delivery_id = None
    with state.transaction():
        if jobtable.insert(state, running):
            jobtable.end(state, running, ending)
            delivery_id = callbacks.enqueue(state, job, ending)
            webhooks.tell_of_job(state, job, ending)
    life.agenda_of(state).tell(delivery_id)
