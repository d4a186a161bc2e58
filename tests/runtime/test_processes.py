"""A pipeline in several processes: one report, the same output, and nothing lost or doubled whoever is killed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.process import (
    ROOT,
    ask,
    engine,
    finish,
    manifest_in,
    report_of,
    rows_in,
    standing_emulator,
    start,
)

ROWS = 1200
_PIPELINE = """
version = 1
name    = "{name}"
[source]
type  = "{kind}"
paths = ["in*.{kind}"]
key   = "id"
[job]
kind  = "import.bulk"
batch = {{ rows = 20 }}
jobs_in_flight = 16
[job.payload]
entity_type = "location"
mapping     = {{ id = "external_id", name = "label" }}
[results.fields]
external_id = "str"
id          = "str"
[sink]
type   = "ndjson"
path   = "{out}"
rotate = {{ rows = 250 }}
{more}
"""
_PASSING = """
version = 1
name    = "passing"
[source]
type  = "ndjson"
paths = [{paths}]
key   = "id"
[sink]
type = "ndjson"
path = "out"
{more}
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[dict[str, Any]]:
    """One emulator for all runs, slow enough that a run can be disturbed in its course."""
    with standing_emulator("--latency", "0.2s", "--seed", "7") as ready:
        yield ready


@pytest.fixture
def extra(emulator: dict[str, Any]) -> dict[str, str]:
    """The environment that leads to that emulator."""
    return {"ENGINE__PLATFORM__EMULATOR__URL": emulator["url"]}


def _input(here: Path, kind: str = "ndjson", *, first: int = 0, rows: int = ROWS, name: str = "in") -> None:
    """Append rows to an input, over several blocks of it."""
    path = here / f"{name}.{kind}"
    pad = "y" * 250
    with path.open("a") as file:
        if kind == "csv" and not path.stat().st_size:
            file.write("id,name,x\n")
        for number in range(first, first + rows):
            row = {"id": f"r{number}", "name": f"Row {number}", "x": pad}
            file.write((json.dumps(row) if kind == "ndjson" else ",".join(row.values())) + "\n")


def _prepare(here: Path, name: str, *, kind: str = "ndjson", out: str = "out", more: str = "") -> list[str]:
    (here / f"{name}.toml").write_text(_PIPELINE.format(name=name, kind=kind, out=out, more=more))
    return ["run", f"{name}.toml", "--json", "--processes", "2"]


def _passing(here: Path, *, paths: str = '"in*.ndjson"', more: str = "") -> list[str]:
    (here / "p.toml").write_text(_PASSING.format(paths=paths, more=more))
    return ["run", "p.toml", "--json", "--processes", "2"]


def _creates(emulator: dict[str, Any]) -> int:
    return int(ask(f"{emulator['url']}/__emulator/books")["creates"])


def _identities(directory: Path) -> list[tuple[str, str]]:
    return sorted((row["external_id"], row["id"]) for row in rows_in(directory))


def _keys(directory: Path, name: str = "external_id") -> list[str]:
    return sorted(row[name] for row in rows_in(directory))


def _expected(rows: int = ROWS) -> list[str]:
    return sorted(f"r{number}" for number in range(rows))


def _books(report: dict[str, Any]) -> tuple[str, int, int, int]:
    return report["outcome"], report["read"], report["accepted"], report["open"]


def _planned(here: Path, name: str) -> int:
    """Jobs in the ledgers of both shares."""
    total = 0
    for tag in ("1of2", "2of2"):
        db = sqlite3.connect(here / ".engine" / f"{name}.{tag}" / "ledger.sqlite")
        total += int(db.execute("SELECT count(*) FROM jobs").fetchone()[0])
        db.close()
    return total


def _check_manifests(directory: Path, rows: int) -> None:
    """Each share's manifest is true, and the joint one lists what they list and all that is there."""
    joint = manifest_in(directory)
    listed = {part["name"]: part for part in joint["parts"]}
    assert joint["rows"] == rows == sum(part["rows"] for part in listed.values())
    assert {path.name for path in directory.glob("part-*")} == set(listed)
    assert not list(directory.glob(".*"))
    shares = []
    for path in sorted(directory.glob("_manifest.*of*.json")):
        shares += json.loads(path.read_text())["parts"]
    assert sorted(part["name"] for part in shares) == sorted(listed)
    for name, part in listed.items():
        assert hashlib.sha256((directory / name).read_bytes()).hexdigest() == part["sha256"]


