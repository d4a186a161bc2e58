"""Pipelines without jobs as processes: the shipped ones as typed, and one that is killed."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.runtime.process import ROOT, ask, engine, finish, report_of, standing_emulator, start

KILLS = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the shipped pipelines and their data."""
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    return tmp_path


@pytest.mark.parametrize(("name", "rows"), [("devices", 240), ("encounters", 60), ("transcripts", 40)])
def test_a_shipped_pipeline_runs_as_typed(folder: Path, name: str, rows: int) -> None:
    """On an emulator that the run starts: every row is accepted, and a second run asks for nothing."""
    code, out, err = engine(["run", f"pipelines/{name}.toml", "--json"], cwd=folder)
    assert code == 0, err
    report = report_of(out)
    assert (report["read"], report["accepted"], report["jobs"]) == (rows, rows, 0)
    code, out, err = engine(["run", f"pipelines/{name}.toml", "--json"], cwd=folder)
    assert (code, report_of(out)["outcome"]) == (0, "nothing_new"), err


def test_encounters_are_fhir_bundles_on_disk(folder: Path) -> None:
    """One line for each encounter: its id, and a Bundle with the encounter's own resource."""
    code, _, err = engine(["run", "pipelines/encounters.toml"], cwd=folder)
    assert code == 0, err
    [part] = (folder / "out" / "encounters").glob("part-*.ndjson.gz")
    rows = [json.loads(line) for line in gzip.decompress(part.read_bytes()).splitlines()]
    assert len(rows) == 60
    for row in rows:
        kinds = {entry["resource"]["resourceType"] for entry in row["bundle"]["entry"]}
        assert "Encounter" in kinds


def test_killed_again_and_again_every_row_is_at_the_platform_once(folder: Path) -> None:
    """A kill -9 at growing numbers of requests; in the end the platform has each measurement once."""
    count = 1500
    lines = (folder / "pipelines" / "data" / "observations.ndjson").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    with (folder / "pipelines" / "data" / "observations.ndjson").open("w") as file:
        for number in range(count):
            file.write(json.dumps({**rows[number % len(rows)], "observation": f"o{number}"}) + "\n")
    with standing_emulator("--state", str(folder / "emulator.sqlite")) as ready:
        arguments = ["--set", f"platform.emulator.url={ready['url']}", "run", "pipelines/devices.toml", "--json"]

        def asked() -> int:
            return int(ask(f"{ready['url']}/__emulator/books")["requests"].get("devices.observe", 0))

        killed = 0
        for turn in range(KILLS):
            until = asked() + 30 + 60 * turn
            process = start(arguments, cwd=folder)
            while process.poll() is None and asked() < until:
                pass
            killed += process.poll() is None
            process.kill()
            finish(process)
        code, out, err = finish(start(arguments, cwd=folder))
        assert code == 0, err
        assert killed == KILLS
        report = report_of(out)
        assert (report["read"], report["accepted"], report["open"]) == (count, count, 0)
        assert asked() > count
    db = sqlite3.connect(folder / "emulator.sqlite")
    [(there, keys)] = db.execute("SELECT count(*), count(DISTINCT key) FROM observations").fetchall()
    db.close()
    assert (there, keys) == (count, count)
