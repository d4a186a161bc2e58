"""P7: records through jobs and back: read, create, poll, fetch, decode, write; client CPU for each record.

    python -m benchmarks.end_to_end [--quick]

100,000 NDJSON records become jobs of 100 with 64 in flight, results are rows of 1 KB, and what was accepted is written.
Ours is a whole run with typed results and all its guarantees, audited after each round: ledger, keys, traces, balance,
and the remote's own count. The peers keep none of these. Jobs take 10 ms at the remote, for everybody. The limit is
`peers/bare.py`: the same work on bare sockets, with no guarantee and no client library.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.command import alone
from benchmarks.rounds import Contestant, Size, cpu_us, interleave, perform, serving
from benchmarks.row import OURS, Goal, Reading, Readings, Row

RECORDS = 100_000
BATCH = 100
IN_FLIGHT = 64
PEER_SHARE = 10
BARE = "bare sockets"

ROW = Row(
    id="P7",
    title="100,000 records → jobs of 100 → poll → result → file",
    unit="client CPU µs per record",
    goals=(
        Goal("3 × better than the best hand-written aiohttp script", 3.0, against="aiohttp script", is_ceiling=False),
        Goal("20 × better than dlt", 20.0, against="dlt", is_ceiling=False),
        Goal("20 × better than Airbyte CDK", 20.0, against="Airbyte CDK", is_ceiling=False),
        Goal("20 × better than a Singer target", 20.0, against="Singer target", is_ceiling=False),
    ),
    peer="aiohttp script",
    limit=BARE,
    note="slow peers get a tenth of the records; start and imports are not counted for anybody",
)


def rows(path: Path, count: int) -> None:
    """Records with a key and nothing else worth sending."""
    with path.open("w") as file:
        file.writelines(f'{{"id":"r{number:08}"}}\n' for number in range(count))


def measure(size: Size) -> dict[str, Readings]:
    """Everybody, interleaved, at one remote."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, serving("benchmarks.remote") as remote:
        full, few = Path(folder) / "full.ndjson", Path(folder) / "few.ndjson"
        count = size.of(RECORDS, quick=10_000)
        rows(full, count)
        rows(few, max(count // PEER_SHARE, min(count, BATCH)))
        ours = {"url": remote["url"], "source": str(full), "batch": BATCH, "in_flight": IN_FLIGHT}
        script = {**ours, "client": "aiohttp"}
        slow = {**ours, "source": str(few)}
        contestants = [
            Contestant(OURS, "benchmarks.engine_run:whole", ours),
            Contestant("engine, bytes", "benchmarks.engine_run:whole", ours | {"is_typed": False}),
            Contestant(BARE, "benchmarks.peers.bare:whole", ours),
            Contestant("aiohttp script", "benchmarks.peers.hand_written:whole", script),
            Contestant("httpx script", "benchmarks.peers.hand_written:whole", {**slow, "client": "httpx"}, ("httpx",)),
            Contestant("dlt", "benchmarks.peers.dlt_pipeline:whole", slow, ("dlt",)),
            Contestant("Airbyte CDK", "benchmarks.peers.airbyte_jobs:whole", slow, ("airbyte_cdk",)),
            Contestant("Singer target", "benchmarks.peers.singer_target:whole", slow, ("singer_sdk",)),
        ]

        def play(one: Contestant, number: int) -> Reading:
            # A name of its own for each round: the same rows under the same name would have the same keys.
            named = {"name": f"bench-{number}-{len(one.name)}"} if one.name.startswith(OURS) else {}
            return cpu_us(perform(one._replace(arguments=one.arguments | named)))

        return interleave(contestants, size.rounds, play)


if __name__ == "__main__":
    alone(ROW, measure)
