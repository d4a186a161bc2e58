"""The create lane's work: ledger first, then the wire, then the ledger again.

One job at a time; concurrency and retries of single requests belong to the lane and the transport.
"""

from __future__ import annotations

import msgspec

from engine.client.client import Client
from engine.contract import jobs as contract
from engine.contract.exchange import Trace
from engine.contract.jobs import CreatedJob
from engine.errors import Missing, StaleCheckpoint, Unbalanced
from engine.events import JobSubmitted, Warned
from engine.jobs.lanes import Lane
from engine.jobs.lifecycle import accept, send
from engine.jobs.pack import digest_body, with_callback
from engine.jobs.recover import find_by_trace
from engine.ports import Clock, Observer
from engine.store.ledger import Ledger
from engine.store.rows import JobRow


class Submitter:
    """Creates remote jobs, each exactly once however often it has to ask.

    `callback_url`, when set, is sent along with each of them; it is no part of a job's identity.
    """

    def __init__(self, *, client: Client, ledger: Ledger, lane: Lane, clock: Clock, observer: Observer) -> None:
        self._client = client
        self._ledger = ledger
        self._lane = lane
        self._clock = clock
        self._observer = observer
        self.replays = 0
        self.callback_url: str | None = None

    async def submit(self, job: JobRow, body: bytes) -> None:
        """Create the job at the platform, or find that it is there already; its row says so durably on return.

        Raises:
            Rejected: the platform refuses this body, for good. OutOfPatience: it did not come back in time.
            PatienceEnded: the run is to stop; with either the row stays as it is, so a later run asks again with the
            same key. Refused: credentials.
            StaleCheckpoint: the body is not the one the key was derived from. Unbalanced: another job's answer.
        """
        if digest_body(body) != job.digest:
            raise StaleCheckpoint(
                f"job {job.epoch}/{job.seq}: the input or a transform has changed since the job was planned",
                hint="restore the input, or run again with --fresh to start a new epoch",
            )
        # Before the ledger says that a request may have left: while the platform is down, none does.
        await self._lane.ready()
        send(job, now_ns=self._clock.now_ns())
        await self._ledger.move([job])
        sent = with_callback(body, self.callback_url)
        started = self._clock.monotonic()
        answered = await self._client.jobs.create_raw(sent, key=job.key, trace=Trace(job.trace_id, job.span_id))
        created = answered.answer
        if created.kind != job.kind:
            raise Unbalanced(
                f"job {job.epoch}/{job.seq}: asked for {job.kind}, the platform answered with {created.kind}",
                hint="the Idempotency-Key may have been used by something else; report this to the platform",
            )
        is_replay = answered.status == contract.CREATE.status[1]
        if is_replay and not await self._stands_for_itself(created, job):
            created = await self._found_again(created, job)
        accept(job, remote_id=created.id, trace_id=created.trace_id, now_ns=self._clock.now_ns())
        await self._ledger.move([job])
        self.replays += is_replay
        took_s = self._clock.monotonic() - started
        self._observer.notice(JobSubmitted(job.kind, job.rows, is_replay, took_s))

    async def _stands_for_itself(self, created: CreatedJob, job: JobRow) -> bool:
        """Whether the job a replay names is there, and is the one the replay describes (contract 9.2)."""
        try:
            remote = (await self._client.jobs.get(created.id, trace=Trace(job.trace_id, job.span_id))).answer
        except Missing:
            return False
        return remote.kind == created.kind and remote.trace_id == (created.trace_id or remote.trace_id)

    async def _found_again(self, created: CreatedJob, job: JobRow) -> CreatedJob:
        """The job that the lost create made, where the platform's replay names another one.

        Raises:
            Unbalanced: it is not in the list either.
        """
        said = f"job {job.epoch}/{job.seq}: the platform answered the repeated create with another job, {created.id}"
        found = await find_by_trace(self._client, job)
        if found is None:
            raise Unbalanced(said, hint="nothing of it was landed; report this to the platform")
        self._observer.notice(Warned("platform.other_replay", f"{said}; the one it made is {found}, found by trace"))
        return msgspec.structs.replace(created, id=found, trace_id=job.trace_id)
