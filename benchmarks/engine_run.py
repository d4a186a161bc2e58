"""Engine run: a whole run of ours as a contestant, by the same call as the command line, and the audit after it.

Everything a user gets is on: derived keys, the ledger with its fsync, a trace for each job, lanes, budget and books.
What is measured is one `assembly.run_pipeline`; imports and the start of the process are another row's matter.
"""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any, Self

import uvloop

from benchmarks.rounds import Failed, Meter, peak_mib
from engine.assembly import RunOrder, run_pipeline
from engine.cli.collecting import collect_rarely
from engine.events import Event, JobSubmitted, Warned
from engine.pipeline.parse import load_pipeline, load_settings
from engine.ports import Observer
from engine.runtime.drain import StopFlag
from engine.runtime.report import Report

PIPELINE = """
version = 1
name    = "{name}"
[source]
type  = "ndjson"
paths = ["{source}"]
key   = "id"
[job]
kind  = "intelligence.enrich.bulk"
batch = {{ rows = {batch} }}
poll  = {{ first = "{first}", max = "{longest}" }}
jobs_in_flight = {in_flight}
{results}
[sink]
type = "ndjson"
path = "out"
"""
TYPED = """
[results.fields]
profile_id       = "str"
status           = "str"
enrichment_score = "int | None"
attributes       = "json"
"""


class Asked:
    """How a run is to be; the arguments of a contestant."""

    def __init__(self, **asked: Any) -> None:
        self.url: str = asked["url"]
        self.source: str = asked["source"]
        self.name: str = asked["name"]
        self.batch: int = asked.get("batch", 100)
        self.first: str = asked.get("first", "10ms")
        self.longest: str = asked.get("longest", "100ms")
        self.in_flight: int = asked.get("in_flight", 64)
        self.concurrency: int = asked.get("concurrency", 64)
        self.is_typed: bool = asked.get("is_typed", True)
        self.collector: str | None = asked.get("collector")


def run_here(here: Path, asked: Asked, observer: Observer | None = None, stop: StopFlag | None = None) -> Report:
    """Run the pipeline in an empty folder; the report as the engine gives it."""
    members = vars(asked) | {"results": TYPED if asked.is_typed else ""}
    (here / "p.toml").write_text(PIPELINE.format(**members))
    os.chdir(here)
    settings = load_settings(
        None,
        env={},
        overrides={
            "state_dir": str(here / "state"),
            "platform.emulator.url": asked.url,
            "platform.limits.jobs_in_flight": str(asked.in_flight),
            "platform.limits.concurrency": str(asked.concurrency),
        },
    )
    spec = load_pipeline("p.toml", env={})
    if asked.collector:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = asked.collector
        # The collector is plain Python and shares its core with the remote: no span is to be lost to that.
        os.environ["OTEL_BSP_MAX_QUEUE_SIZE"] = "20000"

    async def go() -> Report:
        order = RunOrder(spec=spec, spec_path="p.toml")
        return await run_pipeline(order, settings, observer=observer, stop=stop or StopFlag())

    collect_rarely()
    return uvloop.run(go())


def books(url: str) -> dict[str, Any]:
    """What the remote counted so far."""
    with urllib.request.urlopen(f"{url}/books") as answer:
        counted: dict[str, Any] = json.load(answer)
    return counted


def whole(**arguments: Any) -> dict[str, Any]:
    """A contestant: read, create, wait, fetch, decode, land, commit; audited."""
    asked = Asked(**arguments)
    before = books(asked.url)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        here = Path(folder)
        gc.collect()
        warnings = _Warnings()
        with Resident() as resident, Meter() as meter:
            report = run_here(here, asked, warnings)
        if warnings.told:
            raise Failed(f"the run warned: {warnings.told}")
        audit(here, asked, report, before)
        counted = {"jobs": report.jobs, "polls": report.polls, "requests": report.requests}
        answer = meter.answer(report.read, growth=resident.growth, **counted)
    return answer | {"server_cpu_s": books(asked.url)["cpu_s"] - before["cpu_s"]}


