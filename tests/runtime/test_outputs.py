"""Runs into standard output and into a function, as typed."""

from __future__ import annotations

import json
import signal
import sqlite3
from pathlib import Path

import pytest

from engine.errors import ConfigError
from engine.pipeline.spec import PipelineSpec, SinkSpec, SourceSpec
from engine.runtime.sharing import refuse_indivisible
from tests.runtime.process import engine, finish, report_of, start

_PIPELINE = """
version = 1
name    = "outputs"
[source]
type  = "ndjson"
paths = ["in.ndjson"]
key   = "id"
[sink]
{sink}
rotate = {{ rows = 10_000 }}
[dead_letters]
max = "50%"
"""
# Keeps rows by their key, as a function must that may be called twice with a row; refuses one, and counts its calls.
_STORE = """
import sqlite3
from engine.errors import PartialFailure

def store(rows, part):
    db = sqlite3.connect("rows.sqlite")
    with db:
        db.execute("CREATE TABLE IF NOT EXISTS rows (id TEXT PRIMARY KEY, times INTEGER, part INTEGER)")
        db.executemany(
            "INSERT INTO rows VALUES (?, 1, ?) ON CONFLICT DO UPDATE SET times = times + 1, part = excluded.part",
            [(row["id"], part.part) for row in rows if row["id"] != "r7"],
        )
    db.close()
    failures = {index: "unlucky" for index, row in enumerate(rows) if row["id"] == "r7"}
    if failures:
        raise PartialFailure("one is unlucky", failures=failures)
"""


def _prepare(folder: Path, sink: str, rows: int) -> None:
    (folder / "p.toml").write_text(_PIPELINE.format(sink=sink))
    (folder / "in.ndjson").write_text("".join(f'{{"id":"r{number}"}}\n' for number in range(rows)))


@pytest.mark.parametrize("is_json", [False, True])
def test_rows_on_stdout_stand_alone(tmp_path: Path, is_json: bool) -> None:
    """Every row is a line of stdout and nothing else is; how the run ended is told on stderr."""
    _prepare(tmp_path, 'type = "stdout"', 25_000)
    code, out, err = engine(["run", "p.toml", "--quiet", *(["--json"] if is_json else [])], cwd=tmp_path)

    assert code == 0, err
    assert [json.loads(line)["id"] for line in out.splitlines()] == [f"r{number}" for number in range(25_000)]
    assert '"accepted":25000' in err if is_json else "25 000 accepted" in err.replace("\u202f", " ")


def test_a_function_takes_the_rows_also_after_a_kill(tmp_path: Path) -> None:
    """Killed between the function's work and the commit: rows come again, and by their key each is there once."""
    _prepare(tmp_path, 'type = "python"\ncall = "keeping:store"', 35_000)
    (tmp_path / "keeping.py").write_text(_STORE)
    victim = start(["run", "p.toml", "--json"], cwd=tmp_path, ENGINE_FAILPOINT="ledger:committed:before:2")
    finish(victim)
    assert victim.returncode == -signal.SIGKILL
    code, out, err = engine(["run", "p.toml", "--json"], cwd=tmp_path)

    assert code == 0, err
    report = report_of(out)
    assert (report["read"], report["accepted"], report["dead"], report["open"]) == (35_000, 34_999, 1, 0)
    db = sqlite3.connect(tmp_path / "rows.sqlite")
    [(there, twice)] = db.execute("SELECT count(*), sum(times > 1) FROM rows").fetchall()
    db.close()
    assert there == 34_999
    assert twice > 0


@pytest.mark.parametrize(
    ("source", "sink", "said"),
    [
        ({"type": "json"}, {"type": "ndjson", "path": "out"}, "no place in bytes"),
        ({"type": "parquet"}, {"type": "ndjson", "path": "out"}, "no place in bytes"),
        ({"type": "postgres"}, {"type": "ndjson", "path": "out"}, "one stream of rows"),
        ({"type": "plugin"}, {"type": "ndjson", "path": "out"}, "one stream of rows"),
        ({"type": "ndjson"}, {"type": "stdout"}, "standard output"),
        ({"type": "ndjson"}, {"type": "ndjson", "path": "s3://bucket/out"}, "an object store"),
    ],
)
def test_what_only_one_process_can_do_is_not_divided(source: dict, sink: dict, said: str) -> None:
    """Inputs without a place in bytes, single streams, and outputs with one writer are refused with --processes."""
    spec = PipelineSpec(version=1, name="p", source=SourceSpec(key="id", **source), sink=SinkSpec(**sink))
    with pytest.raises(ConfigError, match=said) as caught:
        refuse_indivisible(spec, can_reread=True)
    assert "leave --processes out" in caught.value.hint
