"""Runs into PostgreSQL: every row is in the table once, whatever was killed, refused or begun anew."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError, RunFailed
from engine.events import Event, PartCommitted
from engine.runtime.drain import StopFlag
from engine.runtime.report import Report
from tests.runtime.conftest import Rig
from tests.runtime.database import PASSWORD, Server
from tests.runtime.process import engine, finish, report_of, start

pytestmark = pytest.mark.anyio

_TO_TABLE = """
[results.fields]
{key} = "str"
{fields}
[sink]
type  = "postgres"
url   = "${{secret:file:{directory}/url}}"
table = "rows"
{mode}
{more}
"""
_PASS = """
version = 1
name    = "rig"
[source]
type  = "ndjson"
paths = ["{directory}/in*.ndjson"]
key   = "id"
"""
APPEND = 'mode = "append"'


_FROM_TABLE = """
version = 1
name    = "rig"
[source]
type   = "postgres"
url    = "${{secret:file:{directory}/url}}"
table  = "people"
cursor = ["changed", "id"]
key    = "id"
{more}
[sink]
type   = "ndjson"
path   = "{directory}/out"
rotate = {{ rows = 10_000 }}
"""
_PEOPLE = """
CREATE TABLE people (id text PRIMARY KEY, changed int NOT NULL, name text);
INSERT INTO people SELECT 'r' || n, n / 7, 'Row ' || n FROM generate_series(0, {last}) AS n;
"""


def from_table(rig: Rig, postgres: Server, rows: int, *, more: str = "") -> str:
    """Let the rig's pipeline begin in a table of so many rows in a new database, which is answered."""
    database = postgres.create()
    secret = rig.directory / "url"
    secret.touch(mode=0o600)
    secret.write_text(postgres.url(database))
    rig.text = _FROM_TABLE.format(directory=rig.directory, more=more)
    postgres.ask(_PEOPLE.format(last=rows - 1), database=database)
    return database


def to_table(rig: Rig, postgres: Server, head: str, **words: str) -> str:
    """Let the rig's pipeline end in a table of a new database, which is answered."""
    database = postgres.create()
    words = {"key": "id", "fields": 'name = "str"', "mode": 'key = ["id"]', "more": "", **words}
    secret = rig.directory / "url"
    secret.touch(mode=0o600)
    secret.write_text(postgres.url(database))
    rig.text = head.format(directory=rig.directory) + _TO_TABLE.format(directory=rig.directory, **words)
    postgres.ask(
        f"CREATE TABLE rows ({words['key']} text {'' if words['mode'] == APPEND else 'PRIMARY KEY'}, name text, "
        "status text, engine_part bigint, n integer);",
        database=database,
    )
    return database


def keys(postgres: Server, database: str, column: str = "id") -> list[str]:
    """The keys in the table, sorted."""
    return [row[0] for row in postgres.ask(f"SELECT {column} FROM rows ORDER BY 1", database=database)]


def named(*numbers: int) -> list[str]:
    """The keys of the rig's rows."""
    return sorted(f"r{number}" for number in numbers)


def books(report: Report) -> tuple[Any, ...]:
    """Outcome, rows read, accepted, dead and open."""
    return report.outcome, report.read, report.accepted, report.dead, report.open


class _StopsAtTheFirstPart:
    """Asks a run to stop once something is committed."""

    def __init__(self, stop: StopFlag) -> None:
        self._stop = stop

    def notice(self, event: Event) -> None:
        """Look for a part."""
        if isinstance(event, PartCommitted):
            self._stop.request()


def _append_line(rig: Rig, **row: Any) -> None:
    with (rig.directory / "in.ndjson").open("a") as file:
        file.write(json.dumps(row) + "\n")


async def test_rows_pass_from_a_file_into_a_table(rig, postgres) -> None:
    """Every row is there, in several parts; a second run finds nothing new and asks nobody; new rows are added."""
    database = to_table(rig, postgres, _PASS, more="rotate = { rows = 10_000 }")
    rig.write(25_000)
    first = await rig.run()
    second = await rig.run()
    rig.write(1, first=25_000)
    third = await rig.run()

    assert books(first) == ("done", 25_000, 25_000, 0, 0)
    assert (second.outcome, second.manifest, third.accepted) == ("nothing_new", None, 1)
    assert keys(postgres, database) == named(*range(25_001))
    names = [row[0] for row in rig.ledger("SELECT name FROM parts ORDER BY number")]
    assert names == [f"part-0001-{number:06}" for number in range(1, len(names) + 1)]
    written = postgres.ask("SELECT number, rows FROM engine_parts ORDER BY number", database=database)
    assert written == rig.ledger("SELECT number, rows FROM parts ORDER BY number")


async def test_results_of_jobs_land_in_a_table(rig, postgres) -> None:
    """Rows that come back from jobs are in the table under their declared columns, by the platform's key."""
    head = rig.text.partition("[results.fields]")[0].replace("{", "{{").replace("}", "}}")
    database = to_table(
        rig, postgres, head, key="external_id", mode='key = ["external_id"]', fields='status = "str | None"'
    )
    rig.write(95)
    report = await rig.run()

    assert (report.outcome, report.accepted) == ("done", 95)
    assert keys(postgres, database, "external_id") == named(*range(95))


