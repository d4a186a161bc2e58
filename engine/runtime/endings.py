"""How a job ends when it brings no result: another attempt, or every row a dead letter.

Decides by the platform's own word on whether a retry can help, and by the attempts spent.
"""

from __future__ import annotations

import contextlib

import msgspec

from engine.client.client import Client
from engine.contract.exchange import Trace
from engine.contract.jobs import RemoteJob, error_of
from engine.errors import EngineError, PlatformError, TransportError
from engine.events import JobGaveUp
from engine.jobs.cancel import ABORTED
from engine.jobs.key import derive_key
from engine.jobs.lifecycle import CANCELLED, give_up, start_over
from engine.jobs.records import letters_of_all
from engine.jobs.watch import TIMED_OUT
from engine.pipeline.spec import RetrySpec
from engine.runtime.reading import Reader
from engine.runtime.spans import job_span
from engine.runtime.tools import Tools
from engine.store.ledger import letter_values
from engine.store.rows import JobRow, RunRow
from engine.telemetry.redact import Redactor

_redact = Redactor()


class _Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job ends: where, how its last attempt came out, the code, the words, the status of a refusal."""

    stage: str
    outcome: str
    code: str
    reason: str
    status: int | None = None


class Endings:
    """Ends jobs of one run."""

    def __init__(
        self, *, pipeline: str, run: RunRow, retry: RetrySpec, reader: Reader, client: Client, tools: Tools
    ) -> None:
        self._pipeline = pipeline
        self._run = run
        self._retry = retry
        self._reader = reader
        self._client = client
        self._tools = tools

    async def failed(self, job: JobRow, remote: RemoteJob | None) -> bool:
        """A job failed or was cancelled at the platform. True: its row now plans another attempt."""
        error = error_of(remote) if remote else None
        if error is not None and error.code == TIMED_OUT:
            await self._cancel(job)
        is_cancelled = job.state == CANCELLED
        aborted = self._tools.ledger.aborted_attempts(job)
        may_retry = not is_cancelled and error is not None and error.retryable
        # What we cancelled ourselves, to stop, says nothing against the job: it is made again, and costs no attempt.
        if (is_cancelled and job.attempt in aborted) or (
            may_retry and job.attempt - len(aborted) < self._retry.attempts
        ):
            await self._tools.ledger.close_attempt(
                job,
                outcome=ABORTED if is_cancelled else job.state,
                now_ns=self._tools.clock.now_ns(),
                code=error.code if error else None,
            )
            attempt = job.attempt + 1
            key = derive_key(pipeline=self._pipeline, epoch=job.epoch, seq=job.seq, attempt=attempt, digest=job.digest)
            start_over(job, key=key)
            await self._tools.ledger.move([job])
            return True
        code = "job.cancelled" if is_cancelled else f"job.{error.code if error else 'failed'}"
        said = error.message if error else ""
        reason = said or job.error or "the platform gave no reason"
        await self._end(job, _Why(stage="job", outcome=job.state, code=code, reason=reason))
        return False

    async def gave_up(self, job: JobRow, *, stage: str, error: EngineError) -> None:
        """A job cannot go on because of `error`."""
        status = error.status if isinstance(error, PlatformError) else None
        outcome = "refused" if stage == "create" else "lost"
        await self._end(job, _Why(stage=stage, outcome=outcome, code=error.code, reason=error.message, status=status))

    async def _end(self, job: JobRow, why: _Why) -> None:
        stage, code, reason = why.stage, why.code, _redact(why.reason)
        records = await self._reader.recall(job)
        now_ns = self._tools.clock.now_ns()
        letters = [
            letter_values(letter, run_id=self._run.run_id, epoch=self._run.epoch, now_ns=now_ns)
            for letter in letters_of_all(job, records, stage=stage, code=code, reason=reason)
        ]
        give_up(job, reason=reason, now_ns=now_ns)
        await self._tools.ledger.close_attempt(
            job, outcome=why.outcome, now_ns=now_ns, code=code, http_status=why.status
        )
        await self._tools.ledger.end_jobs([job], part=None, letters=letters)
        self._tools.counts.dead += job.rows
        self._tools.tolerance.end(job.rows, failed=job.rows)
        self._tools.observer.notice(JobGaveUp(job.kind, job.rows, code, reason))
        self._tools.observer.notice(job_span(job, self._run))

    async def _cancel(self, job: JobRow) -> None:
        """Free the platform's slot of a job nobody waits for any more; it may have ended meanwhile."""
        with contextlib.suppress(PlatformError, TransportError):
            await self._client.jobs.cancel(job.remote_id or "", trace=Trace(job.trace_id, job.span_id))
