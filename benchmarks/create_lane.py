"""P1: client CPU for each job that is enqueued, one small POST over 64 kept connections.

    python -m benchmarks.create_lane [--quick]

Ours is a whole run with everything on: the row is read, planned into the ledger, digested, given its key and trace,
marked as sent, created through lanes and budget, and written down again. The peers post the same body and keep no book.
The limit is wrk, in C. The server is proved not to be the bottleneck by wrk driving it further than anybody else does.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks.command import alone
from benchmarks.rounds import Contestant, Failed, Size, cores, cpu_us, interleave, perform, pin, reading, serving
from benchmarks.row import OURS, Goal, Reading, Readings, Row

JOBS = 50_000
CONNECTIONS = 64
SLOW_SHARE = 10
BODY_BYTES = 300

ROW = Row(
    id="P1",
    title="enqueue one job: key, ledger, trace and limiter on",
    unit="client CPU µs per job",
    goals=(
        Goal("at most 2.5 × wrk", 2.5, against="wrk"),
        Goal("3 × better than hand-written aiohttp", 3.0, against="aiohttp", is_ceiling=False),
        Goal("20 × better than httpx", 20.0, against="httpx", is_ceiling=False),
    ),
    peer="aiohttp",
    limit="wrk",
    note="ours includes reading the row and planning the job; the peers keep no ledger, key or trace",
)
_WRK = """
wrk.method = "POST"
wrk.body = '{body}'
wrk.headers["Content-Type"] = "application/json"
"""


def rows(path: Path, count: int) -> None:
    """Rows whose one key makes a create of about 300 bytes."""
    filler = "x" * (BODY_BYTES - 75)
    with path.open("w") as file:
        file.writelines(f'{{"id":"r{number:08}{filler}"}}\n' for number in range(count))


def measure(size: Size) -> dict[str, Readings]:
    """Everybody, interleaved, at one remote where no job ends."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        serving("benchmarks.remote", "--hold", str(10**9)) as remote,
    ):
        source, few, url = Path(folder) / "in.ndjson", Path(folder) / "few.ndjson", remote["url"]
        count = size.of(JOBS, quick=4_000)
        rows(source, count)
        rows(few, max(count // SLOW_SHARE, 20))
        shared = {"url": url, "source": str(source)}
        lanes = {"first": "300s", "longest": "300s", "in_flight": 10**7, "concurrency": 2 * CONNECTIONS, "batch": 1}
        posting = {**shared, "connections": CONNECTIONS}
        slow = {**posting, "client": "httpx", "source": str(few)}
        contestants = [
            Contestant(OURS, "benchmarks.engine_run:creating", shared | lanes),
            Contestant("aiohttp", "benchmarks.peers.hand_written:creating", posting | {"client": "aiohttp"}),
            Contestant("httpx", "benchmarks.peers.hand_written:creating", slow, ("httpx",)),
            Contestant("wrk", "", {"url": url, "seconds": 0.5 if size.share < 1 else 3}, programs=("wrk",)),
        ]

        def play(one: Contestant, number: int) -> Reading:
            if one.name == "wrk":
                return _wrk(Path(folder), **one.arguments)
            # A name of its own for each round: the same rows under the same name would have the same keys.
            named = {"name": f"bench-{number}"} if one.name == OURS else {}
            return cpu_us(perform(one._replace(arguments=one.arguments | named)))

        return interleave(contestants, size.rounds, play)


def _wrk(here: Path, *, url: str, seconds: float) -> Reading:
    """`wrk` on the client's core; its CPU time is the kernel's word, its count its own."""
    body = '{"kind":"intelligence.enrich.bulk","payload":{"profile_ids":["%s"]}}' % ("r" * (BODY_BYTES - 66))
    (here / "post.lua").write_text(_WRK.format(body=body))
    whole = max(1, round(seconds))
    words = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{whole}s", "-s", str(here / "post.lua"), f"{url}/v1/jobs"]
    core = cores()[0]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: pin(core))
    with process.stdout or nullcontext() as pipe:
        said = pipe.read() if pipe else ""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    found = re.search(r"(\d+) requests in", said)
    if process.returncode or found is None or "Non-2xx" in said:
        raise Failed(f"wrk ended with {process.returncode}: {said}")
    answer: dict[str, Any] = {"units": int(found[1]), "cpu_s": usage.ru_utime + usage.ru_stime}
    return reading(answer, answer["cpu_s"] * 1e6 / answer["units"])


if __name__ == "__main__":
    alone(ROW, measure)
