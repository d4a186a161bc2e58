"""The emulator as a child of a run: started on free loopback ports, gone when the run is gone.

Its standard input is our end of a pipe; when this process dies, however it dies, the pipe closes and the
emulator ends. Its state stays in its file for the next run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.codec.payload import decode
from engine.errors import EngineError, OutputError, StateError

_START_S = 30.0
_STOP_S = 10.0
_TAIL_BYTES = 4096


class Ready(msgspec.Struct, frozen=True):
    """What an emulator says once it listens."""

    url: str
    sandbox_url: str
    client_id: str
    client_secret: str
    pid: int


class Child:
    """A running emulator of ours."""

    def __init__(self, process: asyncio.subprocess.Process, ready: Ready) -> None:
        self._process = process
        self.ready = ready

    @classmethod
    async def start(cls, directory: Path, *, arguments: Sequence[str] = ()) -> Child:
        """Start one that keeps its state in `directory`.

        Raises:
            StateError: it did not come up; its own words are in the message.
        """
        log = directory / "emulator.log"
        process = await _spawn(directory, log, arguments)
        assert process.stdout is not None  # noqa: S101 - asked for two lines above
        line = b""
        with contextlib.suppress(TimeoutError):
            line = await asyncio.wait_for(process.stdout.readline(), _START_S)
        try:
            return cls(process, decode(line, Ready))
        except EngineError as exc:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            said = _tail(log) or "no answer within 30 s"
            raise StateError(f"the emulator did not start: {said}", hint=f"its log is {log}") from exc

    async def aclose(self) -> None:
        """Let it end in order."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def _spawn(directory: Path, log: Path, arguments: Sequence[str]) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "engine", "emulator", "--state", str(directory / "state.sqlite")]
    stderr = _open_log(log)
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            "--stop-on-stdin-eof",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            # Ctrl-C is for the run; the emulator must outlive the run's last requests.
            start_new_session=True,
        )
    finally:
        os.close(stderr)


def _open_log(log: Path) -> int:
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise OutputError(
            f"{log.parent}: {exc.strerror}", hint="set `state_dir` in config.toml to a writable directory"
        ) from exc


def _tail(log: Path) -> str:
    return log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
