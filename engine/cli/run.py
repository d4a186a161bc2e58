"""`engine run`: runs pipelines one after the other on uvloop, shows them live, and reports.

Signals are turned into the stop flag here: once asks for a clean stop, twice cancels. What a run does is
`assembly`'s and the runtime's; this file holds the loop, the view and the words at the end.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from engine.cli.beacon import Beacon
from engine.cli.collecting import collect_rarely
from engine.cli.failures import exit_code_of, render
from engine.cli.finishing import old_spec
from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.live import LiveView
from engine.cli.output import clock_text, emit, emit_json, grouped, tell
from engine.cli.summary import command_of, report_fields, report_lines
from engine.cli.tally import Tally
from engine.errors import EngineError, Exit, InputError, RunFailed
from engine.pipeline.spec import PipelineSpec
from engine.record import Share
from engine.runtime.drain import StopFlag
from engine.runtime.replay import Replay
from engine.runtime.report import Report
from engine.settings import Settings

T = TypeVar("T")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the verb's own flags said."""

    as_json: bool
    fresh: bool
    limit: int | None
    quiet: bool
    is_aborting: bool = False
    replay: Replay | None = None
    share: Share | None = None


@click.command(epilog="Example:  engine run people.toml")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object per file on stdout.")
@click.option("--fresh", is_flag=True, help="Start a new run over the whole input, with new keys.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read at most N rows.")
@click.option(
    "--finish-old-then-new",
    "finishes_old",
    is_flag=True,
    help="Where the file changed under an unfinished run: finish that run as it was planned, then run the file.",
)
@click.option("-q", "--quiet", is_flag=True, help="No live view.")
@click.option(
    "--on-stop",
    type=click.Choice(("leave", "abort")),
    default="leave",
    show_default=True,
    help="What a stop does to remote jobs: leave them running, or cancel them and send their rows again later.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 256),
    default=1,
    metavar="N",
    help="Divide the input among N processes, always the same for a pipeline. Rates, jobs in flight, concurrency and "
    "--limit are divided too; `memory` is of each process.",
)
@pass_invocation
def run(
    invocation: Invocation,
    *,
    files: tuple[str, ...],
    as_json: bool,
    fresh: bool,
    limit: int | None,
    finishes_old: bool,
    quiet: bool,
    on_stop: str,
    processes: int,
) -> int:
    """Run pipelines one after the other; an unfinished run is continued.

    All files are checked before the first one starts. The first that does not end with exit 0 ends the command.
    """
    settings, specs = invocation.load(files)
    options = RunOptions(as_json=as_json, fresh=fresh, limit=limit, quiet=quiet, is_aborting=on_stop == "abort")
    for position, (path, spec) in enumerate(zip(files, specs, strict=True), start=1):
        if processes > 1:
            from engine.cli.processes import Together, run_together

            code = run_together(
                Together(
                    invocation=invocation, settings=settings, spec=spec, path=path, options=options,
                    processes=processes, finishes_old=finishes_old,
                )
            )  # fmt: skip
        else:
            code = _in_this_one(invocation, settings, spec, path, options, finishes_old=finishes_old)
        if code != Exit.DONE:
            if position < len(files):
                tell(f"stopped at {path} (exit {code}); not run: {', '.join(files[position:])}")
            return code
    return Exit.DONE


def _in_this_one(
    invocation: Invocation,
    settings: Settings,
    spec: PipelineSpec,
    path: str,
    options: RunOptions,
    *,
    finishes_old: bool,
) -> int:
    """Run one pipeline in this process, after what is unfinished of it where that was asked for."""
    old = old_spec(settings, spec) if finishes_old else None
    if old is not None:
        tell(f"{path}: first the unfinished run, as it was planned")
        code = run_one(invocation, settings, old, path, msgspec.structs.replace(options, limit=0, fresh=False))
        if code != Exit.DONE:
            return code
    return run_one(invocation, settings, spec, path, options)


def run_one(invocation: Invocation, settings: Settings, spec: PipelineSpec, path: str, options: RunOptions) -> int:
    """Run one pipeline, or a replay of its dead letters, and say how it ended; answers the exit code."""
    view = None if options.quiet else _view(settings, None if options.replay else spec)
    try:
        report = on_loop(lambda: _supervised(settings, spec, path, options, view))
    except asyncio.CancelledError:
        again = command_of(path, spec.name, is_replay=options.replay is not None)
        tell(f"cancelled; the ledger is consistent. continue with:  {again}   (exit {Exit.FORCED})")
        _end_json(options, spec, outcome="interrupted", code=Exit.FORCED)
        return Exit.FORCED
    except EngineError as exc:
        tell(render(exc, invocation.paint(), debug=invocation.is_debug))
        _end_json(options, spec, outcome="failed", code=exit_code_of(exc), error=exc)
        return exit_code_of(exc)
    say = _voice(spec)
    if options.as_json:
        emit_json(report_fields(report), say)
        if report.exit_code:
            tell("\n".join(report_lines(report, path, invocation.paint())))
    else:
        say("\n".join(report_lines(report, path, invocation.paint_out() if say is emit else invocation.paint())))
    return report.exit_code