def _children(process: subprocess.Popen[str]) -> list[int]:
    """The processes of the shares."""
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except OSError:
        return []


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _started(arguments: list[str], here: Path, emulator: dict[str, Any], *, jobs: int) -> subprocess.Popen[str]:
    """Start a run, and come back once the platform has so many jobs more."""
    until = _creates(emulator) + jobs
    process = start(arguments, cwd=here, ENGINE__PLATFORM__EMULATOR__URL=emulator["url"])
    while process.poll() is None and _creates(emulator) < until:
        pass
    assert process.poll() is None
    return process


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_two_processes_land_what_one_does(kind: str, tmp_path: Path, extra: dict[str, str]) -> None:
    """The same rows as in one process, with every manifest true and the jobs added up in one report."""
    _input(tmp_path, kind)
    one = _prepare(tmp_path, f"one-{kind}", kind=kind, out="one")[:-2]
    two = _prepare(tmp_path, f"two-{kind}", kind=kind)
    assert engine(one, cwd=tmp_path, **extra)[0] == 0

    code, out, err = engine(two, cwd=tmp_path, **extra)

    assert code == 0, err
    report = report_of(out)
    assert _books(report) == ("done", ROWS, ROWS, 0)
    assert report["jobs"] == sum(shard["jobs"] for shard in report["shards"]) == _planned(tmp_path, f"two-{kind}")
    assert all(shard["read"] for shard in report["shards"])
    assert _identities(tmp_path / "out") == _identities(tmp_path / "one")
    _check_manifests(tmp_path / "out", ROWS)


def test_a_second_run_takes_what_is_new(tmp_path: Path) -> None:
    """First nothing; then what was appended to a file and what came in a new one, and no row a second time."""
    _input(tmp_path)
    arguments = _passing(tmp_path)
    assert engine(arguments, cwd=tmp_path)[0] == 0

    code, out, err = engine(arguments, cwd=tmp_path)

    assert (code, _books(report_of(out))) == (0, ("nothing_new", ROWS, ROWS, 0)), err
    _input(tmp_path, first=ROWS, rows=300)
    _input(tmp_path, first=ROWS + 300, rows=100, name="in2")
    code, out, err = engine(arguments, cwd=tmp_path)
    assert (code, _books(report_of(out))) == (0, ("done", 400, 400, 0)), err
    assert _keys(tmp_path / "out", "id") == _expected(ROWS + 400)
    _check_manifests(tmp_path / "out", ROWS + 400)


@pytest.mark.parametrize("who", ["share", "starter"])
def test_killed_and_run_again(who: str, tmp_path: Path, emulator: dict[str, Any], extra: dict[str, str]) -> None:
    """A kill -9 of a share, or of what started them: it is told, and in the end each row is there once."""
    _input(tmp_path)
    arguments = _prepare(tmp_path, f"killed-{who}")
    before = _creates(emulator)
    process = _started(arguments, tmp_path, emulator, jobs=6)
    pids = _children(process)
    assert len(pids) == 2
    if who == "share":
        os.kill(pids[0], signal.SIGKILL)
        code, out, err = finish(process)
        assert code == 1
        assert "killed by signal 9" in err
        report = report_of(out)
        assert (report["outcome"], report["exit_code"]) == ("failed", 1)
        assert sorted(shard["outcome"] for shard in report["shards"]) == ["done", "failed"]
    else:
        process.kill()
        finish(process)

    code, out, err = engine(arguments, cwd=tmp_path, **extra)

    assert code == 0, err
    assert not any(_is_there(pid) for pid in pids)
    assert _keys(tmp_path / "out") == _expected()
    assert _creates(emulator) - before == _planned(tmp_path, f"killed-{who}")
    _check_manifests(tmp_path / "out", ROWS)


