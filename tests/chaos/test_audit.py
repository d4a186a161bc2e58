"""The auditor sees what is wrong: each fault is planted into a run that was right, and found by its name."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.chaos.audit import Audited, Finding, audit_pipeline, audit_platform
from engine.chaos.rows import Reference
from engine.chaos.scratch import Scratch
from engine.chaos.targets import count_source, target_of
from engine.settings import ObjectsSettings
from tests.chaos.conftest import Calm


@pytest.fixture
def scratch(calm: Calm, tmp_path: Path) -> Scratch:
    """A copy of an undisturbed run, to spoil."""
    shutil.copytree(calm.scratch.root, tmp_path / "copy", symlinks=True)
    return Scratch(tmp_path / "copy")


@pytest.fixture
def found(calm: Calm, scratch: Scratch) -> Callable[..., dict[str, int]]:
    """What the auditor finds in the copy: fault and count."""

    def look(**members: Any) -> dict[str, int]:
        reference = calm.undisturbed.references[0]
        return _counts(_audited(calm, scratch, reference, **members).findings)

    return look


def _audited(calm: Calm, scratch: Scratch, reference: Reference | None, **members: Any) -> Audited:
    target = target_of(calm.pipeline, scratch, ObjectsSettings())
    in_input = count_source(calm.pipeline.spec.source, scratch.root, ObjectsSettings())
    assert in_input == 1200
    return audit_pipeline(target, scratch.ledger(calm.pipeline), in_input, reference, **members)


def _counts(findings: list[Finding]) -> dict[str, int]:
    return {finding.fault: finding.count for finding in findings}


def _part(scratch: Scratch) -> Path:
    return next((scratch.root / "out" / "import").glob("part-*"))


def _lines(scratch: Scratch) -> list[str]:
    return _part(scratch).read_text().splitlines(keepends=True)


def _ledger(scratch: Scratch, sql: str) -> None:
    with sqlite3.connect(scratch.state / "import" / "ledger.sqlite") as db:
        db.execute(sql)


def _platform(calm: Calm, scratch: Scratch, **books: int) -> dict[str, int]:
    sums = _audited(calm, scratch, None).sums
    assert sums is not None
    return _counts(audit_platform(scratch.platform / "state.sqlite", {"creates": 12, **books}, [sums]))


def test_an_undisturbed_run_is_right(calm: Calm, scratch: Scratch, found: Callable[..., dict[str, int]]) -> None:
    """Nothing is found where nothing is wrong."""
    assert found() == {}
    assert _platform(calm, scratch) == {}


def test_a_doubled_row_is_found(scratch: Scratch, found: Callable[..., dict[str, int]]) -> None:
    """A line that stands twice is one doubled row, and the file is no longer the manifest's."""
    lines = _lines(scratch)
    _part(scratch).write_text("".join([*lines, lines[7]]))
    assert found() == {"doubled": 1, "files": 1, "unbalanced": 1}


def test_missing_rows_are_found(scratch: Scratch, found: Callable[..., dict[str, int]]) -> None:
    """Two lines that are gone are two lost rows, whatever the manifest says."""
    _part(scratch).write_text("".join(_lines(scratch)[2:]))
    assert found()["lost"] == 2


def test_a_row_for_another_is_found(scratch: Scratch, found: Callable[..., dict[str, int]]) -> None:
    """One row written over another: as many rows as before, yet one lost and one doubled."""
    lines = _lines(scratch)
    _part(scratch).write_text("".join([*lines[:-1], lines[0]]))
    assert (found()["lost"], found()["doubled"]) == (1, 1)


def test_a_changed_row_is_found(scratch: Scratch, found: Callable[..., dict[str, int]]) -> None:
    """A row with another content is one changed row, not a lost one."""
    lines = _lines(scratch)
    _part(scratch).write_text("".join([lines[0].replace('"created"', '"updated"'), *lines[1:]]))
    counts = found()
    assert (counts["changed"], "lost" in counts) == (1, False)


@pytest.mark.parametrize("name", ["part-0001-000099.ndjson", ".part-0001-000099.ndjson.tmp", "notes.txt"])
def test_an_orphan_file_is_found(name: str, scratch: Scratch, found: Callable[..., dict[str, int]]) -> None:
    """A file that no manifest lists: a part nobody committed, a temporary file, a stranger."""
    (scratch.root / "out" / "import" / name).touch()
    assert found()["files"] == 1