def audit(here: Path, asked: Asked, report: Report, before: dict[str, Any]) -> None:
    """Hold a finished run to its ledger, its output and the remote's own count.

    Raises:
        Failed: some guarantee was not kept.
    """
    rows = _lines(here.joinpath(asked.source))
    jobs = -(-rows // asked.batch)
    landed = sum(_lines(path) for path in (here / "out").glob("part-*"))
    said = (report.outcome, report.read, report.accepted, report.open, landed)
    if said != ("done", rows, rows, 0, rows):
        raise Failed(f"the books do not balance: {said}, of {rows} rows")
    _check_jobs(here, asked, jobs, "committed")
    _check_remote(asked, jobs, rows, before)


def _check_jobs(here: Path, asked: Asked, jobs: int, state: str) -> None:
    with sqlite3.connect(here / "state" / asked.name / "ledger.sqlite") as ledger:
        sql = "SELECT count(*), count(DISTINCT key), count(DISTINCT trace_id), count(DISTINCT remote_id) FROM jobs"
        found = ledger.execute(f"{sql} WHERE state=?", (state,)).fetchone()
    if found != (jobs, jobs, jobs, jobs):
        raise Failed(f"the ledger holds {found} of jobs, keys, traces and remote ids, of {jobs} {state}")


def _check_remote(asked: Asked, jobs: int, rows: int, before: dict[str, Any]) -> None:
    after = books(asked.url)
    got = {name: after[name] - before[name] for name in ("creates", "keys", "rows", "replays", "traces")}
    wanted = {"creates": jobs, "keys": jobs, "rows": rows, "replays": 0, "traces": jobs}
    if got != wanted:
        raise Failed(f"the remote counted {got}, not {wanted}")


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(window.count(b"\n") for window in iter(lambda: file.read(1 << 20), b""))


class Resident:
    """Looks at the resident size of this process ten times a second, from a thread."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self._sizes.append(int(Path("/proc/self/statm").read_text().split()[1]))

    @property
    def growth(self) -> float | None:
        """Its size in the last quarter over that in the second; None of a run too short to have quarters."""
        quarter = len(self._sizes) // 4
        if quarter < 2:
            return None
        return statistics.median(self._sizes[-quarter:]) / statistics.median(self._sizes[quarter : 2 * quarter])


class _Warnings:
    """Keeps what a run warns of: spans that were lost, rows that went elsewhere."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def notice(self, event: Event) -> None:
        """Keep a warning."""
        if isinstance(event, Warned):
            self.told.append(f"{event.code}: {event.message}")


class _Creates:
    """Watches creates: starts the clock at `first`, stops it at `last`, and then the run."""

    def __init__(self, first: int, last: int, stop: StopFlag) -> None:
        self._first, self._last, self._stop = first, last, stop
        self.seen = 0
        self.cpu_s = self.wall_s = 0.0

    def notice(self, event: Event) -> None:
        """Count a job that was created."""
        if not isinstance(event, JobSubmitted):
            return
        self.seen += 1
        if self.seen == self._first:
            self.cpu_s, self.wall_s = time.process_time(), time.perf_counter()
        elif self.seen == self._last:
            self.cpu_s, self.wall_s = time.process_time() - self.cpu_s, time.perf_counter() - self.wall_s
            self._stop.request()


def creating(**arguments: Any) -> dict[str, Any]:
    """A contestant: jobs of one row, planned, created and no more, at a remote where none ends; audited.

    The first tenth is not counted, in which connections are made and the lanes open.
    """
    asked = Asked(**arguments)
    before = books(asked.url)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        here = Path(folder)
        count = _lines(Path(asked.source))
        stop = StopFlag()
        creates = _Creates(max(1, count // 10), count, stop)
        report = run_here(here, asked, creates, stop)
        _check_jobs(here, asked, count, "submitted")
        _check_remote(asked, count, count, before)
        if (report.read, report.open, report.outcome) != (count, count, "interrupted"):
            raise Failed(f"the books do not balance: {report.outcome}, {report.read} read, {report.open} open")
    units = count - max(1, count // 10)
    return {
        "units": units,
        "cpu_s": creates.cpu_s,
        "wall_s": creates.wall_s,
        "peak_mib": peak_mib(),
        "server_cpu_s": books(asked.url)["cpu_s"] - before["cpu_s"],
    }