def test_a_stop_reaches_every_share(tmp_path: Path, emulator: dict[str, Any], extra: dict[str, str]) -> None:
    """SIGTERM to the run stops its shares in order, with one report; a changed file does not keep the next from it."""
    _input(tmp_path)
    arguments = _prepare(tmp_path, "stopped")
    before = _creates(emulator)
    process = _started(arguments, tmp_path, emulator, jobs=6)

    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)

    report = report_of(out)
    assert (code, report["outcome"]) == (75, "interrupted"), err
    assert report["open"] == sum(shard["open"] for shard in report["shards"]) > 0
    changed = (tmp_path / "stopped.toml").read_text().replace("rows = 20 }", "rows = 30 }")
    (tmp_path / "stopped.toml").write_text(changed)
    code, out, err = engine([*arguments, "--finish-old-then-new"], cwd=tmp_path, **extra)
    assert code == 0, err
    assert _keys(tmp_path / "out") == _expected()
    assert _creates(emulator) - before == _planned(tmp_path, "stopped")


def test_the_number_of_processes_is_fixed(tmp_path: Path) -> None:
    """What was taken is known share by share: another number, one process, or several after one are refused."""
    _input(tmp_path)
    arguments = _passing(tmp_path)
    assert engine(arguments, cwd=tmp_path)[0] == 0

    for refused, hint in ((["run", "p.toml"], "--processes 2"), ([*arguments[:-1], "3"], "--processes 2")):
        code, _, err = engine(refused, cwd=tmp_path)
        assert (code, hint in err) == (3, True), err
    shutil.rmtree(tmp_path / ".engine")
    shutil.rmtree(tmp_path / "out")
    assert engine(arguments[:-2], cwd=tmp_path)[0] == 0
    code, _, err = engine(arguments, cwd=tmp_path)
    assert (code, "leave --processes out" in err) == (3, True), err
    assert len(rows_in(tmp_path / "out")) == ROWS


def test_a_pipe_is_not_divided(tmp_path: Path) -> None:
    """Standard input can be read by one process only, and that is said before anything is started."""
    code, _, err = engine(_passing(tmp_path, paths='"-"'), cwd=tmp_path)

    assert (code, "can be read by one process only" in err) == (3, True), err
    assert not list((tmp_path / ".engine").glob("*.1of2"))


def test_fresh_begins_each_share_anew_once(tmp_path: Path) -> None:
    """`--fresh` reads everything again in every share, and the old parts go; the next run finds nothing new."""
    _input(tmp_path)
    arguments = _passing(tmp_path)
    assert engine(arguments, cwd=tmp_path)[0] == 0

    code, out, err = engine([*arguments, "--fresh"], cwd=tmp_path)

    assert (code, _books(report_of(out))) == (0, ("done", ROWS, ROWS, 0)), err
    assert [shard["epoch"] for shard in report_of(out)["shards"]] == [2, 2]
    assert _keys(tmp_path / "out", "id") == _expected()
    _check_manifests(tmp_path / "out", ROWS)
    code, out, err = engine(arguments, cwd=tmp_path)
    assert (code, report_of(out)["outcome"]) == (0, "nothing_new"), err


def test_limit_and_expectations_are_of_the_whole(tmp_path: Path) -> None:
    """`--limit` is divided, and `min_rows` is held against the sum: no share alone has so many."""
    _input(tmp_path)
    arguments = _passing(tmp_path, more="[expect]\nmin_rows = 1000")

    code, out, err = engine([*arguments, "--limit", "101"], cwd=tmp_path)

    report = report_of(out)
    assert (code, report["outcome"], report["read"]) == (6, "too_few_rows", 101), err
    assert [shard["read"] for shard in report["shards"]] == [51, 50]
    code, out, err = engine(arguments, cwd=tmp_path)
    assert (code, _books(report_of(out))) == (0, ("done", ROWS - 101, ROWS - 101, 0)), err
    assert _keys(tmp_path / "out", "id") == _expected()


