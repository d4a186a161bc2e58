"""Whole runs into a URL: killed after it was asked, refused some rows, and each row taken once under its key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.conftest import Rig
from tests.runtime.process import engine, report_of
from tests.runtime.receiver import Receiver, receiving

_PIPELINE = """
version = 1
name    = "posts"
[source]
type  = "ndjson"
paths = ["in.ndjson"]
key   = "id"
[sink]
type     = "http"
endpoint = "{url}"
headers  = {{ Authorization = "${{secret:env:RECEIVER_TOKEN}}" }}
batch    = {{ rows = 10 }}
rotate   = {{ rows = 40 }}
[dead_letters]
max = "50%"
"""


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    """A receiver, and a pipeline of 100 rows into it."""
    with receiving() as one:
        (tmp_path / "p.toml").write_text(_PIPELINE.format(url=one.url))
        rows = [{"id": f"r{number}", "name": "n"} for number in range(100)]
        (tmp_path / "in.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
        yield one


def test_a_kill_before_the_commit_repeats_batches_under_their_keys(receiver: Receiver, tmp_path: Path) -> None:
    """All of a part was posted and the ledger does not know: it is posted again, and taken once."""
    code, _, _ = engine(
        ["run", "p.toml"], cwd=tmp_path, RECEIVER_TOKEN="t" * 9, ENGINE_FAILPOINT="ledger:committed:before:1"
    )
    assert code == -9
    before = len(receiver.seen)
    code, out, err = engine(["run", "p.toml", "--json"], cwd=tmp_path, RECEIVER_TOKEN="t" * 9)
    assert code == 0, err
    assert report_of(out)["accepted"] == 100
    assert len(receiver.seen) == 2 * before
    assert len(receiver.taken) == before
    assert sorted(row["id"] for row in receiver.rows) == sorted(f"r{number}" for number in range(100))
    assert "t" * 9 not in out + err


def test_refused_rows_are_dead_letters(receiver: Receiver, tmp_path: Path) -> None:
    """The others arrive, the books balance, and a letter says what the receiver said."""
    receiver.refuses = {"r7", "r93"}
    code, out, err = engine(["run", "p.toml", "--json"], cwd=tmp_path, RECEIVER_TOKEN="t" * 9)
    assert code == 0, err
    report = report_of(out)
    assert (report["accepted"], report["dead"]) == (98, 2)
    code, out, _ = engine(["dlq", "ls", "posts"], cwd=tmp_path)
    assert "the receiver answers 422" in out
    assert "t" * 9 not in out


@pytest.mark.anyio
async def test_rows_of_jobs_have_the_members_that_were_declared(receiver: Receiver, rig: Rig) -> None:
    """What is read of a result only to match and count it is not sent along."""
    start, end = rig.text.index("[results.fields]"), rig.text.index("[sink]")
    rig.text = rig.text[:start] + '[results.fields]\nid = "str"\n' + rig.text[end:]
    rig.replace(f'type   = "ndjson"\npath   = "{rig.directory}/out"', f'type = "http"\nendpoint = "{receiver.url}"')
    (rig.directory / "in.ndjson").unlink()
    rig.write(20)
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 20)
    assert {tuple(row) for row in receiver.rows} == {("id",)}
    assert len(receiver.rows) == 20
