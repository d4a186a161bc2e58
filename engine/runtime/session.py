"""One process's share of a run: which run it is, what it finds, and the account at the end.

A run may be worked on by several processes, one after the other, when some are killed. This file opens the
books, and closes them from what the ledger holds rather than from what this process remembers.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from engine.errors import ConfigError, Unbalanced
from engine.events import RunEnded, RunStarted, SpanEnded
from engine.jobs import lifecycle
from engine.pipeline.spec import PipelineSpec
from engine.ports import Sink
from engine.record import Counts, Mark
from engine.runtime.landing import manifest_of
from engine.runtime.opening import by_state, open_run, settings_digest
from engine.runtime.reading import Reader
from engine.runtime.report import Outcome, Report, exit_of, peak_mib
from engine.runtime.run import Run
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
        """The epoch this run is of."""
        return self.run.epoch


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is run, from which file, and on which platform (profile and address, as one name)."""

    spec: PipelineSpec
    spec_path: str
    platform: str


class Session:
    """Opens and closes the books of one pipeline's run."""

    def __init__(self, *, order: Order, tools: Tools, tally: Tally, reader: Reader, sink: Sink) -> None:
        self._spec = order.spec
        self._spec_path = order.spec_path
        self._tools = tools
        self._tally = tally
        self._reader = reader
        self._sink = sink
        self._platform = order.platform
        self._started = tools.clock.monotonic()

    async def open(self, *, fresh: bool) -> Opened:
        """Decide which run this is, and read what the ledger holds of it.

        Raises:
            ConfigError: the file no longer fits the unfinished run. StaleCheckpoint, InputError: the input does not.
        """
        ledger = self._tools.ledger
        last = ledger.last_run()
        if last is not None and not fresh:
            self._check_platform(ledger.platform())
        opening = open_run(
            last,
            digest=settings_digest(self._spec),
            fresh=fresh,
            now_ns=self._tools.clock.now_ns(),
            spec_path=self._spec_path,
        )
        epoch = opening.run.epoch
        return Opened(
            run=opening.run,
            is_resumed=opening.is_resumed,
            jobs=ledger.open_jobs(epoch),
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
        run.alive_ns, run.stopped_ns = tools.clock.now_ns(), None
        await tools.ledger.put_run(run)
        await tools.ledger.put_platform(self._platform)
        tools.counts = _counts_of(tools.ledger.book(run.run_id))
        opened.swept = await asyncio.to_thread(self._sink.sweep, {part.name for part in opened.parts})
        ours = [part for part in opened.parts if part.epoch == opened.epoch]
        if ours:
            document = manifest_of(self._spec.name, opened.epoch, ours)
            await asyncio.to_thread(self._sink.write_manifest, document)
        tools.observer.notice(
            RunStarted(
                run.run_id, self._spec.name, platform, run.trace_id, by_state(opened.jobs) if opened.is_resumed else {}
            )
        )

    async def nothing_new(self, opened: Opened) -> Report:
        """The report when every row of the input has ended before: the books of the run that ended them."""
        done = opened.last_done or opened.run
        report = self._report(done, self._tools.ledger.book(done.run_id), "nothing_new", opened)
        report.manifest = str(Path(self._spec.sink.path) / "_manifest.json") if opened.parts else None
        return report

    async def close(self, opened: Opened, run: Run, *, manifest: str | None) -> Report:
        """Add up the books, judge them, and end the run unless it is to be continued."""
        ledger, row = self._tools.ledger, opened.run
        book = ledger.book(row.run_id)
        self._audit(book)
        outcome = self._judge(book, run)
        now_ns = self._tools.clock.now_ns()
        if outcome == "interrupted":
            await ledger.stop_run(row.run_id, now_ns=now_ns)
        elif outcome == "done" and not book.read and opened.last_done is not None:
            await ledger.forget_run(row.run_id)
            return await self.nothing_new(opened)
        elif outcome != "unbalanced":
            await ledger.end_run(row.run_id, outcome=outcome, now_ns=now_ns)
            await self._forget_old_epochs(opened)
        report = self._report(row, book, outcome, opened)
        report.manifest = manifest
        report.remote_open = sum(1 for job in ledger.open_jobs(row.epoch) if job.state == lifecycle.SUBMITTED)
        report.lines = [exc.message for exc in run.unbalanced] + _stop_lines(report)
        self._tell(report, row)
        return report

    def failed(self, opened: Opened, *, exit_code: int) -> Report:
        """The account of a run that failed on the way; it is continued by the next one."""
        report = self._report(opened.run, self._tools.ledger.book(opened.run.run_id), "failed", opened)
        report.exit_code = exit_code
        self._tell(report, opened.run)
        return report

    def _audit(self, book: Book) -> None:
        """What this process counted must be what the ledger adds up to."""
        counts = self._tools.counts
        mine = (counts.read, counts.filtered, counts.accepted, counts.rejected, counts.dead)
        theirs = (book.read, book.filtered, book.accepted, book.rejected, book.dead)
        if mine != theirs:
            raise Unbalanced(f"this process counted {mine}, the ledger adds up to {theirs}", hint="report this: a bug")

    def _judge(self, book: Book, run: Run) -> Outcome:
        spec = self._spec
        if run.unbalanced:
            return "unbalanced"
        if book.open:
            return "interrupted" if self._tools.stop.is_set else "unbalanced"
        failed = book.rejected + book.dead
        budget = spec.dead_letters.max
        if budget is not None and failed > budget * book.read:
            return "over_budget"
        if budget is None and failed and not book.accepted:
            return "over_budget"  # Nothing at all got through: no budget is needed to call that a failure.
        return "too_few_rows" if book.read < spec.expect.min_rows else "done"

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
            replays=tally.replays,
            resumed=len(opened.jobs),
            peak_mib=round(peak_mib(), 1),
            exit_code=exit_of(outcome),
        )

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


def _counts_of(book: Book) -> Counts:
    return Counts(
        read=book.read, accepted=book.accepted, rejected=book.rejected, dead=book.dead, filtered=book.filtered
    )


def _stop_lines(report: Report) -> list[str]:
    if report.outcome != "interrupted":
        return []
    return [f"{report.remote_open} jobs keep running at the platform; the next run fetches their results"]
