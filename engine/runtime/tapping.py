"""Tapping: a Unix socket beside the ledger at which another process of the same user may look at rows of this run.

A line of JSON asks, `{"stage": "read", "rows": 16}`, and lines of JSON answer until either side ends. The socket is
its owner's alone (mode 0600). A run that cannot open one runs without; nothing here waits for whoever reads slowly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from engine.codec.payload import decode
from engine.errors import RecordError
from engine.jobs.tap import STAGES, Onlooker, Tap
from engine.pipeline.spec import PipelineSpec
from engine.runtime.showing import Show, secrets_in
from engine.settings import Settings
from engine.telemetry.redact import Redactor

NAME = "tap.sock"
ROWS_MAX = 10_000
_ASK_BYTES = 4096
_ASK_WITHIN_S = 10.0
# How long the end of a run waits for those who still read.
_GRACE_S = 0.5
# What the kernel takes as the name of a socket is 108 bytes, its end included.
_ADDRESS_MAX = 100


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """A name for a socket's file that is short enough for the kernel.

    Raises:
        OSError: its directory cannot be opened, or there is no short name for it here.
    """
    if len(os.fsencode(path)) <= _ADDRESS_MAX:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)


class Taps:
    """Answers those who come to the socket of one run."""

    def __init__(self, tap: Tap, show: Show) -> None:
        self._tap = tap
        self._show = show
        self._talks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Talk to one who came, beside the run."""
        task = asyncio.get_running_loop().create_task(self._talk(reader, writer))
        self._talks.add(task)
        task.add_done_callback(self._talks.discard)

    async def aclose(self) -> None:
        """Say what is still to be said, for a moment at most, and go."""
        self._tap.end()
        talks = set(self._talks)
        if talks:
            _, late = await asyncio.wait(talks, timeout=_GRACE_S)
            for task in late:
                task.cancel()
            await asyncio.wait(talks)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError, RecordError):
            try:
                ask = decode(
                    await asyncio.wait_for(reader.readline(), _ASK_WITHIN_S), dict[str, str | int], max_bytes=_ASK_BYTES
                )
                stage, rows = str(ask.get("stage")), min(max(int(ask.get("rows", 1)), 1), ROWS_MAX)
                onlooker = Onlooker(stage, rows)
                if stage in STAGES and self._tap.admit(onlooker):
                    await self._tell(onlooker, reader, writer)
            finally:
                writer.close()

    async def _tell(self, onlooker: Onlooker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever hangs up is noticed at once, not when the next row comes.
        hung_up = asyncio.get_running_loop().create_task(_gone(reader))
        hung_up.add_done_callback(lambda _: onlooker.end())
        writer.write(b"\n")  # From here on rows are kept for him.
        try:
            while (sighting := await onlooker.take()) is not None and not hung_up.done():
                lines = await asyncio.to_thread(
                    self._show.lines, sighting, rows=onlooker.rows, dropped=onlooker.dropped
                )
                writer.write(lines)
                await writer.drain()
        finally:
            self._tap.dismiss(onlooker)
            hung_up.cancel()


async def _gone(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(_ASK_BYTES):
            pass


@asynccontextmanager
async def open_tap(tap: Tap | None, directory: Path, spec: PipelineSpec, settings: Settings) -> AsyncIterator[None]:
    """Let others look on while the block runs; call with the ledger's lock held, for the socket is its holder's."""
    if tap is None:
        yield
        return
    redact = Redactor(secrets_in(settings, spec))
    show = Show(spec.name, redact, hides=any(step.type == "mask" for step in spec.transform))
    taps, path = Taps(tap, show), directory / NAME
    server = await _listen(path, taps)
    try:
        yield
    finally:
        if server is not None:
            server.close()
            await taps.aclose()
            with contextlib.suppress(OSError):
                path.unlink()


async def _listen(path: Path, taps: Taps) -> asyncio.Server | None:
    """The server; None where there can be no socket, which costs the tap and not the run."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(listening, path)
        return await asyncio.start_unix_server(taps.accept, sock=listening, limit=_ASK_BYTES)
    except OSError:
        listening.close()
        return None


def _bind(listening: socket.socket, path: Path) -> None:
    path.unlink(missing_ok=True)  # Of a run that was killed: we hold the lock.
    with address_of(path) as address:
        listening.bind(address)
    # Nobody can connect before we listen, so there is no moment in which others could.
    path.chmod(0o600)
