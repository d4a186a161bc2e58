"""Victims: `engine run` as child processes that are killed, and the emulator they talk to.

Knows how a process is started, killed and waited for, and how the emulator is asked for its own books. What the
outcome means is `stage`'s and `audit`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.chaos.mischief import Mischief
from engine.chaos.plan import Instant, Kill, Place
from engine.chaos.scratch import Pipeline, Scratch, environment
from engine.codec.payload import encode, loads
from engine.emulator.child import Child

# Far longer than any run of a pipeline under chaos: one that takes longer hangs.
HANG_S = 180.0
_TAIL_BYTES = 2000
_ASK_S = 20.0


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a child ended: its exit code (negative: a signal), whether that was our doing, and its last words."""

    code: int
    was_killed: bool
    hung: bool
    seconds: float
    out: str
    err: str


class Platform:
    """The emulator of one round."""

    def __init__(self, child: Child, *, url: str) -> None:
        self._child = child
        self.url = url

    async def books(self) -> dict[str, Any]:
        """What it counted of requests and jobs."""
        return dict(await asyncio.to_thread(_ask, f"{self.url}/__emulator/books"))

    async def strikes(self) -> dict[int, int]:
        """How often each rule of its fault script struck, by the rule's number from 1."""
        tally = await asyncio.to_thread(_ask, f"{self.url}/__emulator/faults")
        return {rule["rule"]: rule["struck"] for rule in tally["faults"]}

    async def rotate_keys(self) -> None:
        """Change the signing key, with nothing said beforehand."""
        await asyncio.to_thread(_ask, f"{self.url}/__emulator/rotate-keys", {"overlap": False})


@contextlib.asynccontextmanager
async def platform(
    scratch: Scratch, mischief: Sequence[Mischief], *, seed: int, latency_s: float, deadly_kind: str | None = None
) -> AsyncIterator[Platform]:
    """An emulator with this mischief, for as long as the block lasts; only jobs of `deadly_kind` are killed for good.

    Raises:
        StateError: it did not start.
    """
    scratch.platform.mkdir(parents=True, exist_ok=True)
    script = scratch.platform / "faults.toml"
    rules = [{**rule, "kind": deadly_kind} if m.is_deadly else rule for m in mischief for rule in m.rules]
    script.write_text("".join(_table(rule) for rule in rules), encoding="utf-8")
    arguments = ["--seed", str(seed), "--latency", f"{latency_s}s", "--faults", str(script)]
    child = await Child.start(scratch.platform, arguments=arguments)
    try:
        yield Platform(child, url=child.ready.url)
    finally:
        await child.aclose()


def _table(rule: Mapping[str, Any]) -> str:
    # JSON's texts, numbers and booleans are TOML's as well.
    return "[[fault]]\n" + "".join(f"{name} = {encode(value).decode()}\n" for name, value in rule.items()) + "\n"


def _ask(url: str, body: Any = None) -> Any:
    # No proxy of the user's: the emulator is on loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else encode(body)
    with opener.open(urllib.request.Request(url, data=data), timeout=_ASK_S) as answer:  # noqa: S310 - our emulator
        return loads(answer.read())


def command(pipeline: Pipeline, overrides: Mapping[str, str], *, url: str, state: Path) -> list[str]:
    """The command line of one run."""
    pairs = {
        **{name: text for name, text in overrides.items() if pipeline.spec.job or not name.startswith("job.")},
        "platform.profile": "emulator",
        "platform.emulator.url": url,
        "state_dir": str(state),
    }
    flags = [word for name, value in pairs.items() for word in ("--set", f"{name}={value}")]
    return [sys.executable, "-m", "engine", *flags, "run", "--json", "--quiet", str(pipeline.path)]


async def run(
    words: Sequence[str],
    *,
    cwd: Path,
    kill: Kill | None = None,
    limit_s: float = HANG_S,
    extra: Mapping[str, str] | None = None,
) -> Ended:
    """Run a command to its end, or to the kill that is meant for it; `extra` goes into its environment."""
    failpoint = kill.failpoint.text if isinstance(kill, Place) else None
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=cwd,
        env={**environment(os.environ, failpoint=failpoint), **(extra or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said = asyncio.ensure_future(process.communicate())
    try:
        await asyncio.wait([said], timeout=kill.after_s if isinstance(kill, Instant) else limit_s)
        is_ours = not said.done()
        if is_ours:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        out, err = await said
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    code = process.returncode or 0
    by_signal = code == -signal.SIGKILL
    return Ended(
        code=code,
        was_killed=by_signal and kill is not None and (is_ours if isinstance(kill, Instant) else not is_ours),
        hung=is_ours and not isinstance(kill, Instant),
        seconds=time.monotonic() - started,
        out=out.decode("utf-8", "replace"),
        err=err.decode("utf-8", "replace")[-_TAIL_BYTES:],
    )
