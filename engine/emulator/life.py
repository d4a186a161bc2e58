"""The life of a live job: claimed, run for as long as it takes, done, failed, cancelled or lost (contract 9.1).

Everything a restart needs is in the table of jobs; what is here is the waiting. How long a job takes depends on the
seed and its id alone. The work is done when the time is up, and becomes true together with the terminal state.
"""

from __future__ import annotations

import asyncio
import logging
import math
import weakref
from collections import deque
from statistics import NormalDist

import anyio

from engine.contract.exchange import new_span_id
from engine.contract.jobs import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, JobError
from engine.emulator import callbacks, effects, jobtable, results, subscriptions, tracing, webhooks
from engine.emulator.callbacks import Courier
from engine.emulator.crafts import CRAFTS
from engine.emulator.desk import JobDesk
from engine.emulator.entities import Entities
from engine.emulator.jobtable import Ending, Job
from engine.emulator.schedule import Schedule
from engine.emulator.state import State
from engine.emulator.webhook_courier import WebhookCourier
from engine.emulator.work import Outcome, Task, Work, WorkFailed
from engine.errors import EngineError
from engine.ports import Clock, Transport

_log = logging.getLogger("engine.emulator")
_NORMAL = NormalDist()
_SWEEP_S = 3600.0
# The longest and the shortest job, as multiples of the typical one.
_FACTORS = (0.05, 20.0)


class Agenda:
    """What is to be done about the jobs of one state: who waits to be claimed, and who is due when."""

    def __init__(self, state: State) -> None:
        self.queued: deque[str] = deque()
        self.untold: deque[str] = deque()
        self.schedule = Schedule(state.clock)
        self.sandbox = asyncio.Lock()

    def arrive(self, job_id: str) -> None:
        """A job was queued."""
        self.queued.append(job_id)
        self.schedule.poke()

    def stop(self, job_id: str, at_ns: int) -> None:
        """A running job is due at another time than planned."""
        self.schedule.put(at_ns, job_id)

    def tell(self, delivery_id: str | None) -> None:
        """A callback was stored by somebody other than the worker: have it sent."""
        if delivery_id is not None:
            self.untold.append(delivery_id)
            self.schedule.poke()


_AGENDAS: weakref.WeakKeyDictionary[State, Agenda] = weakref.WeakKeyDictionary()


def agenda_of(state: State) -> Agenda:
    """The one agenda of a state: the routes write in it, the worker reads it."""
    agenda = _AGENDAS.get(state)
    if agenda is None:
        agenda = _AGENDAS[state] = Agenda(state)
    return agenda


def duration_s(state: State, job: Job, attempt: int) -> float:
    """How long this attempt takes: log-normal around `latency_s`, the same for the same seed and id."""
    chance = min(max(state.random("duration", job.id, attempt), 1e-6), 1 - 1e-6)
    # Half the spread is one standard deviation, so that 19 of 20 jobs stay about within the spread.
    factor = math.exp(state.options.latency_spread / 2 * _NORMAL.inv_cdf(chance))
    return state.options.latency_s * min(max(factor, _FACTORS[0]), _FACTORS[1])


async def drive(work: Work, clock: Clock) -> Outcome:
    """Carry work out step by step, letting others run in between; long steps go to a thread.

    Raises:
        WorkFailed: the job fails.
    """
    answer = None
    while True:
        try:
            step = work.send(answer)
        except StopIteration as done:
            outcome: Outcome = done.value
            return outcome
        if step is None:
            await clock.sleep(0)
            answer = None
        else:
            answer = await asyncio.to_thread(step)