def test_dead_letters_are_judged_together_and_replayed_by_share(tmp_path: Path) -> None:
    """Bad rows that are many in one share and few in all are no failure; a share's letters are sent again."""
    _input(tmp_path)
    lines = (tmp_path / "in.ndjson").read_bytes().splitlines()
    for number in range(8):
        lines[number] = b'{"name":"no id"}'
    (tmp_path / "in.ndjson").write_bytes(b"\n".join(lines) + b"\n")
    arguments = _passing(tmp_path, more='[dead_letters]\nmax = "1%"')

    code, out, err = engine(arguments, cwd=tmp_path)

    report = report_of(out)
    assert (code, report["outcome"], report["dead"]) == (0, "done", 8), err
    [tag] = [shard["shard"] for shard in report["shards"] if shard["dead"]]
    _, out, _ = engine(["dlq", "ls", "p.toml", "--json"], cwd=tmp_path)
    letters = [json.loads(line) for line in out.splitlines()]
    assert {letter["pipeline"] for letter in letters} == {f"passing.{tag}"}
    _, out, _ = engine(["jobs", "cancel", "passing"], cwd=tmp_path)
    assert [line.partition(":")[0] for line in out.splitlines()] == ["passing.1of2", "passing.2of2"]
    letter = str(letters[0]["id"])
    edit = ["dlq", "edit", letter, "-p", f"passing.{tag}", "--set", "id=mended"]
    assert engine(edit, cwd=tmp_path)[0] == 0
    code, _, err = engine(["dlq", "replay", "p.toml", "--id", letter], cwd=tmp_path)
    assert (code, "--shard" in err) == (3, True), err
    code, out, err = engine(["dlq", "replay", "p.toml", "--shard", tag, "--id", letter, "--json"], cwd=tmp_path)
    assert (code, report_of(out)["accepted"]) == (0, 1), err
    assert "mended" in _keys(tmp_path / "out", "id")
    _check_manifests(tmp_path / "out", ROWS - 8 + 1)


def test_another_pipeline_keeps_out_of_the_directory(tmp_path: Path) -> None:
    """The directory of shares belongs to their pipeline: another one is refused, in one process or in two."""
    _input(tmp_path)
    assert engine(_passing(tmp_path), cwd=tmp_path)[0] == 0
    text = (tmp_path / "p.toml").read_text().replace('"passing"', '"other"')
    (tmp_path / "other.toml").write_text(text)

    for more in ([], ["--processes", "2"]):
        code, _, err = engine(["run", "other.toml", *more], cwd=tmp_path)
        assert (code, "holds the parts of the pipeline `passing`" in err) == (73, True), err
    _check_manifests(tmp_path / "out", ROWS)


def test_the_shipped_pipelines_in_two_processes(tmp_path: Path) -> None:
    """On an emulator that each run starts: what `import` landed is enriched, and a second run finds nothing new."""
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    arguments = ["run", "pipelines/import.toml", "pipelines/enrich.toml", "--json", "--processes", "2"]

    code, out, err = engine(arguments, cwd=tmp_path)

    assert code == 0, err
    reports = [json.loads(line) for line in out.splitlines()]
    assert [_books(report) for report in reports] == [("done", 1200, 1200, 0)] * 2
    assert len({row["profile_id"] for row in rows_in(tmp_path / "out" / "enrich")}) == 1200
    code, out, err = engine(["run", "pipelines/import.toml", *arguments[3:]], cwd=tmp_path)
    assert (code, report_of(out)["outcome"]) == (0, "nothing_new"), err


def test_rows_that_are_asked_for_one_by_one(tmp_path: Path, emulator: dict[str, Any], extra: dict[str, str]) -> None:
    """A pipeline without jobs is divided like any other: each measurement is at the platform once."""
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    path = tmp_path / "pipelines" / "data" / "observations.ndjson"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    count = 1000
    texts = [json.dumps({**rows[number % len(rows)], "observation": f"o{number}"}) for number in range(count)]
    path.write_text("\n".join(texts) + "\n")

    def asked() -> int:
        return int(ask(f"{emulator['url']}/__emulator/books")["requests"].get("devices.observe", 0))

    before = asked()
    arguments = ["run", "pipelines/devices.toml", "--json", "--processes", "2"]

    code, out, err = engine(arguments, cwd=tmp_path, **extra)

    assert (code, _books(report_of(out))) == (0, ("done", count, count, 0)), err
    assert all(shard["read"] for shard in report_of(out)["shards"])
    assert asked() - before == count
