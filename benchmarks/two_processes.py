"""P12: a pipeline that is bound by the CPU, run by two processes against one.

    python -m benchmarks.two_processes [--quick]

`processes.py` beside this file times whole commands, `engine run --processes 2` against one process, over a transform
that burns CPU, and holds every run to its books; this program asks it once for each round. The limit is what bare
processes gain on this machine from doing the same arithmetic: where neighbours use the cores too, nobody gains more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from benchmarks.command import alone
from benchmarks.rounds import ROOT, Failed, Size, environment
from benchmarks.row import Goal, Missing, Reading, Readings, Row

RECORDS = 90_000
ONE, TWO, BARE = "one process", "two processes", "two bare processes against one"

ROW = Row(
    id="P12",
    title="two processes against one, bound by the CPU",
    unit="seconds",
    goals=(Goal("1.8 × one process", 1.8, against=ONE, is_ceiling=False, ours=TWO),),
    peer=ONE,
    limit=BARE,
    note="wall time of whole commands; says something only where bare processes gain 1.8 too, on cores of their own",
)


def has_processes() -> bool:
    """Whether `engine run` knows the flag."""
    words = [sys.executable, "-m", "engine", "run", "--help"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    return "--processes" in done.stdout


def measure(size: Size) -> dict[str, Readings]:
    """One and two, and the bare ones, in turns."""
    if not has_processes():
        gone = Missing("`engine run` has no --processes yet")
        return {TWO: gone, ONE: gone}
    records = size.of(RECORDS, quick=6_000)
    told = [_once(records) for _ in range(size.rounds)]
    return {
        TWO: [Reading(one["ours"]) for one in told],
        ONE: [Reading(one["peer"]) for one in told],
        BARE: [Reading(one["limit"]) for one in told],
    }


def _once(records: int) -> dict[str, Any]:
    cores = os.sched_getaffinity(0)
    words = [sys.executable, str(ROOT / "benchmarks" / "processes.py"), "--rows", str(records), "--rounds", "1"]
    done = subprocess.run(
        words,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    if done.returncode:
        raise Failed(f"processes.py ended with {done.returncode}: {done.stderr[-1000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


if __name__ == "__main__":
    alone(ROW, measure)
