"""Process: one emulator as a process of its own, from the first line on stdout to the last commit.

For whoever starts it: one JSON line says where it is; SIGTERM, SIGINT or (when asked) the end of stdin ends it.
Knows nothing of requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from engine.codec.payload import encode
from engine.emulator.faults import Faults
from engine.emulator.server import Bind, Emulator
from engine.emulator.state import Options

Runner = Callable[[Coroutine[Any, Any, None]], None]


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to run. `stop_on_stdin_eof` ties the emulator's life to its parent's, however that one ends."""

    options: Options = Options()
    bind: Bind = Bind()
    faults_path: str | None = None
    stop_on_stdin_eof: bool = False


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """The one line on stdout: the emulator is ready, and this is how to use it."""

    url: str
    sandbox_url: str
    client_id: str
    client_secret: str
    pid: int


def serve(
    options: ServeOptions, *, runner: Runner = asyncio.run, announce: Callable[[Announcement], None] | None = None
) -> int:
    """Run an emulator until it is told to stop; the exit code.

    `runner` brings the loop (`uvloop.run`, say). `announce` is called once it answers requests; the default
    writes the JSON line.

    Raises:
        ConfigError, LedgerBusy, LedgerBroken: it could not start.
    """
    runner(_serve(options, announce or write_announcement))
    return 0


def write_announcement(announcement: Announcement) -> None:
    """One JSON line on stdout, at once."""
    sys.stdout.buffer.write(encode(announcement) + b"\n")
    sys.stdout.buffer.flush()


async def _serve(options: ServeOptions, announce: Callable[[Announcement], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if options.stop_on_stdin_eof:
        _watch_stdin(loop, stop)
    faults = Faults.load(options.faults_path, options.options.seed)
    async with Emulator(options.options, bind=options.bind, faults=faults) as emulator:
        announce(
            Announcement(
                url=emulator.base_url,
                sandbox_url=emulator.sandbox_url,
                client_id=emulator.client_id,
                client_secret=emulator.client_secret,
                pid=os.getpid(),
            )
        )
        stopped, broken = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(emulator.failed())
        done, waiting = await asyncio.wait((stopped, broken), return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        for task in done:
            task.result()


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Set `stop` at the end of stdin.

    A thread, because stdin may be anything (a pipe, a terminal, a file) and not every thing can be waited for
    on a loop; a daemon, because nobody can wake it.
    """

    def watch() -> None:
        # A stdin that is closed already has ended too; a loop that is closed needs no telling.
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=watch, name="stdin", daemon=True).start()
