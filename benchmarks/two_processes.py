"""P12: a pipeline that is bound by the CPU, run by two processes against one.

    python -m benchmarks.processes [--quick]

`engine run --processes N` over a pipeline whose transform burns CPU on every record; records per second of wall time.
Both may use both cores, and the remote hardly needs one. While the command line has no `--processes`, the row says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.command import alone
from benchmarks.end_to_end import rows
from benchmarks.engine_run import PIPELINE
from benchmarks.rounds import Failed, Size, environment, serving
from benchmarks.row import Goal, Missing, Reading, Readings, Row

RECORDS = 20_000
ONE, TWO = "one process", "two processes"
_BURN_ROUNDS = 400
_TRANSFORM = '[[transform]]\ntype = "python"\ncall = "benchmarks.processes:burn"\n'

ROW = Row(
    id="P12",
    title="two processes against one, bound by the CPU",
    unit="records per second",
    goals=(Goal("1.8 × one process", 1.8, against=ONE, is_ceiling=False, ours=TWO),),
    limit=ONE,
    is_rate=True,
    note="needs two cores to itself",
)


def burn(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The transform: some tenths of a millisecond for each record, holding the interpreter."""
    for record in records:
        digest = record["id"].encode()
        for _ in range(_BURN_ROUNDS):
            digest = hashlib.sha256(digest).digest()
    return records


def has_processes() -> bool:
    """Whether `engine run` knows the flag."""
    words = [sys.executable, "-m", "engine", "run", "--help"]
    done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=False)
    return "--processes" in done.stdout


def measure(size: Size) -> dict[str, Readings]:
    """One and two, interleaved."""
    if not has_processes():
        gone = Missing("`engine run` has no --processes yet")
        return {TWO: gone, ONE: gone}
    series: dict[str, Readings] = {ONE: [], TWO: []}
    for number in range(size.rounds):
        for name, count in ((ONE, 1), (TWO, 2)):
            readings = series[name]
            if isinstance(readings, list):
                readings.append(_run(size.of(RECORDS, quick=4_000), count, f"bench-{number}-{count}"))
    return series


def _run(records: int, processes: int, name: str) -> Reading:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serving("benchmarks.remote") as remote:
        here = Path(folder)
        rows(here / "in.ndjson", records)
        text = PIPELINE.format(
            name=name, source="in.ndjson", batch=100, first="10ms", longest="100ms", in_flight=64, results=""
        )
        (here / "p.toml").write_text(text.replace("[job]", _TRANSFORM + "[job]", 1))
        words = [sys.executable, "-m", "engine", "--set", f"platform.emulator.url={remote['url']}", "run", "p.toml"]
        words += ["--json", "--quiet", "--processes", str(processes)]
        cores = os.sched_getaffinity(0)
        began = time.perf_counter()
        done = subprocess.run(
            words,
            cwd=here,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        took_s = time.perf_counter() - began
        written = sum(path.read_bytes().count(b"\n") for path in (here / "out").rglob("part-*"))
        report = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
        said = (done.returncode, report.get("accepted"), report.get("open"), written)
        if said != (0, records, 0, records):
            raise Failed(f"the books do not balance: {said}, of {records} records: {done.stderr[-500:]}")
    return Reading(records / took_s)


if __name__ == "__main__":
    alone(ROW, measure)
