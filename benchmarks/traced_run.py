"""P5: what tracing costs a run when every job is sampled and its spans are exported.

    python -m benchmarks.traced_run [--quick]

The same whole run with a healthy OTLP collector on the servers' core, and without one. Both are audited as in P7; a run
that lost a span fails the program. The CPU time of the engine's process is compared, its exporting thread included.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.command import alone
from benchmarks.end_to_end import BATCH, IN_FLIGHT, rows
from benchmarks.rounds import Contestant, Size, cpu_us, interleave, perform, serving
from benchmarks.row import OURS, Goal, Reading, Readings, Row

# More than P7: a difference of a few percent must stand out of what two runs differ by themselves.
RECORDS = 300_000
TRACED = "engine, traced and exported"

ROW = Row(
    id="P5",
    title="sampled and exported tracing, end to end",
    unit="client CPU µs per record",
    goals=(Goal("at most 1.05 × the run without", 1.05, against=OURS, ours=TRACED),),
    limit=OURS,
    note="one trace for each job; jobs of 100 records",
)


def measure(size: Size) -> dict[str, Readings]:
    """Both, interleaved."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        serving("benchmarks.remote") as remote,
        serving("benchmarks.healthy_collector") as collector,
    ):
        source = Path(folder) / "in.ndjson"
        rows(source, size.of(RECORDS, quick=20_000))
        ours = {"url": remote["url"], "source": str(source), "batch": BATCH, "in_flight": IN_FLIGHT}
        contestants = [
            Contestant(TRACED, "benchmarks.engine_run:whole", ours | {"collector": collector["url"]}),
            Contestant(OURS, "benchmarks.engine_run:whole", ours),
        ]

        def play(one: Contestant, number: int) -> Reading:
            named = {"name": f"bench-{number}-{len(one.name)}"}
            return cpu_us(perform(one._replace(arguments=one.arguments | named)))

        return interleave(contestants, size.rounds, play)


if __name__ == "__main__":
    alone(ROW, measure)
