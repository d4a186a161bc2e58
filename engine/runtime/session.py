"""One process's share of a run: which run it is, what it finds, and the account at the end.

A run may be worked on by several processes, one after the other, when some are killed. This file opens the
books, and closes them from what the ledger holds rather than from what this process remembers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from engine.errors import ConfigError, EngineError, RunFailed, StateError, Unbalanced
from engine.events import RunEnded, RunStarted, SpanEnded
from engine.jobs import lifecycle
from engine.jobs.cancel import Cancelled
from engine.pipeline.spec import PipelineSpec
from engine.ports import Sink
from engine.record import Counts, Mark
from engine.runtime.landing import manifest_of
from engine.runtime.opening import Opening, by_state, open_run, settings_digest
from engine.runtime.reading import Reader
from engine.runtime.report import Outcome, Report, exit_of, peak_mib
from engine.runtime.reseal import is_unsent, reseal
from engine.runtime.tally import Tally
from engine.runtime.tools import Tools
from engine.store.rows import Book, JobRow, PartRow, RunRow


class Opened(msgspec.Struct, kw_only=True):
    """What a process found when it opened a pipeline's books."""

    run: RunRow
    is_resumed: bool
    jobs: list[JobRow]
    marks: dict[str, Mark]
    parts: list[PartRow]
    first_seq: int
    last_done: RunRow | None
    swept: int = 0

    @property
    def epoch(self) -> int:
        """The epoch this run's rows land in."""
        return self.run.output_epoch


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is run, from which file, and on which platform (profile and address, as one name)."""

    spec: PipelineSpec
    spec_path: str
    platform: str


class Ran(Protocol):
    """A run that was worked on, with jobs or without."""

    @property
    def nulled(self) -> Mapping[str, int]:
        """How many values of which field did not fit and became null."""

    @property
    def unbalanced(self) -> Sequence[Unbalanced]:
        """Batches whose results did not account for their rows."""

    @property
    def aborted(self) -> Cancelled | None:
        """What became of remote jobs that were to be cancelled."""


class Session:
    """Opens and closes the books of one pipeline's run."""

    def __init__(self, *, order: Order, tools: Tools, tally: Tally, reader: Reader, sink: Sink) -> None:
        self._spec = order.spec
        self._spec_path = order.spec_path
        self._file = str(Path(order.spec_path).resolve())
        self._text = _text_of(self._file)
        self._tools = tools
        self._tally = tally
        self._reader = reader
        self._sink = sink
        self._platform = order.platform
        self._started = tools.clock.monotonic()

    async def open(self, *, fresh: bool, opening: Opening | None = None) -> Opened:
        """Decide which run this is, unless `opening` has, and read what the ledger holds of it.

        Raises:
            ConfigError: the file no longer fits the unfinished run. StaleCheckpoint, InputError: the input does not.
        """
        ledger = self._tools.ledger
        last = ledger.last_run()
        if last is not None and not fresh:
            self._check_platform(ledger.platform())
        opening = opening or open_run(
            last,
            digest=settings_digest(self._spec),
            fresh=fresh,
            now_ns=self._tools.clock.now_ns(),
            spec_path=self._spec_path,
            may_change=all(is_unsent(job) for job in ledger.open_jobs(last.epoch)) if last else False,
        )
        epoch = opening.run.epoch
        jobs = ledger.open_jobs(epoch)
        if opening.is_changed:
            await reseal(jobs, reader=self._reader, ledger=ledger, pipeline=self._spec.name)
        return Opened(
            run=opening.run,
            is_resumed=opening.is_resumed,
            jobs=jobs,
            marks=ledger.marks(epoch),
            parts=ledger.parts(),
            first_seq=ledger.last_seq(epoch),
            last_done=ledger.last_run(epoch=epoch, is_done=True),
        )

    def _check_platform(self, known: str | None) -> None:
        """Remote ids mean nothing to another platform, and neither does what was done there."""
        if known is not None and known != self._platform:
            raise ConfigError(
                f"the ledger of {self._spec.name} is about jobs at {known}, the settings now say {self._platform}",
                hint="use another state_dir and sink path for that platform, or start a new epoch there with --fresh",
            )

    async def has_work(self, opened: Opened) -> bool:
        """Whether there is anything to do; a first run always has, so that it leaves an account.

        Looks at the input first, so that one that cannot be read is said before anything is started or sent.
        """
        if not self._reader.can_reread:
            return True
        has_news = await self._reader.has_news(opened.marks)
        return has_news or opened.is_resumed or bool(opened.jobs) or opened.last_done is None

    async def begin(self, opened: Opened, *, platform: str) -> None:
        """Write the run down, put the output directory in order, and say what was found."""
        run, tools = opened.run, self._tools
        before_ns, was_stopped = run.stopped_ns or run.alive_ns, run.stopped_ns is not None
        run.alive_ns, run.stopped_ns = tools.clock.now_ns(), None
        await tools.ledger.put_run(run)
        await tools.ledger.put_platform(self._platform)
        await tools.ledger.note_file(self._file, self._text)
        tools.counts = _counts_of(tools.ledger.book(run.run_id))
        opened.swept = await asyncio.to_thread(self._sink.sweep, {part.name for part in opened.parts})
        ours = [part for part in opened.parts if part.epoch == opened.epoch]
        if ours:
            document = manifest_of(self._spec.name, opened.epoch, ours)
            await asyncio.to_thread(self._sink.write_manifest, document)
        tools.observer.notice(
            RunStarted(
                run.run_id,
                self._spec.name,
                platform,
                run.trace_id,
                {**tools.ledger.ended_jobs(run.run_id), **by_state(opened.jobs)} if opened.is_resumed else {},
                idle_s=(run.alive_ns - before_ns) / 1e9 if opened.is_resumed and before_ns else None,
                was_stopped=was_stopped,
                swept=opened.swept,
            )
        )

    async def nothing_new(self, opened: Opened) -> Report:
        """The report when every row of the input has ended before: the books of the run that ended them."""
        done = opened.last_done or opened.run
        report = self._report(done, self._tools.ledger.book(done.run_id), "nothing_new", opened)
        report.manifest = _manifest_in(self._spec.sink.path) if opened.parts and self._spec.sink.path else None
        return report

    async def close(self, opened: Opened, run: Ran, *, manifest: str | None) -> Report:
        """Add up the books, judge them, and end the run unless it is to be continued."""
        ledger, row = self._tools.ledger, opened.run
        book = ledger.book(row.run_id)
        self._audit(book)
        outcome = self._judge(book, run, is_replay=row.is_replay)
        now_ns = self._tools.clock.now_ns()
        if outcome == "interrupted" or (outcome == "over_budget" and book.open):
            await ledger.stop_run(row.run_id, now_ns=now_ns)
        elif outcome == "done" and not book.read and opened.last_done is not None:
            await ledger.forget_run(row.run_id)
            return await self.nothing_new(opened)
        elif outcome != "unbalanced":
            # First the old output, then the end: a run that has ended has no next one to clear up after it.
            if not row.is_replay:
                await self._forget_old_epochs(opened)
            await ledger.end_run(row.run_id, outcome=outcome, now_ns=now_ns)
        report = self._report(row, book, outcome, opened)
        report.manifest = manifest
        left = by_state(ledger.open_jobs(row.epoch))
        report.jobs_open, report.remote_open = sum(left.values()), left.get(lifecycle.SUBMITTED, 0)
        report.is_replay = row.is_replay
        report.lines = [exc.message for exc in run.unbalanced]
        report.lines += _null_lines(run)
        report.lines += self._budget_lines(report) + _abort_lines(run) + self._stop_lines(report)
        self._tell(report, row)
        return report

    async def failed(self, opened: Opened, failure: RunFailed) -> Report:
        """The account of a run that failed on the way; it is continued by the next one."""
        # A ledger that is the cause takes no more: that run ends like one that was killed.
        if not any(isinstance(cause, StateError) for cause in failure.causes):
            with suppress(EngineError):
                await self._tools.ledger.stop_run(opened.run.run_id, now_ns=self._tools.clock.now_ns())
        report = self._report(opened.run, self._tools.ledger.book(opened.run.run_id), "failed", opened)
        report.exit_code = failure.exit
        self._tell(report, opened.run)
        return report

    def _audit(self, book: Book) -> None:
        """What this process counted must be what the ledger adds up to."""
        counts = self._tools.counts
        mine = (counts.read, counts.filtered, counts.accepted, counts.rejected, counts.dead)
        theirs = (book.read, book.filtered, book.accepted, book.rejected, book.dead)
        if mine != theirs:
            raise Unbalanced(f"this process counted {mine}, the ledger adds up to {theirs}", hint="report this: a bug")

    def _judge(self, book: Book, run: Ran, *, is_replay: bool) -> Outcome:
        spec = self._spec
        if run.unbalanced:
            return "unbalanced"
        if book.open and self._tools.stop.is_set:
            return "interrupted"
        if self._tools.tolerance.is_spent:
            return "over_budget"
        if book.open:
            return "unbalanced"
        failed = book.rejected + book.dead
        budget = spec.dead_letters.max
        if budget is not None and failed > budget * book.read:
            return "over_budget"
        if budget is None and failed and not book.accepted:
            return "over_budget"  # Nothing at all got through: no budget is needed to call that a failure.
        is_short = book.read < spec.expect.min_rows and not is_replay
        return "too_few_rows" if is_short else "done"

    async def _forget_old_epochs(self, opened: Opened) -> None:
        """Output of earlier epochs goes once a later one is complete, never before."""
        old = [part for part in opened.parts if part.epoch != opened.epoch]
        if old:
            await self._tools.ledger.forget_parts(opened.epoch)
            keep = {part.name for part in self._tools.ledger.parts(opened.epoch)}
            await asyncio.to_thread(self._sink.sweep, keep)

    def _report(self, row: RunRow, book: Book, outcome: Outcome, opened: Opened) -> Report:
        tally = self._tally
        return Report(
            run_id=row.run_id,
            pipeline=self._spec.name,
            outcome=outcome,
            read=book.read,
            accepted=book.accepted,
            rejected=book.rejected,
            dead=book.dead,
            filtered=book.filtered,
            open=book.open,
            jobs=tally.jobs,
            requests=tally.requests,
            seconds=round(self._tools.clock.monotonic() - self._started, 3),
            parts=book.parts,
            epoch=row.epoch,
            polls=tally.polls,
            callbacks=tally.callbacks,
            replays=tally.replays,
            resumed=len(opened.jobs),
            peak_mib=round(peak_mib(), 1),
            exit_code=exit_of(outcome),
            limit=None if outcome == "nothing_new" else tally.limits.limit,
        )

    def _budget_lines(self, report: Report) -> list[str]:
        budget = self._tools.tolerance
        if not budget.is_spent:
            return []
        left = f"; {report.open} rows are planned and were not sent" if report.open else ""
        share = f"{budget.failed} of {budget.ended} rows that ended were rejected or dead"
        return [f"took no more input: {share}, more than [dead_letters] max allows{left}"]

    def _stop_lines(self, report: Report) -> list[str]:
        if report.outcome != "interrupted":
            return []
        done = self._tools.ledger.ended_jobs(report.run_id).get(lifecycle.COMMITTED, 0)
        return [
            f"{report.remote_open} jobs keep running at the platform; the next run fetches their results",
            f"committed {done} of {done + report.jobs_open} jobs; nothing will be repeated",
        ]

    def _tell(self, report: Report, row: RunRow) -> None:
        observer = self._tools.observer
        counts = (report.read, report.accepted, report.rejected, report.dead, report.filtered, report.open)
        observer.notice(RunEnded(report.run_id, report.pipeline, report.outcome, *counts, report.seconds))
        observer.notice(
            SpanEnded(
                trace_id=row.trace_id,
                span_id=row.span_id,
                parent_span_id=None,
                name=f"run {report.pipeline}",
                kind="internal",
                start_ns=row.started_ns,
                end_ns=self._tools.clock.now_ns(),
                attributes={
                    "engine.run.id": row.run_id,
                    "engine.run.outcome": report.outcome,
                    "engine.rows.read": report.read,
                },
                error=report.outcome if report.exit_code else None,
            )
        )


def _manifest_in(path: str) -> str:
    # A URL is no path: its slashes count.
    return path.rstrip("/") + "/_manifest.json" if "://" in path else str(Path(path) / "_manifest.json")


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""  # It was read a moment ago; without it, only finishing a changed run is not possible.


def _counts_of(book: Book) -> Counts:
    return Counts(
        read=book.read, accepted=book.accepted, rejected=book.rejected, dead=book.dead, filtered=book.filtered
    )


def _null_lines(run: Ran) -> list[str]:
    return [
        f"{count} values of `{name}` did not fit its type and became null ([results.drift])"
        for name, count in sorted(run.nulled.items())
    ]


def _abort_lines(run: Ran) -> list[str]:
    told = run.aborted
    if told is None:
        return []
    lines = [f"{told.cancelled} remote jobs were cancelled; their rows are sent again by the next run"]
    if told.asked:
        lines.append(f"{told.asked} were asked to end and still run; the next run sends their rows again if they do")
    if told.ended:
        lines.append(f"{told.ended} had ended before; the next run takes them as they are")
    if told.failed and told.first_error:
        lines.append(f"{told.failed} could not be cancelled and keep running: {told.first_error.message}")
    return lines
