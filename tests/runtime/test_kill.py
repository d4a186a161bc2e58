"""kill -9 at any instant: the next run ends as an undisturbed one would have, with no job created twice."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.process import CITIES, ask, finish, manifest_in, report_of, rows_in, standing_emulator, start

INSTANTS = 20
ROWS = 1200
JOBS = 60
_PIPELINE = """
version = 1
name    = "{name}"
[source]
type  = "csv"
paths = ["{cities}"]
key   = "city_id"
[source.fields]
city_id = "str"
population = "int"
[job]
kind  = "import.bulk"
batch = {{ rows = 20 }}
jobs_in_flight = 16
[job.payload]
entity_type = "location"
mapping     = {{ city_id = "external_id", name = "label" }}
[results.fields]
external_id = "str"
id          = "str"
[sink]
type   = "ndjson"
path   = "out"
rotate = {{ rows = 250 }}
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[dict[str, Any]]:
    """One emulator for all rounds, slow enough that a run has instants to be killed at."""
    with standing_emulator("--latency", "0.25s", "--seed", "7") as ready:
        yield ready


def _prepare(directory: Path, name: str) -> list[str]:
    (directory / "p.toml").write_text(_PIPELINE.format(name=name, cities=CITIES))
    return ["run", "p.toml", "--json"]


def _identities(directory: Path) -> list[tuple[str, str]]:
    return sorted((row["external_id"], row["id"]) for row in rows_in(directory))


@pytest.fixture(scope="module")
def undisturbed(
    emulator: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[tuple[str, str]], float]:
    """The rows of a run that nobody killed, and how long it took."""
    directory = tmp_path_factory.mktemp("undisturbed")
    arguments = _prepare(directory, "undisturbed")
    code, out, err = finish(start(arguments, cwd=directory, ENGINE__PLATFORM__EMULATOR__URL=emulator["url"]))
    assert code == 0, err
    rows = _identities(directory / "out")
    assert len(rows) == len(set(rows)) == ROWS
    return rows, float(report_of(out)["seconds"])


@pytest.mark.parametrize("instant", range(INSTANTS))
def test_killed_at_a_random_instant(
    instant: int, emulator: dict[str, Any], undisturbed: tuple[list[tuple[str, str]], float], tmp_path: Path
) -> None:
    """Killed once at this instant and run again: the same rows once each, the books balanced, no job twice."""
    rows, seconds = undisturbed
    after_s = 0.3 + random.Random(instant).random() * (seconds + 0.4)
    arguments = _prepare(tmp_path, f"killed-{instant}")
    before = ask(f"{emulator['url']}/__emulator/books")["creates"]
    extra = {"ENGINE__PLATFORM__EMULATOR__URL": emulator["url"]}

    victim = start(arguments, cwd=tmp_path, **extra)
    with contextlib.suppress(subprocess.TimeoutExpired):
        victim.wait(timeout=after_s)
    victim.kill()
    finish(victim)
    code, out, err = finish(start(arguments, cwd=tmp_path, **extra))

    assert code == 0, err
    report = report_of(out)
    assert (report["read"], report["accepted"], report["open"]) == (ROWS, ROWS, 0)
    assert _identities(tmp_path / "out") == rows
    assert ask(f"{emulator['url']}/__emulator/books")["creates"] - before == JOBS
    manifest = manifest_in(tmp_path / "out")
    parts = {part["name"]: part for part in manifest["parts"]}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*parts, "_manifest.json"}
    assert manifest["rows"] == ROWS
    for name, part in parts.items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == part["sha256"]
