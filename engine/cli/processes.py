"""`engine run --processes`: one process for each share of the input, stopped together, and one report of them all.

Here processes are started, listened to and told to stop; what a share is, and how reports are joined, is decided
elsewhere. Whatever becomes of one of them, or of this process, the next run goes on where each share is.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from engine.cli.board import Board
from engine.cli.failures import exit_code_of, render
from engine.cli.invocation import Invocation
from engine.cli.output import emit, emit_json, tell
from engine.cli.run import RunOptions, listen, on_loop
from engine.cli.share import FORCE, Assignment, Fault, Reached, Said
from engine.cli.summary import report_fields, report_lines
from engine.codec.payload import decode, encode
from engine.components.catalog import open_source
from engine.components.sinks.joint import write_joint
from engine.errors import EngineError, Exit, LedgerBusy
from engine.pipeline.spec import PipelineSpec
from engine.record import Share
from engine.runtime.drain import StopFlag
from engine.runtime.report import Report
from engine.runtime.sharing import Ending, join, refuse_indivisible
from engine.settings import Settings
from engine.store.lock import StateLock
from engine.store.shares import Division, divide, find_division, shares_begun
from engine.store.together import OneRun, note_together

# Shares of a run whose starter was killed finish what is on the wire before they let go.
_LET_GO_S = 20.0
_FORCED_S = 5.0
_LOOK_EVERY_S = 0.1
_LINE_MAX = 16 * 1024 * 1024


class Together(msgspec.Struct, frozen=True, kw_only=True):
    """A run in several processes: of which file, under which flags."""

    invocation: Invocation
    settings: Settings
    spec: PipelineSpec
    path: str
    options: RunOptions
    processes: int
    finishes_old: bool = False

    @property
    def again(self) -> str:
        """The file as it is named to run it again."""
        return f"{self.path} --processes {self.processes}"


def run_together(run: Together) -> int:
    """Run a pipeline in several processes, and say how it ended; answers the exit code."""
    paint, options = run.invocation.paint(), run.options
    try:
        report, endings = _run(run)
    except asyncio.CancelledError:
        tell(f"cancelled; the ledgers are consistent. continue with:  engine run {run.again}   (exit {Exit.FORCED})")
        _end_json(run, outcome="interrupted", code=Exit.FORCED)
        return Exit.FORCED
    except EngineError as exc:
        tell(render(exc, paint, debug=run.invocation.is_debug))
        _end_json(run, outcome="failed", code=exit_code_of(exc), error=exc)
        return exit_code_of(exc)
    if options.as_json:
        emit_json(_fields(report, endings))
        if report.exit_code:
            tell("\n".join(report_lines(report, run.again, paint)))
    else:
        emit("\n".join(report_lines(report, run.again, run.invocation.paint_out())))
    return report.exit_code


def _run(run: Together) -> tuple[Report, list[Ending]]:
    spec, directory = run.spec, Path(run.settings.state_dir) / run.spec.name
    refuse_indivisible(spec, can_reread=open_source(spec.source, want_values=False).can_reread)
    started = time.monotonic()
    lock = StateLock(directory / "lock")
    lock.acquire()
    try:
        endings = on_loop(lambda: _supervised(run, directory))
        report = join(spec, endings, seconds=time.monotonic() - started)
        try:
            joint = _write_joint(run, directory)
        except EngineError as exc:
            report.outcome, report.exit_code = "failed", exc.exit_code
            report.lines.append(f"{exc.message} [{exc.code}]")
        else:
            report.manifest, report.parts = joint or (None, report.parts)
        _note(directory, report, endings)
        return report, endings
    finally:
        lock.release()


def _note(directory: Path, report: Report, endings: Sequence[Ending]) -> None:
    """Remember which runs of the shares this was; a share that found nothing has none of its own."""
    runs = {
        ending.tag: ending.report.run_id
        for ending in endings
        if ending.report is not None and ending.report.outcome != "nothing_new"
    }
    if runs:
        outcome = OneRun(runs=runs, outcome=report.outcome, exit_code=report.exit_code, seconds=report.seconds)
        note_together(directory, outcome)


def _write_joint(run: Together, directory: Path) -> tuple[str, int] | None:
    division = find_division(directory)
    return None if division is None else write_joint(run.spec.sink, division.shares, pipeline=run.spec.name)


async def _supervised(run: Together, directory: Path) -> list[Ending]:
    stop = StopFlag()
    restore = listen(stop, None, is_aborting=run.options.is_aborting)
    try:
        # First this: a share that is still at work may be about to begin the epoch that it was told to.
        await _wait_for_locks(directory, stop)
        division = divide(directory, processes=run.processes, fresh=run.options.fresh)
        _write_joint(run, directory)
        return await _work(run, division, stop)
    finally:
        restore()


async def _work(run: Together, division: Division, stop: StopFlag) -> list[Ending]:
    board = None if run.options.quiet else Board(sys.stderr, run.spec.name, division.shares)
    async with AsyncExitStack() as stack:
        if board:
            stack.enter_context(board.showing())
        reached = await _emulator(run, stack)
        children = [
            await stack.enter_async_context(_child(_assignment(run, division, share, reached), board))
            for share in division.shares
        ]
        for child in children:
            stop.then(child.stop)
        return list(await asyncio.gather(*(child.end() for child in children)))


async def _wait_for_locks(directory: Path, stop: StopFlag) -> None:
    """Let the shares of a run whose starter was killed come to their end.

    Raises:
        LedgerBusy: one is still at work.
    """
    until = time.monotonic() + _LET_GO_S
    for share in shares_begun(directory):
        lock = StateLock(directory.with_name(share.named(directory.name)) / "lock")
        while True:
            try:
                lock.acquire()
            except LedgerBusy:
                if stop.is_set or time.monotonic() > until:
                    raise
                await asyncio.sleep(_LOOK_EVERY_S)
            else:
                lock.release()
                break


async def _emulator(run: Together, stack: AsyncExitStack) -> Reached | None:
    """Where the shares need one and none is named: an emulator for all of them, which ends with the stack."""
    platform = run.settings.platform
    if not run.spec.needs_platform or platform.profile != "emulator" or platform.emulator.url is not None:
        return None
    from engine.access import open_access, platform_name

    access, description = await open_access(run.settings, stack)
    if not run.options.quiet:
        tell(f"{run.spec.name}: {description}")
    return Reached(
        platform=platform_name(run.settings),
        url=access.api_url,
        sandbox_url=access.sandbox_url,
        client_id=access.client_id,
        client_secret=access.client_secret.reveal() if access.client_secret else "",
    )


def _assignment(run: Together, division: Division, share: Share, reached: Reached | None) -> Assignment:
    return Assignment(
        path=run.path,
        tag=share.tag,
        config=run.invocation.config,
        pairs=run.invocation.pairs,
        verbosity=run.invocation.verbosity,
        # Also where an earlier run was killed before this share could begin anew.
        anew=division.anew.get(share.tag),
        finishes_old=run.finishes_old,
        limit=run.options.limit,
        is_aborting=run.options.is_aborting,
        emulator=reached,
    )


class _Child:
    """The process of one share."""

    def __init__(self, process: asyncio.subprocess.Process, tag: str, board: Board | None) -> None:
        self._process = process
        self._tag = tag
        self._board = board

    def stop(self) -> None:
        """Ask it to stop: its input ends."""
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def end(self) -> Ending:
        """Listen until it ends, and say how."""
        last = Said()
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        while line := await self._process.stdout.readline():
            said = decode(line, Said)
            if said.report is not None or said.error is not None:
                last = said
            elif said.warning is not None:
                self._warn(*said.warning)
            if self._board is not None:
                self._board.note(self._tag, said)
        ending = _ending(self._tag, await self._process.wait(), last)
        if self._board is not None:
            self._board.end(ending)
        return ending

    async def leave(self) -> None:
        """Make sure that it is gone."""
        if self._process.returncode is not None:
            return
        self.stop()
        for number in (FORCE, signal.SIGKILL):
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _FORCED_S)
                return

    def _warn(self, code: str, message: str) -> None:
        line = f"  warning   {self._tag}: {message} [{code}]"
        if self._board is not None:
            self._board.say(line)
        else:
            tell(line)


@asynccontextmanager
async def _child(told: Assignment, board: Board | None) -> AsyncIterator[_Child]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "engine.cli.share",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        # Ctrl-C is for this process, which tells the shares.
        start_new_session=True,
        limit=_LINE_MAX,
    )
    child = _Child(process, told.tag, board)
    try:
        assert process.stdin is not None  # noqa: S101 - it was asked for
        process.stdin.write(encode(told) + b"\n")
        yield child
    finally:
        await child.leave()


def _ending(tag: str, code: int, last: Said) -> Ending:
    if last.error is not None:
        return Ending(tag=tag, code=last.error.exit_code, report=last.report, message=_words(last.error))
    if last.report is not None:
        return Ending(tag=tag, code=code, report=last.report)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code} and without a word"
    return Ending(tag=tag, code=Exit.FAILED, message=f"the process {how}; run again, and it goes on where it was")


def _words(error: Fault) -> str:
    return f"{error.message} [{error.code}]" + (f"; {error.hint}" if error.hint else "")


def _fields(report: Report, endings: Sequence[Ending]) -> dict[str, Any]:
    """The one JSON object: that of a run, with those of its shares."""
    fields = report_fields(report) | {"run_id": None}
    fields["shards"] = [_share_fields(ending) for ending in endings]
    failed = [ending for ending in endings if ending.message]
    if failed:
        fields["error"] = {"code": "run.failed", "message": f"{failed[0].tag}: {failed[0].message}", "hint": ""}
    return fields


def _share_fields(ending: Ending) -> Mapping[str, Any]:
    told = {"shard": ending.tag, "exit_code": ending.code}
    if ending.report is None:
        return {**told, "outcome": "failed", "message": ending.message}
    return {**report_fields(ending.report), **told}


def _end_json(run: Together, *, outcome: str, code: int, error: EngineError | None = None) -> None:
    if not run.options.as_json:
        return
    fields: dict[str, Any] = {"run_id": None, "pipeline": run.spec.name, "outcome": outcome, "exit_code": code}
    if error:
        fields["error"] = {"code": error.code, "message": error.message, "hint": error.hint}
    emit_json(fields)
