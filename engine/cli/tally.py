"""Tally: the facts of a run folded into counters, cheap enough to keep for every event.

Counters and short windows only: no clock, no stream, no text. What it counts is this process's part of a run;
a resumed run's earlier rows are in the ledger, and in the report at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from engine.events import (
    BatchRead,
    Event,
    JobGaveUp,
    JobSettled,
    JobsPlanned,
    JobSubmitted,
    PartCommitted,
    Polled,
    RequestDone,
    ResultFetched,
    RunEnded,
    RunStarted,
    SpanEnded,
    Waited,
)
from engine.record import Counts
from engine.runtime.limits import Limits

STAGES = ("read", "create", "running", "fetch", "write")

_SAMPLES = 512
# A rate over this many samples of the view's timer: smooth, and still alive after a change.
_WINDOW = 40
_ROUTE_STAGES = {"jobs.create": "create", "jobs.result": "fetch"}


class Stage:
    """One stage: units that came out of it, its errors, and how long its last steps took."""

    __slots__ = ("_window", "errors", "took_s", "units")

    def __init__(self) -> None:
        self.units = 0
        self.errors = 0
        self.took_s: deque[float] = deque(maxlen=_SAMPLES)
        self._window: deque[tuple[float, int]] = deque(maxlen=_WINDOW)

    def add(self, units: int, took_s: float) -> None:
        """One step came out."""
        self.units += units
        self.took_s.append(took_s)

    def sample(self, at_s: float) -> None:
        """Remember where the count stood, for the rate."""
        self._window.append((at_s, self.units))

    @property
    def per_s(self) -> float:
        """Units per second over the window."""
        if len(self._window) < 2:
            return 0.0
        (start_s, before), (end_s, after) = self._window[0], self._window[-1]
        return (after - before) / (end_s - start_s) if end_s > start_s else 0.0

    def quantile(self, share: float) -> float | None:
        """The `share` quantile of the last steps' durations, None before the first."""
        ordered = sorted(self.took_s)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


class Tally:
    """All counters of one run."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.stages = {name: Stage() for name in STAGES}
        self.resumed: dict[str, int] = {}
        self.planned = self.submitted = self.settled = self.fetched = self.committed = 0
        self.gave_up = self.replays = self.requests = self.throttled = self.resends = 0
        self.polls = self.answered = self.parts = 0
        self.read_bytes = 0
        self.limits = Limits()
        self.is_over = False
        self._folds: dict[type[Event], Callable[[Any], None]] = {
            RunStarted: self._run_started,
            BatchRead: self._batch_read,
            JobsPlanned: self._jobs_planned,
            JobSubmitted: self._job_submitted,
            JobSettled: self._job_settled,
            Polled: self._polled,
            ResultFetched: self._result_fetched,
            PartCommitted: self._part_committed,
            JobGaveUp: self._job_gave_up,
            RequestDone: self._request_done,
            Waited: self.limits.notice,
            SpanEnded: self._span_ended,
            RunEnded: self._run_ended,
        }

    def notice(self, event: Event) -> None:
        """Fold one fact in."""
        if fold := self._folds.get(type(event)):
            fold(event)

    def sample(self, at_s: float) -> None:
        """Remember where every stage stood, for the rates."""
        for stage in self.stages.values():
            stage.sample(at_s)

    def in_flight(self, stage: str) -> int:
        """Jobs that are in a stage now; batches are not told, so `read` has none."""
        found = self.resumed.get
        match stage:
            case "create":
                waiting = found("planned", 0) + found("submitting", 0) + self.planned - self.submitted
            case "running":
                waiting = found("submitted", 0) + self.submitted - self.settled
            case "fetch":
                waiting = found("succeeded", 0) + self.settled - self.fetched - self.gave_up
            case "write":
                waiting = self.fetched - self.committed
            case _:
                waiting = 0
        # A new attempt of a failed job passes a stage twice.
        return max(waiting, 0)

    @property
    def waits(self) -> list[tuple[str, float]]:
        """The reasons of waiting with the share of the time in which somebody did, longest first."""
        return sorted(self.limits.shares.items(), key=lambda share: -share[1])

    def _run_started(self, event: RunStarted) -> None:
        self.resumed = dict(event.resumed)
        self.limits.notice(event)

    def _batch_read(self, event: BatchRead) -> None:
        rows = event.records + event.bad + event.filtered
        self.counts.read += rows
        self.counts.dead += event.bad
        self.counts.filtered += event.filtered
        self.read_bytes += event.body_bytes
        self.stages["read"].add(rows, event.took_s)
        self.stages["read"].errors += event.bad

    def _jobs_planned(self, event: JobsPlanned) -> None:
        self.planned += event.jobs

    def _job_submitted(self, event: JobSubmitted) -> None:
        self.submitted += 1
        self.replays += event.replayed
        self.stages["create"].add(1, event.took_s)

    def _job_settled(self, event: JobSettled) -> None:
        self.settled += 1
        self.stages["running"].add(1, event.remote_s)
        self.stages["running"].errors += event.status != "succeeded"

    def _polled(self, event: Polled) -> None:
        self.polls += 1
        self.answered += event.answered

    def _result_fetched(self, event: ResultFetched) -> None:
        self.fetched += 1
        self.stages["fetch"].add(event.body_bytes, event.took_s)

    def _part_committed(self, event: PartCommitted) -> None:
        self.parts += bool(event.rows)
        self.committed += event.jobs
        self.stages["write"].add(event.rows, event.took_s)

    def _job_gave_up(self, event: JobGaveUp) -> None:
        self.gave_up += 1
        self.counts.dead += event.rows

    def _request_done(self, event: RequestDone) -> None:
        self.requests += 1
        self.resends += event.resend > 0
        self.throttled += event.status == 429
        if event.status == 0 or event.status >= 400:
            self.stages[_ROUTE_STAGES.get(event.route, "running")].errors += 1

    def _span_ended(self, event: SpanEnded) -> None:
        """A committed job's root span carries its books, row by row as the ledger has them."""
        told = event.attributes
        if told.get("engine.job.state") == "committed":
            self.counts.accepted += told.get("engine.job.accepted", 0)
            self.counts.rejected += told.get("engine.job.rejected", 0)
            self.counts.dead += told.get("engine.job.dead", 0)

    def _run_ended(self, event: RunEnded) -> None:
        self.is_over = True
        self.counts = Counts(
            read=event.read,
            accepted=event.accepted,
            rejected=event.rejected,
            dead=event.dead,
            filtered=event.filtered,
        )
