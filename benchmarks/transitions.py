"""P6: ledger transitions that are durable, against bare SQLite in groups of the same size.

    python -m benchmarks.transitions [--quick]

Ours: 256 tasks move jobs on and each awaits its own future, so the writer thread commits in the groups that form. The
limit writes the same row changes by one `executemany` for each group of that size, in WAL with synchronous=FULL, from a
loop that does nothing else. Wall time, because both wait for the disk; the disk is the one under the temporary folder.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.command import alone
from benchmarks.rounds import Contestant, Failed, Meter, Size, interleave, perform, reading
from benchmarks.row import OURS, Goal, Reading, Readings, Row
from engine.store.ledger import Ledger
from engine.store.rows import JobRow, Planned, RunRow

JOBS = 20_000
WAITERS = 256
BARE = "bare SQLite, same groups"

ROW = Row(
    id="P6",
    title="durable ledger transitions",
    unit="transitions per second",
    goals=(Goal("at least 80 % of bare SQLite in groups of the same size", 0.8, against=BARE, is_ceiling=False),),
    limit=BARE,
    is_rate=True,
    note=f"{WAITERS} waiters; the size of the groups is what ours formed in the same round",
)


def _job(number: int) -> JobRow:
    return JobRow(
        epoch=1, seq=number, run_id="r", kind="import.bulk", rows=100, body_bytes=9_000, digest=bytes(32),
        keys_digest=bytes(32), key=f"{number:036}", trace_id=f"{number:032x}", span_id=f"{number:016x}", slices=(),
        planned_ns=1,
    )  # fmt: skip


def _open(here: Path, count: int) -> tuple[Ledger, list[JobRow]]:
    ledger, jobs = Ledger(here, "bench"), [_job(number) for number in range(1, count + 1)]

    async def plan() -> None:
        await ledger.put_run(RunRow(run_id="r", epoch=1, started_ns=1, trace_id="0" * 32, span_id="0" * 16))
        planned = [Planned(job=job, marks={}, read=100, filtered=0, dead=0) for job in jobs]
        await ledger.plan("r", 1, planned, [])

    asyncio.run(plan())
    return ledger, jobs


def _moved(job: JobRow) -> JobRow:
    job.state, job.sent_ns = "submitting", 2
    return job


def ours(*, count: int) -> dict[str, Any]:
    """A contestant: everybody's transition, each awaited by who made it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ledger, jobs = _open(Path(folder), count)

        async def move(waiting: Any) -> None:
            for job in waiting:
                await ledger.move([_moved(job)])

        async def together() -> None:
            waiting = iter(jobs)
            async with asyncio.TaskGroup() as group:
                for _ in range(WAITERS):
                    group.create_task(move(waiting))

        database = ledger._db  # noqa: SLF001 - the sizes of its groups are nobody's business but ours here
        groups, writes = database.groups, database.writes
        with Meter() as meter:
            uvloop.run(together())
        groups, writes = database.groups - groups, database.writes - writes
        _check(ledger, count)
        ledger.close()
    return meter.answer(count, group=writes / groups)


def bare(*, count: int, group: int) -> dict[str, Any]:
    """A contestant: the same changes of the same table, by the library alone."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ledger, jobs = _open(Path(folder), count)
        (sql, _) = ledger._moves(jobs[:1])  # noqa: SLF001 - the very same statement
        rows = [ledger._moves([_moved(job)])[1][0] for job in jobs]  # noqa: SLF001 - and the very same values
        path = ledger.path
        ledger.close()
        db = sqlite3.connect(path, isolation_level=None)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        with Meter() as meter:
            for start in range(0, count, group):
                db.execute("BEGIN IMMEDIATE")
                db.executemany(sql, rows[start : start + group])
                db.execute("COMMIT")
        db.close()
    return meter.answer(count)


def _check(ledger: Ledger, count: int) -> None:
    moved = sum(job.state == "submitting" for job in ledger.open_jobs(1))
    if moved != count:
        raise Failed(f"{moved} of {count} transitions are in the ledger")


def measure(size: Size) -> dict[str, Readings]:
    """Ours first in each round, for the other needs the size of its groups."""
    count, group = size.of(JOBS, quick=10_000), [1]

    def play(one: Contestant, _: int) -> Reading:
        more = {"group": group[0]} if one.name == BARE else {}
        answer = perform(one._replace(arguments={"count": count, **more}))
        if one.name == OURS:
            group[0] = max(1, round(answer["group"]))
        return reading(answer, answer["units"] / answer["wall_s"])

    series: dict[str, Readings] = {OURS: [], BARE: []}
    contestants = [
        Contestant(OURS, "benchmarks.transitions:ours", {}),
        Contestant(BARE, "benchmarks.transitions:bare", {}),
    ]
    for _ in range(size.rounds):
        for name, readings in interleave(contestants, 1, play).items():
            found = series[name]
            if isinstance(found, list) and isinstance(readings, list):
                found.extend(readings)
    return series


if __name__ == "__main__":
    alone(ROW, measure)