@pytest.mark.parametrize("mode", [APPEND, 'key = ["id"]'])
async def test_rows_that_the_table_refuses_are_dead_letters(rig, postgres, mode) -> None:
    """A row against a constraint is a letter of stage sink with its bytes and the reason; the books balance."""
    database = to_table(rig, postgres, _PASS, mode=mode, more="[dead_letters]\nmax = '50%'")
    postgres.ask("ALTER TABLE rows ADD CHECK (name <> 'Row 7');", database=database)
    rig.write(20)
    report = await rig.run()

    assert books(report) == ("done", 20, 19, 1, 0)
    [(stage, code, reason, key, raw)] = rig.ledger("SELECT stage, code, reason, key, raw FROM dead_letters")
    assert (stage, code, key) == ("sink", "record.refused", "r7")
    assert "rows_name_check" in reason
    assert json.loads(raw) == {"id": "r7", "name": "Row 7"}
    postgres.ask("ALTER TABLE rows DROP CONSTRAINT rows_name_check;", database=database)
    replayed = await rig.replay()
    assert (replayed.accepted, replayed.open) == (1, 0)
    assert keys(postgres, database) == named(*range(20))


async def test_refused_rows_stand_for_themselves_among_many_jobs(rig, postgres) -> None:
    """Of a part that holds many batches, each refused row is a letter of its own batch."""
    head = rig.text.partition("[results.fields]")[0].replace("{", "{{").replace("}", "}}")
    database = to_table(
        rig, postgres, head, key="external_id", mode='key = ["external_id"]', fields='status = "str | None"',
        more="[dead_letters]\nmax = '50%'",
    )  # fmt: skip
    postgres.ask("ALTER TABLE rows ADD CHECK (external_id NOT IN ('r3', 'r38', 'r39'));", database=database)
    rig.write(60)
    report = await rig.run()

    assert (report.outcome, report.accepted, report.dead) == ("done", 57, 3)
    letters = rig.ledger("SELECT d.key FROM dead_letters d JOIN jobs USING (epoch, seq) WHERE jobs.dead > 0 ORDER BY 1")
    assert letters == [("r3",), ("r38",), ("r39",)]


async def test_a_new_epoch_replaces_what_was_appended_only_when_it_is_complete(rig, postgres) -> None:
    """`--fresh` with mode append: the old rows are there until all new ones are, and then they are gone."""
    database = to_table(rig, postgres, _PASS, mode=APPEND, more="rotate = { rows = 10_000 }")
    rig.write(5)
    await rig.run()
    (rig.directory / "in.ndjson").unlink()
    rig.write(25_000, first=3)
    stop = StopFlag()
    stopped = await rig.run(fresh=True, stop=stop, observer=_StopsAtTheFirstPart(stop))
    assert stopped.outcome == "interrupted"
    assert {"r0", "r1", "r2"} < set(keys(postgres, database))
    await rig.run()

    assert keys(postgres, database) == named(*range(3, 25_003))
    assert postgres.ask("SELECT DISTINCT epoch FROM engine_parts", database=database) == [(2,)]


async def test_a_new_epoch_replaces_rows_by_key(rig, postgres) -> None:
    """`--fresh` with mode upsert: rows that come again are replaced, others stay."""
    database = to_table(rig, postgres, _PASS)
    rig.write(3)
    await rig.run()
    _append_line(rig, id="r1", name="new")
    await rig.run(fresh=True)

    assert postgres.ask("SELECT id, name FROM rows ORDER BY id", database=database) == [
        ("r0", "Row 0"), ("r1", "new"), ("r2", "Row 2"),
    ]  # fmt: skip


async def test_a_table_that_is_not_there_stops_the_run_before_a_row_is_read(rig, postgres) -> None:
    """The run fails as a matter of configuration, nothing is planned, and it goes on once the table is there."""
    database = to_table(rig, postgres, _PASS)
    postgres.ask("ALTER TABLE rows RENAME TO other;", database=database)
    rig.write(3)
    with pytest.raises((ConfigError, RunFailed)) as caught:
        await rig.run()
    assert "there is no table `rows`" in str(caught.value)
    assert rig.ledger("SELECT count(*) FROM jobs") == [(0,)]

    postgres.ask("ALTER TABLE other RENAME TO rows;", database=database)
    assert (await rig.run()).accepted == 3