class Worker:
    """Moves the live jobs of a state through their lives, and sends their callbacks.

    Callbacks leave by `transport`; without one, by connections of its own, which end with `run`.
    """

    def __init__(self, state: State, transport: Transport | None = None) -> None:
        self._state = state
        self._agenda = agenda_of(state)
        self._transport = transport or callbacks.transport_for(state)
        self._owns_transport = transport is None
        self._courier = Courier(state, self._transport)
        self._webhooks = WebhookCourier(state, self._transport)
        self._running: set[str] = set()
        self._in_hand: set[str] = set()
        # Work that reads and changes entities is done one job at a time: no two decide on the same row.
        self._alone = asyncio.Lock()

    async def run(self) -> None:
        """Work until cancelled. Jobs an earlier process left queued or running go on from where they were."""
        try:
            await self._work()
        finally:
            if self._owns_transport:
                with anyio.CancelScope(shield=True):
                    await self._transport.aclose()

    async def _work(self) -> None:
        await effects.finish(self._state)
        self._take_up()
        async with anyio.create_task_group() as hands:
            hands.start_soon(self._courier.run)
            hands.start_soon(self._webhooks.run)
            hands.start_soon(self._sweep)
            while True:
                self._claim()
                while self._agenda.untold:
                    self._courier.notice(self._agenda.untold.popleft())
                for job_id in self._agenda.schedule.take_due():
                    if job_id in self._running and job_id not in self._in_hand:
                        self._in_hand.add(job_id)
                        hands.start_soon(self._handle, job_id)
                await self._agenda.schedule.wait()

    def _take_up(self) -> None:
        self._agenda.queued.clear()
        for job_id, status, due_ns in jobtable.unfinished(self._state):
            if status == QUEUED:
                self._agenda.queued.append(job_id)
            else:
                self._running.add(job_id)
                self._agenda.schedule.put(due_ns, job_id)

    def _claim(self) -> None:
        """Give every free worker a queued job, all in one transaction."""
        free = self._state.options.workers - len(self._running)
        if free <= 0 or not self._agenda.queued:
            return
        with self._state.transaction():
            while free > 0 and self._agenda.queued:
                job = jobtable.load(self._state, self._agenda.queued.popleft())
                if job is not None and job.status == QUEUED and self._claim_one(job):
                    free -= 1

    def _claim_one(self, job: Job) -> bool:
        state = self._state
        seconds = duration_s(state, job, job.attempt + 1)
        fault = state.faults.strike("job.duration", kind=job.kind, subject=job.id)
        is_stuck = fault is not None and fault.flag("stuck")
        if fault is not None:
            seconds = fault.number_of("seconds", seconds * fault.number_of("factor", 1.0))
            if is_stuck:
                # The reaper comes when the heartbeat is as old as the platform allows (contract 9.1).
                seconds = fault.number_of("seconds", state.profile.heartbeat_lost_s)
        now_ns = state.clock.now_ns()
        due_ns = now_ns + int(seconds * 1e9)
        if not jobtable.claim(state, job.id, due_ns=due_ns, is_stuck=is_stuck):
            return False
        self._running.add(job.id)
        self._agenda.schedule.put(due_ns, job.id)
        self._trace(job, "job claim", job.created_ns, now_ns, is_ok=True)
        return True

    async def _handle(self, job_id: str) -> None:
        """A running job's time has come."""
        try:
            job = jobtable.load(self._state, job_id)
            if job is None or job.status != RUNNING:
                self._running.discard(job_id)
            elif job.due_ns is not None and job.due_ns > self._state.clock.now_ns():
                self._agenda.schedule.put(job.due_ns, job_id)
            elif job.is_stuck:
                self._reap(job)
            else:
                await self._finish(job)
        finally:
            self._in_hand.discard(job_id)
            self._agenda.schedule.poke()

    def _reap(self, job: Job) -> None:
        if job.attempt >= self._state.profile.reaper_attempts:
            self._end(job, FAILED, error=JobError(code="worker_lost", message="no heartbeat", retryable=True))
            return
        jobtable.requeue(self._state, job)
        self._running.discard(job.id)
        self._agenda.arrive(job.id)

    async def _finish(self, job: Job) -> None:
        if job.is_cancelling:
            self._end(job, CANCELLED)
            return
        fault = self._state.faults.strike("job.outcome", kind=job.kind, subject=job.id)
        if fault is not None and fault.text("status", FAILED) == CANCELLED:
            self._end(job, CANCELLED)
            return
        if fault is not None:
            code, words = fault.text("code", "internal_error"), fault.text("message", "the job failed")
            self._end(job, FAILED, error=JobError(code=code, message=words, retryable=fault.flag("retryable")))
            return
        craft = CRAFTS[job.kind]
        try:
            if craft.is_alone:
                async with self._alone:
                    await self._do(job)
            else:
                async with self._alone:
                    # What a large job before this one did is certain, and must be there to be read.
                    await effects.finish(self._state)
                await self._do(job)
        except WorkFailed as exc:
            self._end(job, FAILED, error=JobError(code=exc.code, message=exc.message, retryable=exc.retryable))
        except EngineError as exc:
            self._end(job, FAILED, error=JobError(code=exc.code, message=exc.message))
        except Exception:  # noqa: BLE001
            # A fault of ours in one job must not keep all the others from running.
            _log.exception("the work of a job broke: %s %s", job.kind, job.id)
            self._end(job, FAILED, error=JobError(code="internal_error", message="the emulator failed"))

    async def _do(self, job: Job) -> None:
        state = self._state
        task = Task(
            job_id=job.id, realm=job.realm, kind=job.kind, payload=jobtable.payload_of(state, job.id),
            now=state.now_text(job.due_ns), seed=state.options.seed, actor_id=job.client_id, trace_id=job.trace_id,
            secrecy_level=job.secrecy_level,
        )  # fmt: skip
        desk = JobDesk(state, job, Entities(state, job.realm))
        outcome = await drive(CRAFTS[job.kind].perform(task, desk), state.clock)
        self._end(job, SUCCEEDED, outcome=outcome)
        await effects.finish(state)

    def _end(self, job: Job, status: str, *, error: JobError | None = None, outcome: Outcome | None = None) -> None:
        """Write the terminal state with all that becomes true by it: effects and callback, or nothing at all."""
        state = self._state
        now_ns = state.clock.now_ns()
        pct = 100 if status == SUCCEEDED else jobtable.progress(job, now_ns)
        summary = outcome.summary if outcome else None
        ending = Ending(status=status, at_ns=now_ns, error=error, summary=summary, progress_pct=pct)
        delivery_id = None
        with state.transaction():
            is_ours = jobtable.end(state, job, ending)
            if is_ours:
                if outcome is not None:
                    effects.commit(state, job.id, outcome.effects)
                delivery_id = callbacks.enqueue(state, job, ending)
                webhooks.tell_of_job(state, job, ending, outcome.effects if outcome else None)
        if not is_ours:
            self._end_late(job)
            return
        self._running.discard(job.id)
        self._courier.notice(delivery_id)
        self._trace(job, "job run", job.claimed_ns or job.created_ns, now_ns, is_ok=status == SUCCEEDED)

    def _end_late(self, job: Job) -> None:
        """The work came too late: somebody asked for the job to stop while it was being done."""
        again = jobtable.load(self._state, job.id)
        if again is not None and again.status == RUNNING and again.is_cancelling:
            self._end(again, CANCELLED)
        else:
            self._running.discard(job.id)
        results.discard(self._state, job.id)

    def _trace(self, job: Job, name: str, start_ns: int, end_ns: int, *, is_ok: bool) -> None:
        tracing.record(
            self._state,
            tracing.Span(
                tenant_id=job.tenant_id, trace_id=job.trace_id, span_id=new_span_id(), parent_span_id=job.span_id,
                name=name, start_ns=start_ns, duration_ns=end_ns - start_ns,
                status_code="OK" if is_ok else "ERROR", attributes={"job.id": job.id, "job.kind": job.kind},
            ),
        )  # fmt: skip

    async def _sweep(self) -> None:
        """Let go of what is past its retention, once an hour."""
        while True:
            jobtable.purge(self._state)
            results.purge(self._state)
            callbacks.purge(self._state)
            subscriptions.purge(self._state)
            await self._state.clock.sleep(_SWEEP_S)