@pytest.mark.parametrize(("member", "lie"), [("rows", 1199), ("sha256", "0" * 64), ("name", "part-0001-000002.ndjson")])
def test_a_manifest_that_lies_is_found(
    member: str, lie: Any, scratch: Scratch, found: Callable[..., dict[str, int]]
) -> None:
    """Rows, digest or name that are not those of the file."""
    path = scratch.root / "out" / "import" / "_manifest.json"
    document = json.loads(path.read_text())
    document["parts"][0][member] = lie
    path.write_text(json.dumps(document))
    assert "files" in found()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE runs SET read = read - 1",
        "UPDATE jobs SET accepted = accepted - 1, rejected = rejected + 1 WHERE seq = 1",
        "UPDATE jobs SET accepted = accepted - 1 WHERE seq = 1",
        "UPDATE jobs SET state = 'submitted' WHERE seq = 3",
        "DELETE FROM parts",
        "INSERT INTO runs SELECT 'x', 2, 0, trace_id, span_id, 0, 0, 0, 1, NULL, NULL, NULL, NULL, '', NULL FROM runs",
    ],
)
def test_books_that_do_not_balance_are_found(sql: str, scratch: Scratch, found: Callable[..., dict[str, int]]) -> None:
    """A ledger that adds up to something else than the input, the files or the dead letters."""
    _ledger(scratch, sql)
    assert found() == {"unbalanced": 1}


def test_a_row_with_two_ends_is_found(scratch: Scratch, found: Callable[..., dict[str, int]]) -> None:
    """A row that is in the files and in the dead letters, even where rows may die."""
    key = json.loads(_lines(scratch)[0])["external_id"]
    _ledger(
        scratch,
        'INSERT INTO dead_letters (id, run_id, epoch, seq, bucket, stage, code, reason, input, line, start, "end",'
        " key, raw, remote_id, trace_id, created_ns) SELECT 1, run_id, 1, 1, 'dead', 'job', 'c', 'r', 'i', 1, 0, 1,"
        f" '{key}', x'00', NULL, NULL, 1 FROM runs",
    )
    assert found(may_die=True)["doubled"] == 1


def test_a_dead_letter_excuses_a_row_only_where_rows_may_die(
    scratch: Scratch, found: Callable[..., dict[str, int]]
) -> None:
    """A row that went to the dead letters and should not have is a lost one."""
    lines = _lines(scratch)
    key = json.loads(lines[0])["external_id"]
    _part(scratch).write_text("".join(lines[1:]))
    _ledger(
        scratch,
        'INSERT INTO dead_letters (id, run_id, epoch, seq, bucket, stage, code, reason, input, line, start, "end",'
        " key, raw, remote_id, trace_id, created_ns) SELECT 1, run_id, 1, 1, 'dead', 'job', 'c', 'r', 'i', 1, 0, 1,"
        f" '{key}', x'00', NULL, NULL, 1 FROM runs",
    )
    assert found()["lost"] == 1
    assert "lost" not in found(may_die=True)


def test_a_job_made_twice_is_found(calm: Calm, scratch: Scratch) -> None:
    """A second job of a payload, under a trace of its own, that no ledger knows."""
    with sqlite3.connect(scratch.platform / "state.sqlite") as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(jobs)")]
        chosen = ", ".join({"id": "'01TWICE'", "trace_id": "'ff'"}.get(name, name) for name in columns)
        db.execute(f"INSERT INTO jobs SELECT {chosen} FROM jobs LIMIT 1")
    assert _platform(calm, scratch)["job twice"] == 1


def test_a_create_too_many_is_found(calm: Calm, scratch: Scratch) -> None:
    """More 201s than jobs: somebody was told of a job that is not there."""
    assert _platform(calm, scratch, creates=13) == {"job twice": 1}


def test_a_job_the_platform_does_not_know_is_found(calm: Calm, scratch: Scratch) -> None:
    """A remote id in the ledger that the platform never gave."""
    _ledger(scratch, "UPDATE jobs SET remote_id = 'invented' WHERE seq = 1")
    assert set(_platform(calm, scratch)) == {"job twice", "unbalanced"}
