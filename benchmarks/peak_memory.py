"""P8: peak memory of a run, over many rows, over many jobs in flight, and over time.

    python -m benchmarks.peak_memory [--quick]

One run moves 10 million rows in jobs of 1,000; another has 100,000 jobs of one row in flight, all of them before the
first one ends. Peaks are of the engine's whole process, as the kernel counted them. Flat means that the resident size
in the last quarter of the long run is that of the second one. Both runs are audited as in P7. Each is made once.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from benchmarks.command import alone
from benchmarks.end_to_end import rows
from benchmarks.rounds import Contestant, Size, cpu_us, perform, serving
from benchmarks.row import Goal, Missing, Reading, Readings, Row

ROWS = 10_000_000
JOBS = 100_000
MANY_ROWS, MANY_JOBS, GROWTH = "10 M rows", "100,000 jobs in flight", "resident size, last quarter over second"
POLLS, CPU = "polls per job in flight", "CPU µs per row"

ROW = Row(
    id="P8",
    title="peak memory",
    unit="MiB",
    goals=(
        Goal("10 M rows in at most 256 MiB", 256.0, ours=MANY_ROWS),
        Goal("100,000 jobs in flight in at most 512 MiB", 512.0, ours=MANY_JOBS),
        Goal("flat over time: at most 1.1 ×", 1.1, ours=GROWTH),
    ),
    note="the peaks of a smaller pass say nothing of 10 M rows",
)


def measure(size: Size) -> dict[str, Readings]:
    """Each run once."""
    many = _run(
        size.of(ROWS, quick=100_000) if size.share == 1 else size.of(0, quick=100_000), batch=1000, in_flight=64, hold=0
    )
    jobs = size.of(JOBS, quick=2_000)
    flight = _run(jobs, batch=1, in_flight=jobs, hold=jobs)
    growth = many["growth"]
    return {
        MANY_ROWS: [Reading(many["peak_mib"])],
        MANY_JOBS: [Reading(flight["peak_mib"])],
        GROWTH: Missing("the run was too short") if growth is None else [Reading(growth)],
        POLLS: [Reading(flight["polls"] / flight["jobs"])],
        CPU: [cpu_us(many)],
        "rows in this pass": [Reading(float(many["units"]))],
        "jobs in this pass": [Reading(float(jobs))],
    }


def _run(count: int, *, batch: int, in_flight: int, hold: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        serving("benchmarks.remote", "--hold", str(hold), "--row-bytes", "200") as remote,
    ):
        source = Path(folder) / "in.ndjson"
        rows(source, count)
        arguments = {
            "url": remote["url"],
            "source": str(source),
            "name": "bench",
            "batch": batch,
            "in_flight": in_flight,
            "longest": "2s",
        }
        return perform(Contestant("engine", "benchmarks.engine_run:whole", arguments))


if __name__ == "__main__":
    alone(ROW, measure)
