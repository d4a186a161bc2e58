"""Rounds: contestants run one after the other, each in a process of its own on the client's core, round after round.

A contestant is a function named as `module:function`. It is called in a fresh interpreter with plain keyword arguments,
measures what it does itself, and answers a dict. Servers live on the other core. What the figures mean is `row`'s.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Self

from benchmarks.row import Missing, Reading, Readings

ROOT = Path(__file__).resolve().parents[1]
# Whoever takes longer hangs.
LONGEST_S = 900.0
EXTRA = 'pip install "engine[bench]"'


class Failed(Exception):
    """A contestant or a server died, or its books do not balance; the message is what it said."""


class Contestant(NamedTuple):
    """Who takes part, as what. `modules` and `programs` are what it needs to be installed."""

    name: str
    target: str
    arguments: dict[str, Any]
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()


class Size(NamedTuple):
    """How much is measured: `share` of the full work in each round, and how many rounds.

    `is_tiny` is for tests of the harness: the smallest work that still passes through everything.
    """

    share: float = 1.0
    rounds: int = 5
    is_tiny: bool = False

    def of(self, full: int, *, quick: int | None = None, tiny: int = 20) -> int:
        """This much of `full`; never less than `quick`, where that is said."""
        return tiny if self.is_tiny else max(int(full * self.share), quick or 1)


FULL = Size()
QUICK = Size(share=0.02, rounds=1)
TINY = Size(share=0.0, rounds=1, is_tiny=True)


@cache
def cores() -> tuple[int, int]:
    """The client's core and the servers'; the same one on a machine that has no second."""
    ours = sorted(os.sched_getaffinity(0))
    return ours[-1], ours[0]


def pin(core: int) -> None:
    """Keep this process, and whom it starts, on one core."""
    os.sched_setaffinity(0, {core})


def absent(contestant: Contestant) -> Missing | None:
    """What is not installed of what a contestant needs."""
    gone = [name for name in contestant.modules if find_spec(name) is None]
    if gone:
        return Missing(f"{', '.join(gone)}: {EXTRA}")
    gone = [name for name in contestant.programs if shutil.which(name) is None]
    return Missing(f"the program {', '.join(gone)}: Debian has packages of these names") if gone else None


def environment() -> dict[str, str]:
    """The environment of children: nobody's settings but ours, and code that is compiled once, as when installed."""
    foreign = ("ENGINE_", "OTEL_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return kept | {"PYTHONPATH": str(ROOT)}


def perform(contestant: Contestant, *, core: int | None = None) -> dict[str, Any]:
    """One contestant, once, in a process of its own.

    Raises:
        Failed: it did not end well.
    """
    words = [sys.executable, "-m", "benchmarks.child", contestant.target, json.dumps(contestant.arguments)]
    chosen = cores()[0] if core is None else core
    done = subprocess.run(
        words,
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=lambda: pin(chosen),
        timeout=LONGEST_S,
    )
    if done.returncode:
        raise Failed(f"{contestant.name} ended with {done.returncode}: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


Play = Callable[[Contestant, int], Reading]


def interleave(contestants: Sequence[Contestant], rounds: int, play: Play) -> dict[str, Readings]:
    """Everybody once in each round, each round starting with another one; whoever lacks something is named instead."""
    series: dict[str, Readings] = {one.name: absent(one) or [] for one in contestants}
    present = [one for one in contestants if not isinstance(series[one.name], Missing)]
    for number in range(rounds):
        turn = number % len(present) if present else 0
        for one in present[turn:] + present[:turn]:
            readings = series[one.name]
            if isinstance(readings, list):
                readings.append(play(one, number))
    return series


def reading(answer: dict[str, Any], figure: float) -> Reading:
    """A reading with what a contestant's answer says beside its figure."""
    units, cpu_s = answer.get("units"), answer.get("cpu_s")
    cpu_us = cpu_s * 1e6 / units if cpu_s and units else None
    return Reading(figure, cpu_us, answer.get("peak_mib"))


def cpu_us(answer: dict[str, Any]) -> Reading:
    """A reading whose figure is CPU microseconds per unit."""
    return reading(answer, answer["cpu_s"] * 1e6 / answer["units"])


@contextmanager
def serving(module: str, *words: str) -> Iterator[dict[str, Any]]:
    """A server on the servers' core; what its first line says."""
    core = cores()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", module, *words],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: pin(core),
    )
    try:
        if process.stdout is None or not (line := process.stdout.readline()):
            raise Failed(f"{module} did not start")
        yield json.loads(line) | {"pid": process.pid}
    finally:
        process.terminate()
        process.communicate(timeout=30)


def cpu_of(pid: int) -> float:
    """CPU seconds of another process so far, all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Meter:
    """What a block of the calling process took: CPU of all its threads, and wall time."""

    def __enter__(self) -> Self:
        self.cpu_s, self.wall_s = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s, self.wall_s = time.process_time() - self.cpu_s, time.perf_counter() - self.wall_s

    def answer(self, units: int, **more: Any) -> dict[str, Any]:
        """What a contestant says."""
        return {"units": units, "cpu_s": self.cpu_s, "wall_s": self.wall_s, "peak_mib": peak_mib(), **more}


def peak_mib() -> float:
    """The largest resident size of this process so far."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
