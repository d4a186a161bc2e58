"""What a sick OTLP collector costs a run: the same pipeline with a healthy one and with ill ones, in pairs.

    python benchmarks/collectors.py [--rows N] [--batch N] [--rounds N] [--only ILLNESS]

Every run is a process with telemetry on, against an emulator of its own over real sockets. Ill are: absent (the
connection is refused), silent (never answers), 400, and 429 with `Retry-After: 1`. Each ill run is paired with a
healthy one, the order alternating, and its books must balance. Prints one JSON line: for each illness the median
and range of the ratios (ill over healthy) of the engine's CPU time and of the run's own seconds, what the flush at
the end took, and whether the median stays within 1.02. Only the CPU ratio is a verdict: wall time on a machine
that does other work too moves by more than 2 % by itself, as the row `healthy` (healthy over healthy) shows.
The flush is apart from both seconds and ratio because its length does not grow with the run; it must end in 5 s.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from measured import rows_of

from engine.chaos.collector import MoodyCollector, collecting

_PIPELINE = """
version = 1
name    = "collectors"
[source]
type  = "ndjson"
paths = ["../in.ndjson"]
key   = "id"
[job]
kind  = "import.bulk"
batch = {{ rows = {batch} }}
poll  = {{ first = "50ms", max = "500ms" }}
[job.payload]
entity_type = "location"
mapping     = {{ id = "external_id", name = "label" }}
[sink]
type = "ndjson"
path = "out"
"""
_ENGINE = (sys.executable, "-m", "engine")
_MOODS = {"healthy": "200", "silent": "hang", "400": "400", "429": "429"}
ILL = ("healthy", "absent", "silent", "400", "429")
LIMIT = 1.02
FLUSH_S = 5.0


class Cost(NamedTuple):
    """Of one run: the engine process's CPU time, the run by its report, and what the process took after it."""

    cpu_s: float
    run_s: float
    rest_s: float
    collector_asked: int


@contextmanager
def _collector(state: str) -> Iterator[MoodyCollector]:
    if state != "absent":
        with collecting(_MOODS[state], retry_after="1") as collector:
            yield collector
        return
    with MoodyCollector("close") as collector:
        pass  # Closed again: nobody listens at its port.
    yield collector


@contextmanager
def _emulator() -> Iterator[str]:
    words = [*_ENGINE, "emulator", "--latency", "20ms", "--seed", "1"]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        if process.stdout is None:
            raise SystemExit("the emulator cannot be heard")
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def once(here: Path, state: str, *, rows: int, batch: int) -> Cost:
    """One run in a new folder; its books must balance."""
    here.mkdir()
    (here / "p.toml").write_text(_PIPELINE.format(batch=batch))
    with _collector(state) as collector, _emulator() as url, (here / "report").open("w+") as told:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("ENGINE_", "OTEL_"))}
        ours |= {"ENGINE__PLATFORM__EMULATOR__URL": url, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        words = [*_ENGINE, "run", "p.toml", "--json", "--quiet"]
        started = time.monotonic()
        process = subprocess.Popen(words, cwd=here, env=ours, stdout=told, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.monotonic() - started
        told.seek(0)
        report: dict[str, Any] = json.loads(told.read().splitlines()[-1])
        _balance(report, process.returncode, rows, here)
        rest_s = wall_s - report["seconds"]
        return Cost(usage.ru_utime + usage.ru_stime, report["seconds"], rest_s, collector.asked)


def _balance(report: dict[str, Any], code: int, rows: int, here: Path) -> None:
    figures = (code, report["read"], report["accepted"], report["dead"], report["open"])
    if figures != (0, rows, rows, 0, 0):
        raise SystemExit(f"the books do not balance: {figures}")
    written = sum(path.read_bytes().count(b"\n") for path in (here / "out").glob("part-*"))
    if written != rows:
        raise SystemExit(f"{written} rows of {rows} were written")


def compare(here: Path, state: str, rounds: int, **size: int) -> list[tuple[Cost, Cost]]:
    """Pairs of ill and healthy runs; every other pair starts with the healthy one."""
    pairs = []
    for number in range(rounds):
        order = (state, "healthy") if number % 2 else ("healthy", state)
        costs = [once(here / f"{state}-{number}-{place}", name, **size) for place, name in enumerate(order)]
        pairs.append((costs[0], costs[1]) if number % 2 else (costs[1], costs[0]))
    return pairs


def _spread(figures: list[float]) -> list[float]:
    return [round(figure, 3) for figure in (statistics.median(figures), min(figures), max(figures))]


def told(pairs: list[tuple[Cost, Cost]]) -> dict[str, object]:
    """The figures of one illness."""
    cpu = [ill.cpu_s / well.cpu_s for ill, well in pairs]
    # Both start alike; what the ill one takes longer outside the run is its flush.
    flush_s = [ill.rest_s - well.rest_s for ill, well in pairs]
    return {
        "cpu [median, min, max]": _spread(cpu),
        "run [median, min, max]": _spread([ill.run_s / well.run_s for ill, well in pairs]),
        "flush s [median, min, max]": _spread(flush_s),
        "requests to the collector, ill and healthy": [pairs[0][0].collector_asked, pairs[0][1].collector_asked],
        "cpu s, run s of a healthy one": [round(pairs[0][1].cpu_s, 2), round(pairs[0][1].run_s, 2)],
        "cpu within 1.02": statistics.median(cpu) <= LIMIT,
        "flush within 5 s": max(flush_s) <= FLUSH_S,
    }


def main() -> None:
    """Read the flags, run the pairs, print."""
    parser = argparse.ArgumentParser(description="the cost of a sick telemetry collector")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=250)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=ILL, help="this illness alone")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        rows_of(flags.rows, 100)(here / "in.ndjson")
        size = {"rows": flags.rows, "batch": flags.batch}
        states = [flags.only] if flags.only else list(ILL)
        figures = {state: told(compare(here, state, flags.rounds, **size)) for state in states}
    print(json.dumps({"rows": flags.rows, "batch": flags.batch, "rounds": flags.rounds, "ill / healthy": figures}))


if __name__ == "__main__":
    main()
