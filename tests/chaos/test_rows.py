"""Rows as the auditor reads them: what may differ between two runs is learned, and everything else must not."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest

from engine.chaos.rows import compare_undisturbed, count_input, parts_in


def test_members_that_change_from_run_to_run_are_learned() -> None:
    """A time inside a list differs between two undisturbed runs; it is left out, its neighbours are not."""
    one = [{"id": "a", "attributes": [{"name": "x", "at": 1}]}, {"id": "b", "attributes": []}]
    two = [{"id": "b", "attributes": []}, {"id": "a", "attributes": [{"name": "x", "at": 2}]}]
    reference = compare_undisturbed(one, two, match="id")
    assert reference.volatile == {"attributes[].at"}
    assert reference.plain(one[0]) == reference.plain(two[1])
    assert reference.plain(one[0]) != reference.plain({"id": "a", "attributes": [{"name": "y", "at": 1}]})


def test_two_runs_with_different_rows_are_no_reference() -> None:
    """Rows that come and go by themselves leave nothing to compare with."""
    with pytest.raises(ValueError, match="different rows"):
        compare_undisturbed([{"id": "a"}], [{"id": "b"}], match="id")
    with pytest.raises(ValueError, match="no member names them"):
        compare_undisturbed([{"value": 1}], [{"value": 2}], match="id")


def test_parts_are_read_as_they_lie_there(tmp_path: Path) -> None:
    """NDJSON, CSV with nested cells, and gzip, without the engine's readers; a torn line is seen as one."""
    (tmp_path / "part-1.ndjson").write_text('{"id":"a"}\n{"id":')
    (tmp_path / "part-2.csv").write_text('id,more\nb,"{""n"":[1,2]}"\nc,\n')
    (tmp_path / "part-3.ndjson.gz").write_bytes(gzip.compress(b'{"id":"d"}\n'))
    (tmp_path / "_manifest.json").write_text("{}")
    rows = [row for part in parts_in(tmp_path) for row in part.rows]
    assert rows == [
        {"id": "a"}, {"unreadable": '{"id":'}, {"id": "b", "more": {"n": [1, 2]}}, {"id": "c", "more": ""}, {"id": "d"},
    ]  # fmt: skip


def test_parquet_is_read_by_its_columns(tmp_path: Path) -> None:
    """Rows of a Parquet part are values, nested JSON and moments as text; one that was cut is one unreadable row."""
    core, aio = pytest.importorskip("arro3.core"), pytest.importorskip("arro3.io")
    kinds = {"id": core.DataType.utf8(), "n": core.DataType.int64(), "at": core.DataType.timestamp("us", tz="UTC")}
    schema = core.Schema([core.Field(name, kind, nullable=True) for name, kind in kinds.items()])
    lines = b'{"id":"[1]","n":7,"at":"2026-01-02T03:04:05Z"}\n{"id":"b"}\n'
    whole = io.BytesIO()
    aio.write_parquet(aio.read_json(io.BytesIO(lines), schema), whole)
    (tmp_path / "part-1.parquet").write_bytes(whole.getvalue())
    (tmp_path / "part-2.parquet").write_bytes(whole.getvalue()[:-9])
    rows = [row for part in parts_in(tmp_path) for row in part.rows]
    assert rows == [
        {"id": [1], "n": 7, "at": "2026-01-02T03:04:05+00:00"}, {"id": "b", "n": None, "at": None},
        {"unreadable": "part-2.parquet"},
    ]  # fmt: skip
    assert count_input(["*-1.parquet"], tmp_path) == 2


def test_inputs_are_counted_line_by_line(tmp_path: Path) -> None:
    """A CSV record may have line breaks in it; blank NDJSON lines are no rows; other formats are not guessed at."""
    (tmp_path / "a.csv").write_text('id,name\n1,"two\nlines"\n2,x\n')
    (tmp_path / "b.ndjson").write_text('{"id":1}\n\n{"id":2}')
    (tmp_path / "c.dat").write_text("?")
    assert count_input(["*.csv"], tmp_path) == 2
    assert count_input(["*.ndjson"], tmp_path) == 2
    assert count_input(["*"], tmp_path) is None
