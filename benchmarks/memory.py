"""Prints the memory curve: peak of the process over the size of rows and over the jobs in flight.

    python benchmarks/memory.py [--memory 256MiB] [--megabytes 60]

Each point is a whole run of its own over as many bytes of input (never less than three rows). `of_memory` is the peak
as a share of `memory`; a contract that holds keeps it under 1 on every line of the curve. One JSON line.
"""

import argparse
import json
import tempfile
from pathlib import Path

from measured import rows_of, run

from engine.pipeline.memory import BASELINE, MIB
from engine.pipeline.units import UNITS

ROW_SIZES = (100, 1_000, 10_000, 100_000, 1_000_000, 5_000_000, 50_000_000)
IN_FLIGHT = (10, 100, 1_000)


def main() -> None:
    """Run every point and print them."""
    parser = argparse.ArgumentParser(description="Peak memory over row sizes and jobs in flight.")
    parser.add_argument("--memory", default="256MiB", help="the budget of each run (default: 256MiB)")
    parser.add_argument("--megabytes", type=int, default=60, help="input of each run, in MB (default: 60)")
    asked = parser.parse_args()
    memory_mib = UNITS["size"].read(asked.memory) / MIB
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for size in ROW_SIZES:
            # A row larger than a job can carry travels by its key alone.
            kind = "import.bulk" if size <= 100_000 else "intelligence.enrich.bulk"
            write = rows_of(max(3, min(200_000, asked.megabytes * 1_000_000 // size)), size)
            report = run(Path(folder) / f"rows-{size}", write, kind=kind, memory=asked.memory)
            points.append({"row_bytes": size, "kind": kind, **_figures(report, memory_mib)})
        for jobs in IN_FLIGHT:
            write = rows_of(jobs * 20, 1_000)
            report = run(Path(folder) / f"jobs-{jobs}", write, kind="import.bulk", memory=asked.memory, rows=20)
            points.append({"jobs_in_flight": jobs, **_figures(report, memory_mib)})
    print(json.dumps({"memory_mib": memory_mib, "baseline_mib": BASELINE / MIB, "points": points}))


def _figures(report: dict[str, float], memory_mib: float) -> dict[str, float]:
    return {
        "rows": report["read"],
        "open": report["open"],
        "jobs": report["jobs"],
        "peak_mib": report["peak_mib"],
        "of_memory": round(report["peak_mib"] / memory_mib, 3),
    }


if __name__ == "__main__":
    main()
