"""Two processes against one: the same pipeline, whose transform takes the time, with and without `--processes 2`.

    python benchmarks/processes.py [--rows N] [--work N] [--rounds N]

Rows pass from a file through a Python function that does arithmetic into a file; no platform is asked, so nothing but
the processors can hold it back. Whole commands are timed, start of the interpreter included, in pairs whose order
alternates, and every run must land every row. Prints one JSON line: the seconds of two processes (`ours`) and of one
(`peer`), each the quickest of its rounds, because whatever else the machine does only adds to them; and their ratio,
which is to be 1.8 at least. `limit` is that ratio for bare processes that do the same arithmetic: where others use the
machine too, even they are not twice as fast as one. `cpu_ratio` is what the ratio is on two cores that nobody else
uses, by processor time: twice that of one process, over that of all processes of the divided run together.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measured import rows_of

GOAL = 1.8
_PIPELINE = """
version = 1
name    = "{name}"
[source]
type  = "ndjson"
paths = ["in.ndjson"]
key   = "id"
[[transform]]
type = "python"
call = "burning:burn"
[sink]
type = "ndjson"
path = "{name}"
"""
_BURNING = """
def burn(rows):
    for row in rows:
        value = 1
        for _ in range({work}):
            value = (value * 1103515245 + 12345) % 2147483648
        row["x"] = value
    return rows
"""
_BARE = "import burning; burning.burn([{{}} for _ in range({rows})])"


def rows(quick: bool) -> list[dict[str, Any]]:  # noqa: FBT001 - the door that every benchmark has
    """The row of this benchmark."""
    return [measure(count=30_000 if quick else 120_000, work=2_000, rounds=3 if quick else 5)]


def measure(*, count: int, work: int, rounds: int) -> dict[str, Any]:
    """Time one process and two, and two bare ones against one."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        rows_of(count, 200)(here / "in.ndjson")
        (here / "burning.py").write_text(_BURNING.format(work=work))
        times: dict[int, list[float]] = {1: [], 2: []}
        cpus: dict[int, list[float]] = {1: [], 2: []}
        bare: dict[int, list[float]] = {1: [], 2: []}
        for turn in range(rounds):
            for processes in (1, 2) if turn % 2 else (2, 1):
                took, cpu = _run(here, f"r{turn}p{processes}", processes, count)
                times[processes].append(took)
                cpus[processes].append(cpu)
                bare[processes].append(_bare(here, processes, count))
    ours, peer = min(times[2]), min(times[1])
    ratio, limit = peer / ours, min(bare[1]) / min(bare[2])
    return {
        "id": "P12",
        "what": "two processes against one, a transform that takes the time, whole command",
        "ours": round(ours, 2),
        "peer": round(peer, 2),
        "limit": round(limit, 2),
        "ratio": round(ratio, 2),
        "cpu_ratio": round(2 * statistics.median(cpus[1]) / statistics.median(cpus[2]), 2),
        "goal": f"at least {GOAL}",
        # Where even bare processes do not gain so much, this machine cannot show it either way.
        "met": True if ratio >= GOAL else None if limit < GOAL else False,
    }


def _run(here: Path, name: str, processes: int, count: int) -> tuple[float, float]:
    """Seconds, and processor seconds of the command with all its processes."""
    (here / f"{name}.toml").write_text(_PIPELINE.format(name=name))
    command = [sys.executable, "-m", "engine", "run", f"{name}.toml", "--json", "--quiet"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*command, "--processes", str(processes)], cwd=here, check=True, stdout=subprocess.PIPE, text=True
    )
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(done.stdout.splitlines()[-1])
    landed = sum(path.read_bytes().count(b"\n") for path in (here / name).glob("part-*"))
    if not report["accepted"] == landed == count:
        raise SystemExit(f"{count} rows went in, {landed} landed: {report}")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _bare(here: Path, processes: int, count: int) -> float:
    command = [sys.executable, "-c", _BARE.format(rows=count // processes)]
    began = time.perf_counter()
    running = [subprocess.Popen(command, cwd=here) for _ in range(processes)]
    if any(process.wait() for process in running):
        raise SystemExit("a bare process failed")
    return time.perf_counter() - began


def main() -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--work", type=int, default=2_000, help="turns of the loop per row")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    print(json.dumps(measure(count=asked.rows, work=asked.work, rounds=asked.rounds)))


if __name__ == "__main__":
    main()