@pytest.mark.parametrize("point", ["sink:commit:before:2", "sink:commit:after:2", "ledger:committed:before:2"])
def test_killed_around_the_commit_every_row_is_there_once(tmp_path: Path, postgres: Server, point: str) -> None:
    """A kill beside the database's commit and beside the ledger's: the next run has each row once, books balanced."""
    rig = Rig(tmp_path, None)  # type: ignore[arg-type]
    database = to_table(rig, postgres, _PASS, mode=APPEND, more="rotate = { rows = 10_000 }")
    rig.write(35_000)
    (tmp_path / "rig.toml").write_text(rig.text)
    victim = start(["run", "rig.toml", "--json"], cwd=tmp_path, ENGINE_FAILPOINT=point)
    finish(victim)
    assert victim.returncode == -signal.SIGKILL
    code, out, err = engine(["run", "rig.toml", "--json"], cwd=tmp_path)

    assert code == 0, err
    report = report_of(out)
    assert (report["read"], report["accepted"], report["open"]) == (35_000, 35_000, 0)
    assert keys(postgres, database) == named(*range(35_000))
    ours = postgres.ask(
        "SELECT count(*) FROM rows WHERE engine_part NOT IN (SELECT part FROM engine_parts)", database=database
    )
    assert ours == [(0,)]
    assert PASSWORD not in out + err + (tmp_path / ".engine" / "rig" / "ledger.sqlite").read_bytes().decode("latin-1")


# From a table --------------------------------------------------------------------------------


def _read(rig: Rig) -> list[str]:
    """The keys in the output files, sorted."""
    return sorted(row["id"] for row in rig.rows())


async def test_a_table_is_read_once_and_then_what_is_new(rig, postgres) -> None:
    """Every row of a table lands in files; a second run finds nothing new, a third what was added behind the cursor."""
    database = from_table(rig, postgres, 25_000)
    first, second = await rig.run(), await rig.run()
    postgres.ask("INSERT INTO people VALUES ('r25000', 9999, 'new'), ('r1x', 9999, 'new');", database=database)
    third = await rig.run()

    assert books(first) == ("done", 25_000, 25_000, 0, 0)
    assert (second.outcome, third.accepted) == ("nothing_new", 2)
    assert _read(rig) == sorted([*named(*range(25_001)), "r1x"])


async def test_rows_of_a_table_travel_in_jobs(rig, postgres) -> None:
    """A table as the source of jobs: each row is created at the platform, and one that is filtered is not."""
    head, _, tail = rig.text.partition("[source]")
    job = tail[tail.index("[job]") :]
    from_table(rig, postgres, 120, more='[[transform]]\ntype = "filter"\nfield = "changed"\nop = "<"\nvalue = 10')
    source = rig.text[rig.text.index("[source]") : rig.text.index("[sink]")]
    rig.text = head + source + job
    report = await rig.run()

    assert (report.outcome, report.accepted, report.filtered) == ("done", 70, 50)
    assert rig.keys() == named(*range(70))


async def test_a_stopped_run_goes_on_behind_the_last_row(rig, postgres) -> None:
    """Stopped after the first part while rows change behind it: the next run reads on, and no row comes twice."""
    database = from_table(rig, postgres, 45_000)
    stop = StopFlag()
    stopped = await rig.run(stop=stop, observer=_StopsAtTheFirstPart(stop))
    postgres.ask("UPDATE people SET name = 'changed since';", database=database)
    report = await rig.run()

    assert (stopped.outcome, report.outcome, report.read, report.open) == ("interrupted", "done", 45_000, 0)
    assert _read(rig) == named(*range(45_000))


@pytest.mark.parametrize("point", ["sink:rename:after:2", "ledger:planned:after:3", "ledger:committed:before:2"])
def test_killed_while_a_table_is_read_every_row_lands_once(tmp_path: Path, postgres: Server, point: str) -> None:
    """A kill around planning and committing: the next run has each row of the table once, with no flag."""
    rig = Rig(tmp_path, None)  # type: ignore[arg-type]
    from_table(rig, postgres, 45_000)
    (tmp_path / "rig.toml").write_text(rig.text)
    victim = start(["run", "rig.toml", "--json"], cwd=tmp_path, ENGINE_FAILPOINT=point)
    finish(victim)
    assert victim.returncode == -signal.SIGKILL
    code, out, err = engine(["run", "rig.toml", "--json"], cwd=tmp_path)

    assert code == 0, err
    report = report_of(out)
    assert (report["read"], report["accepted"], report["open"]) == (45_000, 45_000, 0)
    assert _read(rig) == named(*range(45_000))


def test_several_processes_land_in_one_table(tmp_path: Path, postgres: Server) -> None:
    """Each share has parts of its own: every row is in the table once, also after --fresh has replaced them."""
    rig = Rig(tmp_path, None)  # type: ignore[arg-type]
    database = to_table(rig, postgres, _PASS, mode=APPEND, more="rotate = { rows = 10_000 }")
    rig.write(60_000)
    (tmp_path / "rig.toml").write_text(rig.text)
    for more in ([], ["--fresh"]):
        code, out, err = engine(["run", "rig.toml", "--json", "--processes", "2", *more], cwd=tmp_path)
        assert code == 0, err
        assert report_of(out)["accepted"] == 60_000
        assert keys(postgres, database) == named(*range(60_000))
    owners = postgres.ask("SELECT DISTINCT pipeline, epoch FROM engine_parts ORDER BY 1", database=database)
    assert owners == [("rig.1of2", 2), ("rig.2of2", 2)]