def _view(settings: Settings, spec: PipelineSpec | None) -> LiveView:
    return LiveView(
        sys.stderr,
        is_tty=sys.stderr.isatty(),
        log_format=settings.telemetry.log_format,
        input_bytes=_input_bytes(spec) if spec else None,
    )


def _input_bytes(spec: PipelineSpec) -> int | None:
    """The size of the whole input, where the bytes of a batch can be compared with it."""
    if spec.source.type != "ndjson":
        return None
    from engine.components.sources.files import find_inputs
    from engine.components.sources.streams import STDIN, encoding_of

    try:
        names = find_inputs(spec.source.paths)
        if any(name == STDIN or encoding_of(name, spec.source.compression) != "none" for name in names):
            return None
        return sum(Path(name).stat().st_size for name in names) or None
    except (OSError, InputError):
        return None  # The run itself will say what is wrong.


async def _supervised(
    settings: Settings, spec: PipelineSpec, path: str, options: RunOptions, view: LiveView | None
) -> Report:
    from engine.assembly import RunOrder, run_pipeline
    from engine.jobs.tap import Tap

    collect_rarely()
    stop = StopFlag()
    restore = listen(stop, view, is_aborting=options.is_aborting)
    beacon = None
    if view:
        view.start()
        beacon = Beacon(Path(settings.state_dir) / spec.name, lambda: {**view.fields, "pipeline": spec.name})
        beacon.light()
    try:
        order = RunOrder(
            spec=spec,
            spec_path=path,
            fresh=options.fresh,
            limit=options.limit,
            replay=options.replay,
            is_aborting=options.is_aborting,
            share=options.share,
            tap=Tap(),
        )
        return await run_pipeline(order, settings, observer=view, stop=stop)
    finally:
        if view and beacon:
            view.stop()
            beacon.put_out()
        restore()


def listen(stop: StopFlag, view: LiveView | None, *, is_aborting: bool = False) -> Callable[[], None]:
    """Turn SIGINT, SIGTERM and SIGHUP into the flag, then into a cancellation; answers what undoes it.

    A SIGHUP that is ignored, as under nohup, stays ignored.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def on_signal() -> None:
        if not stop.is_set:
            stop.request()
            line = stopping(view.tally if view else None, is_aborting=is_aborting)
            if view:
                view.say([line])
            else:
                tell(line)
        elif task:
            task.cancel()

    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    for number in signals:
        loop.add_signal_handler(number, on_signal)

    def restore() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    return restore


def stopping(tally: Tally | None, *, is_aborting: bool) -> str:
    """What the first signal is answered with; `tally` knows what is at the platform, and how long such jobs take."""
    remote = None if tally is None else tally.in_flight("running")
    jobs = "remote jobs" if remote is None else f"{grouped(remote)} remote job{'' if remote == 1 else 's'}"
    fate = f"{jobs} will be cancelled" if is_aborting else f"{jobs} keep{'s' if remote == 1 else ''} running"
    longest_s = None if tally is None else tally.stages["running"].quantile(0.95)
    if longest_s is not None and remote and not is_aborting:
        fate += f" (last one expected in ~{clock_text(longest_s)})"
    return f"stopping: no new jobs · what is on the wire is finished · {fate}. Once more to force."


def on_loop(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end on uvloop, or on asyncio's own loop where there is no uvloop."""
    try:
        import uvloop
    except ImportError:
        with asyncio.Runner() as runner:
            return runner.run(make())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(make())


def _voice(spec: PipelineSpec) -> Callable[[str], None]:
    """What a run says its end by: where its rows go to stdout, nothing else may stand among them."""
    return tell if spec.sink.type == "stdout" else emit


def _end_json(
    options: RunOptions, spec: PipelineSpec, *, outcome: str, code: int, error: EngineError | None = None
) -> None:
    """The JSON line of a run that failed: with its counts where the runtime could still tell them."""
    if not options.as_json:
        return
    fields: dict[str, Any] = {"run_id": None, "pipeline": spec.name}
    if isinstance(error, RunFailed) and isinstance(error.report, Report):
        fields = report_fields(error.report)
    fields |= {"outcome": outcome, "exit_code": code}
    if error:
        fields["error"] = {"code": error.code, "message": error.message, "hint": error.hint}
    emit_json(fields, _voice(spec))
