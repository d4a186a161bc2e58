"""Share: the process that works on one share of a pipeline; `engine run --processes` starts several of them.

A private door, `python -m engine.cli.share`: one line of standard input says what to do, and its end asks for a stop,
so that nothing runs on for ever when whoever started it is killed. What is said back are lines of JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec

from engine.cli.failures import exit_code_of
from engine.cli.finishing import old_spec
from engine.cli.invocation import Invocation
from engine.cli.run import on_loop
from engine.cli.tally import Tally
from engine.codec.payload import decode, encode
from engine.errors import EngineError, Exit, RunFailed
from engine.events import Event, Warned
from engine.pipeline.spec import PipelineSpec
from engine.record import Counts, Share
from engine.runtime.drain import StopFlag
from engine.runtime.report import Report
from engine.runtime.sharing import limit_of, settings_of, spec_of
from engine.settings import Secret, Settings
from engine.store.shares import epoch_in, share_of_tag

# What cancels a share at once.
FORCE = signal.SIGUSR1
_STOPS = (signal.SIGINT, signal.SIGTERM)
_TELL_EVERY_S = 1.0
_READ_BYTES = 64 * 1024


class Reached(msgspec.Struct, frozen=True, kw_only=True):
    """An emulator that was started for all shares; `platform` is what their ledgers call it."""

    platform: str
    url: str
    sandbox_url: str | None
    client_id: str | None
    client_secret: str


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is to do: which share of which file, under which flags. `limit` is that of all shares.

    The share begins a fresh epoch where its newest one is still `anew`.
    """

    path: str
    tag: str
    config: str | None
    pairs: dict[str, str]
    verbosity: int
    anew: int | None = None
    finishes_old: bool = False
    limit: int | None = None
    is_aborting: bool = False
    emulator: Reached | None = None


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """Why a share failed; the members of an `EngineError`."""

    code: str
    message: str
    hint: str
    exit_code: int


class Said(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line: the rows so far, a warning (code and words), or the end: a report, an error, or both."""

    counts: Counts | None = None
    warning: tuple[str, str] | None = None
    report: Report | None = None
    error: Fault | None = None


class _Voice:
    """Says lines to whoever started us. An observer."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.tally = Tally()

    def notice(self, event: Event) -> None:
        """Count a fact; pass a warning on."""
        self.tally.notice(event)
        if isinstance(event, Warned):
            self.mention(Said(warning=(event.code, event.message)))

    def mention(self, said: Said) -> None:
        """Say something that may be lost: nobody waits for a reader who is slow."""
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        line = encode(said) + b"\n"
        # A pipe that is ready takes so many bytes without waiting, and whole (POSIX).
        if len(line) <= select.PIPE_BUF and poll.poll(0):
            self._write(line)

    def conclude(self, said: Said) -> None:
        """Say the last thing, which must not be lost while anybody listens."""
        self._write(encode(said) + b"\n")

    def _write(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._fd, line) :]


def main() -> NoReturn:
    """Work on one share, and leave with the exit code of its run."""
    voice, lifeline = _Voice(os.dup(1)), os.dup(0)
    # Code of the user's may print and read; neither may touch the pipes.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    line = _line(lifeline)
    if not line:
        sys.exit(Exit.INTERRUPTED)  # Whoever started us was killed before saying what to do.
    sys.exit(_work(decode(line, Assignment), voice, lifeline))


def _line(fd: int) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (piece := os.read(fd, _READ_BYTES)):
        line += piece
    return line if line.endswith(b"\n") else b""


