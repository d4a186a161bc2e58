"""Whole runs over every kind of input and output there is."""

from __future__ import annotations

import csv
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Rig
from tests.runtime.process import ROOT, environment, report_of, rows_in, standing_emulator

pytestmark = pytest.mark.anyio

_ROWS = [{"id": f"r{n}", "name": f"Zeile {n}, \u00e4\u00f6\u00fc"} for n in range(45)]


def _ndjson() -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in _ROWS)


def _csv(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "name"])
        writer.writeheader()
        writer.writerows(_ROWS)


def _zstd(data: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.compress(data)


async def test_gzip_and_zstd_files_are_read_by_their_suffix(rig: Rig) -> None:
    """Plain, gzip (two members) and zstd files of one glob: every row of each, once."""
    rig.replace("in*.ndjson", "in*")
    half = len(_ndjson().splitlines(keepends=True)) // 2
    lines = _ndjson().splitlines(keepends=True)
    (rig.directory / "in1.ndjson").write_bytes(b"".join(lines[:10]))
    two_members = gzip.compress(b"".join(lines[10:half])) + gzip.compress(b"".join(lines[half:30]))
    (rig.directory / "in2.ndjson.gz").write_bytes(two_members)
    (rig.directory / "in3.ndjson.zst").write_bytes(_zstd(b"".join(lines[30:])))
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 45)
    assert rig.keys() == sorted(row["id"] for row in _ROWS)


async def test_csv_in_and_csv_out(rig: Rig) -> None:
    """A CSV file becomes jobs, and their results a CSV file that any reader opens."""
    rig.replace('type  = "ndjson"', 'type  = "csv"')
    rig.replace("in*.ndjson", "in.csv")
    rig.replace('type   = "ndjson"', 'type   = "csv"')
    _csv(rig.directory / "in.csv")
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 45)
    assert sorted(row["external_id"] for row in rows_in(rig.out)) == sorted(row["id"] for row in _ROWS)
    labels = {row[0] for row in rig.emulator.state.db.execute("SELECT label FROM entities")}
    assert labels == {row["name"] for row in _ROWS}


async def test_parquet_out(rig: Rig) -> None:
    """Results land in a Parquet file with the declared columns."""
    arro3 = pytest.importorskip("arro3.io", reason="parquet: pip install 'engine[parquet]'")
    rig.replace('type   = "ndjson"', 'type   = "parquet"')
    rig.write(45)
    report = await rig.run()
    assert (report.outcome, report.accepted, report.parts) == ("done", 45, 1)
    (part,) = rig.out.glob("part-*.parquet")
    table = arro3.read_parquet(str(part)).read_all()
    assert table.column_names == ["external_id", "id", "status"]
    assert sorted(table["external_id"].to_pylist()) == sorted(f"r{n}" for n in range(45))


async def test_enrichment_and_export_account_for_every_row(rig: Rig) -> None:
    """What was imported is enriched and exported by key: each row asked for comes back exactly once."""
    rig.write(45)
    await rig.run()
    for kind, match, extra in (
        ("intelligence.enrich.bulk", "profile_id", ""),
        ("export.bulk", "id", 'format = "jsonl"'),
    ):
        head = re.sub(r'name += "\w+"', f'name = "{match}"', rig.text.split("[job]")[0], count=1)
        rig.text = head + (
            f'[job]\nkind = "{kind}"\nbatch = {{ rows = 10 }}\n[job.payload]\n{extra}\n'
            f'[sink]\ntype = "ndjson"\npath = "{rig.directory}/{kind}"\n'
        )
        report = await rig.run()
        assert (report.outcome, report.read, report.accepted) == ("done", 45, 45)
        found = sorted(row[match] for row in rows_in(rig.directory / kind))
        assert found == sorted(f"r{n}" for n in range(45))


_PIPED = """
version = 1
name    = "piped"
[source]
type  = "ndjson"
paths = ["-"]
key   = "id"
[job]
kind  = "import.bulk"
batch = { rows = 5 }
[job.payload]
entity_type = "location"
mapping     = { id = "external_id", name = "label" }
[sink]
type = "ndjson"
path = "out"
"""


def _pipe(directory: Path, url: str, data: bytes, *, kill_after_s: float | None = None) -> tuple[int, str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "run", "p.toml", "--json"],
        cwd=directory,
        env={**environment(), "PYTHONPATH": str(ROOT), "ENGINE__PLATFORM__EMULATOR__URL": url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = process.communicate(data, timeout=kill_after_s or 60)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return process.returncode, out.decode() + err.decode()


def test_rows_from_a_pipe_survive_a_kill(tmp_path: Path) -> None:
    """Killed while its jobs run and given the same pipe again: rows that were taken are not taken twice."""
    (tmp_path / "p.toml").write_text(_PIPED)
    with standing_emulator("--latency", "1s") as ready:
        _pipe(tmp_path, ready["url"], _ndjson(), kill_after_s=1.6)
        code, said = _pipe(tmp_path, ready["url"], _ndjson())
        assert code == 0, said
        report: dict[str, Any] = report_of(said.split("\n")[0])
        assert (report["read"], report["accepted"], report["open"]) == (45, 45, 0)
    assert sorted(row["external_id"] for row in rows_in(tmp_path / "out")) == sorted(row["id"] for row in _ROWS)


def test_a_pipe_that_only_begins_alike_is_refused(tmp_path: Path) -> None:
    """Other rows behind the same beginning are never skipped as taken: nothing is lost, and the hint is --fresh."""
    (tmp_path / "p.toml").write_text(_PIPED)
    head = b"".join(b'{"id":"h%d","name":"same beginning"}\n' % n for n in range(200))
    with standing_emulator("--latency", "0.05s") as ready:
        code, said = _pipe(tmp_path, ready["url"], head + _ndjson())
        assert code == 0, said
        code, said = _pipe(tmp_path, ready["url"], head + _ndjson().replace(b'"r', b'"s'))
        assert code == 65, said
        assert "begins like the input that was read" in said
        assert "--fresh" in said
        code, said = _pipe(tmp_path, ready["url"], b'{"id":"other","name":"another pipe"}\n')
        assert code == 0, said
        assert report_of(said.split("\n")[0])["accepted"] == 1
