"""Work is counted, not timed: what a run does for each job and each record, on any machine, however slow.

Two runs have the same number of jobs; those of one hold a hundred times the rows. What belongs to a job must be the
same in both, and what a row costs is the difference. A ceiling that breaks here is work per record that belongs to
the batch.
"""

import gc
import sqlite3
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Self

import pytest

from benchmarks.engine_run import Asked, audit, books, run_here
from benchmarks.rounds import serving
from engine.events import Event, SpanEnded
from engine.store.sqlite import Database

JOBS = 40
FEW, MANY = 10, 1000
# Found to be 0.3 and 2,640, the second with the start and end of a run in it.
CALLS_PER_RECORD = 0.8
CALLS_PER_JOB = 3_300.0


class Facts:
    """Counts what a run tells."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()

    def notice(self, event: Event) -> None:
        self.events[type(event).__name__] += 1


class Calls:
    """Counts calls of functions, in Python and in C, on every thread that starts inside the block."""

    def __init__(self) -> None:
        self.counts = [0]

    def __enter__(self) -> Self:
        self._before = sys.getprofile()
        threading.setprofile(self._count)
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(self._before)
        threading.setprofile(None)  # type: ignore[arg-type]

    def _count(self, _: Any, event: str, __: Any) -> None:
        if event in ("call", "c_call"):
            self.counts[0] += 1


class Worked:
    """What one run did."""

    def __init__(self, here: Path, remote: str, rows_per_job: int, monkeypatch: pytest.MonkeyPatch) -> None:
        here.mkdir()
        source = here / "in.ndjson"
        source.write_text("".join(f'{{"id":"r{number:06}"}}\n' for number in range(JOBS * rows_per_job)))
        asked = Asked(
            url=remote, source=str(source), name=f"work-{here.name}", batch=rows_per_job, in_flight=16, is_typed=True
        )
        databases: list[Database] = []
        opened = Database.__init__

        def open_and_keep(self: Database, *arguments: Any, **named: Any) -> None:
            opened(self, *arguments, **named)
            databases.append(self)

        monkeypatch.setattr(Database, "__init__", open_and_keep)
        before, facts = books(remote), Facts()
        monkeypatch.chdir(here)
        gc.collect()
        blocks = sys.getallocatedblocks()
        with Calls() as calls:
            report = run_here(here, asked, facts)
        gc.collect()
        self.blocks_left = sys.getallocatedblocks() - blocks
        audit(here, asked, report, before)
        after = books(remote)
        self.asked = Counter({name: after[name] - before[name] for name in after if name != "cpu_s"})
        self.events, self.calls = facts.events, calls.counts[0]
        self.rows = JOBS * rows_per_job
        self.writes = sum(one.writes for one in databases)
        self.groups = sum(one.groups for one in databases)
        self.statements = _statements(here / "state" / asked.name / "ledger.sqlite")


def _statements(path: Path) -> int:
    """Rows in all tables that grow with a run."""
    with sqlite3.connect(path) as ledger:
        tables = ("jobs", "parts", "marks", "dead_letters", "attempts", "kept")
        return sum(ledger.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Worked]:
    """The two runs; a third before them leaves everything imported and built once."""
    here = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as monkeypatch, serving("benchmarks.remote", "--row-bytes", "200") as remote:
        for name, value in {"ENGINE_DEBUG": "", "OTEL_SDK_DISABLED": "true"}.items():
            monkeypatch.setenv(name, value)
        found = {}
        for number, rows in enumerate((FEW, FEW, MANY)):
            with monkeypatch.context() as each:
                found[rows] = Worked(here / str(number), remote["url"], rows, each)
    return found


def test_requests_belong_to_jobs(runs: dict[int, Worked]) -> None:
    """A job costs one create, one look for its result and one download; list pages answer for many of them."""
    for worked in runs.values():
        assert worked.asked["creates"] == worked.asked["links"] == worked.asked["results"] == JOBS
        assert worked.asked["gets"] + worked.asked["lists"] <= JOBS
        assert worked.asked["replays"] == 0


def test_facts_belong_to_jobs(runs: dict[int, Worked]) -> None:
    """No observer is told of a record: a hundred times the rows bring no more facts about jobs."""
    few, many = runs[FEW].events, runs[MANY].events

    assert few["JobSubmitted"] == many["JobSubmitted"] == JOBS
    assert many.total() <= few.total() + JOBS
    assert many.total() <= 22 * JOBS


def test_spans_belong_to_jobs(runs: dict[int, Worked]) -> None:
    """A job has a handful of spans and a record has none."""
    few, many = (runs[rows].events[SpanEnded.__name__] for rows in (FEW, MANY))

    assert many <= 8 * JOBS
    assert many <= few + JOBS


def test_ledger_writes_belong_to_jobs(runs: dict[int, Worked]) -> None:
    """A job is written a few times, many jobs at once; a record never is."""
    for worked in runs.values():
        assert worked.writes <= 5 * JOBS + 20
        assert worked.groups <= worked.writes
        assert worked.statements <= 2 * JOBS + 10


def test_a_record_costs_few_calls(runs: dict[int, Worked]) -> None:
    """On its whole way a record is worth a handful of calls, in Python and C together: it travels in batches."""
    few, many = runs[FEW], runs[MANY]

    per_record = (many.calls - few.calls) / (many.rows - few.rows)
    assert per_record <= CALLS_PER_RECORD, per_record


def test_a_job_costs_a_bounded_number_of_calls(runs: dict[int, Worked]) -> None:
    """What is done for each job is done a bounded number of times, its four requests included."""
    few = runs[FEW]

    per_job = (few.calls - CALLS_PER_RECORD * few.rows) / JOBS
    assert per_job <= CALLS_PER_JOB, per_job


def test_nothing_is_kept_of_a_record(runs: dict[int, Worked]) -> None:
    """After a run nothing is left in memory that grows with its rows."""
    few, many = runs[FEW], runs[MANY]

    assert (many.blocks_left - few.blocks_left) / (many.rows - few.rows) <= 0.1