def _work(told: Assignment, voice: _Voice, lifeline: int) -> int:
    try:
        report = on_loop(lambda: _supervised(told, voice, lifeline))
    except asyncio.CancelledError:
        error = Fault(
            code="run.failed", message="cancelled; the ledger is consistent", hint="run it again", exit_code=Exit.FORCED
        )
        voice.conclude(Said(error=error))
        return Exit.FORCED
    except EngineError as exc:
        code = exit_code_of(exc)
        cause = exc.causes[0] if isinstance(exc, RunFailed) and exc.causes else exc
        error = Fault(code=cause.code, message=cause.message, hint=cause.hint, exit_code=code)
        so_far = exc.report if isinstance(exc, RunFailed) and isinstance(exc.report, Report) else None
        voice.conclude(Said(error=error, report=so_far))
        return code
    voice.conclude(Said(report=report))
    return report.exit_code


async def _supervised(told: Assignment, voice: _Voice, lifeline: int) -> Report:
    stop = StopFlag()
    restore = _listen(stop, lifeline)
    telling = asyncio.ensure_future(_tell(voice))
    try:
        return await _run(told, voice, stop)
    finally:
        telling.cancel()
        restore()


async def _run(told: Assignment, voice: _Voice, stop: StopFlag) -> Report:
    from engine.assembly import RunOrder, run_pipeline
    from engine.jobs.tap import Tap

    share = share_of_tag(told.tag)
    invocation = Invocation(
        config=told.config, pairs=told.pairs, is_debug=False, no_color=True, verbosity=told.verbosity
    )
    settings, (whole,) = invocation.load((told.path,))
    settings, spec = _reaching(settings_of(settings, share), told.emulator), spec_of(whole, share)

    def order(spec: PipelineSpec, *, limit: int | None, fresh: bool) -> RunOrder:
        return RunOrder(
            spec=spec,
            spec_path=told.path,
            fresh=fresh,
            limit=limit,
            is_aborting=told.is_aborting,
            share=share,
            platform=told.emulator.platform if told.emulator else None,
            tap=Tap(),
        )

    if told.finishes_old and (old := _old(settings, spec, share)) is not None:
        report = await run_pipeline(order(old, limit=0, fresh=False), settings, observer=voice, stop=stop)
        if report.exit_code or stop.is_set:
            return report
    fresh = told.anew is not None and epoch_in(Path(settings.state_dir) / spec.name) == told.anew
    limit = limit_of(told.limit, share)
    return await run_pipeline(order(spec, limit=limit, fresh=fresh), settings, observer=voice, stop=stop)


def _old(settings: Settings, spec: PipelineSpec, share: Share) -> PipelineSpec | None:
    old = old_spec(settings, spec)
    return None if old is None else spec_of(old, share)


def _reaching(settings: Settings, reached: Reached | None) -> Settings:
    """The settings, with the emulator that was started for all shares."""
    if reached is None:
        return settings
    platform = settings.platform
    emulator = msgspec.structs.replace(platform.emulator, url=reached.url, sandbox_url=reached.sandbox_url)
    platform = msgspec.structs.replace(
        platform, emulator=emulator, client_id=reached.client_id, client_secret=Secret(reached.client_secret)
    )
    return msgspec.structs.replace(settings, platform=platform)


async def _tell(voice: _Voice) -> None:
    while True:
        await asyncio.sleep(_TELL_EVERY_S)
        voice.mention(Said(counts=voice.tally.counts))


def _listen(stop: StopFlag, lifeline: int) -> Callable[[], None]:
    """Stop when our input ends or at a signal, and be cancelled by `FORCE`. Answers what undoes it.

    The two come together where a service manager signals every process of a service, so neither may count as the
    second of the other.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def on_input() -> None:
        if not os.read(lifeline, _READ_BYTES):
            loop.remove_reader(lifeline)
            stop.request()

    for number in _STOPS:
        loop.add_signal_handler(number, stop.request)
    if task:
        loop.add_signal_handler(FORCE, task.cancel)
    loop.add_reader(lifeline, on_input)

    def restore() -> None:
        loop.remove_reader(lifeline)
        for number in (*_STOPS, FORCE):
            loop.remove_signal_handler(number)

    return restore


if __name__ == "__main__":
    main()
