"""Runs over JSON arrays and Parquet files: killed and gone on with, every row lands once."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.components.test_counted_sources import rows, write
from tests.runtime.process import engine, finish, report_of, rows_in, start

ROWS = 35_000
_PIPELINE = """
version = 1
name    = "counted"
[source]
type  = "{kind}"
paths = ["in*"]
key   = "id"
[sink]
type   = "ndjson"
path   = "out"
rotate = {{ rows = 10_000 }}
"""


@pytest.mark.parametrize("kind", ["json", "parquet"])
@pytest.mark.parametrize("point", ["ledger:planned:after:2", "sink:rename:after:2"])
def test_killed_and_gone_on_with_every_row_lands_once(tmp_path: Path, kind: str, point: str) -> None:
    """A kill while planning or landing: the next run has each row once, and a third finds nothing new."""
    write(kind, tmp_path / "in", rows(ROWS))
    (tmp_path / "p.toml").write_text(_PIPELINE.format(kind=kind))
    victim = start(["run", "p.toml", "--json"], cwd=tmp_path, ENGINE_FAILPOINT=point)
    finish(victim)
    assert victim.returncode == -signal.SIGKILL
    code, out, err = engine(["run", "p.toml", "--json"], cwd=tmp_path)

    assert code == 0, err
    report = report_of(out)
    assert (report["read"], report["accepted"], report["open"]) == (ROWS, ROWS, 0)
    assert sorted(row["n"] for row in rows_in(tmp_path / "out")) == list(range(ROWS))
    code, out, err = engine(["run", "p.toml", "--json"], cwd=tmp_path)
    assert (code, report_of(out)["outcome"]) == (0, "nothing_new"), err
