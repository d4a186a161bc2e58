"""JSON arrays and Parquet as sources: every row once, from any number of rows on; what is damaged is said."""

from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.components.catalog import open_source
from engine.errors import InputError, StaleCheckpoint
from engine.pipeline.spec import SourceSpec
from engine.record import Slice

ROWS = 5_000


def rows(count: int = ROWS) -> list[dict[str, Any]]:
    """Rows of several types."""
    return [
        {"id": f"r{n}", "n": n, "f": n / 4, "ok": n % 2 == 0, "text": 'a\n"ü\\', "list": [n, None], "none": None}
        for n in range(count)
    ]


def write_json(path: Path, values: list[Any], *, indent: int | None = None, member: str | None = None) -> None:
    """A document whose array these are."""
    document: Any = values if member is None else {"head": [1, {"rows": []}], member: values, "tail": "x"}
    body = json.dumps(document, indent=indent, ensure_ascii=False).encode()
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)


def write_parquet(path: Path, values: list[dict[str, Any]], *, group: int = 1_000) -> None:
    """A file of several row groups."""
    arrow, aio = pytest.importorskip("arro3.core"), pytest.importorskip("arro3.io")
    kinds = arrow.DataType
    schema = arrow.Schema(
        [
            arrow.Field("id", kinds.utf8()), arrow.Field("n", kinds.int64()), arrow.Field("f", kinds.float64()),
            arrow.Field("ok", kinds.bool()), arrow.Field("text", kinds.utf8()),
            arrow.Field("list", kinds.list(arrow.Field("item", kinds.int64(), nullable=True))),
            arrow.Field("none", kinds.utf8(), nullable=True),
        ]
    )  # fmt: skip
    lines = io.BytesIO(b"".join(json.dumps(value).encode() + b"\n" for value in values))
    aio.write_parquet(aio.read_json(lines, schema), str(path), max_row_group_size=group, compression="zstd(1)")


def write(kind: str, path: Path, values: list[dict[str, Any]]) -> None:
    """An input of this kind."""
    (write_parquet if kind == "parquet" else write_json)(path, values)


def source(kind: str, *paths: Path | str, want_values: bool = False, **options: Any) -> Any:
    """Open one."""
    spec = SourceSpec(**{"type": kind, "key": "id", "paths": tuple(map(str, paths)), **options})
    return open_source(spec, want_values=want_values)


def texts(batches: Any) -> list[Any]:
    """The rows of batches, decoded."""
    return [json.loads(raw) for batch in batches for raw in batch.raws]


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_every_row_comes_as_it_is(tmp_path, kind) -> None:
    """Each row once, in order, as JSON on one line, with its number as its place; twice is the same."""
    path = tmp_path / "in"
    write(kind, path, rows())
    reading = source(kind, path)
    batches = list(reading.read({}))

    assert texts(batches) == rows()
    assert len(batches) > 2
    assert not any(b"\n" in raw for batch in batches for raw in batch.raws)
    assert [end for batch in batches for end in batch.ends] == list(range(1, ROWS + 1))
    assert texts(source(kind, path).read({})) == rows()
    assert (reading.can_reread, reading.can_seek) == (True, False)


@pytest.mark.parametrize("kind", ["json", "parquet"])
@pytest.mark.parametrize("taken", [0, 1, 511, 512, 1_000, 4_999, 5_000])
def test_reading_goes_on_from_any_row(tmp_path, kind, taken) -> None:
    """A mark of so many rows leads to the next, and a slice holds exactly its rows."""
    path = tmp_path / "in"
    write(kind, path, rows())
    name = str(path)
    mark = source(kind, path).mark(name, taken, taken + 1)
    rest = list(source(kind, path).read({name: mark}))

    assert texts(rest) == rows()[taken:]
    assert all(batch.start >= taken for batch in rest)
    again = source(kind, path).reread([Slice(name, taken, min(taken + 700, ROWS), taken + 1)])
    assert texts(again) == rows()[taken : taken + 700]


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_another_file_under_the_name_is_noticed(tmp_path, kind) -> None:
    """A file that begins alike and has more rows is another file."""
    path = tmp_path / "in"
    write(kind, path, rows())
    mark = source(kind, path).mark(str(path), 100, 101)
    write(kind, path, rows(ROWS + 1))

    with pytest.raises(StaleCheckpoint):
        list(source(kind, path).read({str(path): mark}))
    with pytest.raises(StaleCheckpoint):
        list(source(kind, path).reread([Slice(str(path), 0, ROWS + 2, 1)]))


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_a_mark_may_be_made_after_closing(tmp_path, kind) -> None:
    """Planning writes the last marks down when reading has been stopped: they are as good as any."""
    path = tmp_path / "in"
    write(kind, path, rows(10))
    reading = source(kind, path)
    list(reading.read({}))
    reading.close()
    unread = source(kind, path)
    unread.close()

    for mark in (reading.mark(str(path), 4, 5), unread.mark(str(path), 4, 5)):
        assert texts(source(kind, path).read({str(path): mark})) == rows(10)[4:]


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_several_files_come_in_the_order_of_their_names(tmp_path, kind) -> None:
    """A pattern names them; marks are for each."""
    for index, name in enumerate("ba"):
        write(kind, tmp_path / name, rows(2) if index else rows(1))
    batches = list(source(kind, tmp_path / "?").read({}))

    assert [Path(batch.input).name for batch in batches] == ["a", "b"]
    assert [len(batch.keys) for batch in batches] == [2, 1]


@pytest.mark.parametrize("name", ["in.json", "in.json.gz"])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("member", [None, "rows", "the rows"])
def test_an_array_may_be_the_document_or_a_member_of_it(tmp_path, name, indent, member) -> None:
    """Alone or under a name, on one line or many, plain or compressed."""
    write_json(tmp_path / name, rows(50), indent=indent, member=member)

    assert texts(source("json", tmp_path / name, rows=member).read({})) == rows(50)


def test_an_empty_array_and_a_byte_order_mark_are_right(tmp_path) -> None:
    """No rows are no rows, and what editors put in front is passed over."""
    (tmp_path / "in").write_bytes(b"\xef\xbb\xbf [ ]\n")
    assert texts(source("json", tmp_path / "in").read({})) == []
    (tmp_path / "in").write_bytes(b'\xef\xbb\xbf[{"id":"a"}]')
    assert texts(source("json", tmp_path / "in").read({})) == [{"id": "a"}]


def test_elements_that_are_no_records_end_alone(tmp_path) -> None:
    """A number, a row without a key and one that is too long are bad, each with its place."""
    write_json(tmp_path / "in", [{"id": "a"}, 7, {"no": "id"}, {"id": "b", "x": "y" * 3_000}, {"id": "c"}])
    [batch] = source("json", tmp_path / "in", line_max=2_000).read({})

    assert batch.keys == ["a", "c"]
    assert [(bad.line, bad.code) for bad in batch.bad] == [
        (2, "record.type"), (3, "record.key_missing"), (4, "record.too_long"),
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["", "[", '[{"id":"a"}', '[{"id":"a"}] x', '{"rows":[]}', '[{"id":"a",}]', "nonsense"])
def test_a_damaged_document_is_an_input_error(tmp_path, text) -> None:
    """Cut, followed by garbage, or no array at all: told with the file's name."""
    (tmp_path / "in").write_text(text)
    with pytest.raises(InputError) as caught:
        list(source("json", tmp_path / "in").read({}))
    assert str(tmp_path / "in") in caught.value.message


def test_a_member_that_is_not_there_is_named(tmp_path) -> None:
    """The members that are there are told."""
    write_json(tmp_path / "in", rows(1), member="data")
    with pytest.raises(InputError, match="it has: head, data, tail"):
        list(source("json", tmp_path / "in", rows="rows").read({}))


@pytest.mark.parametrize("damage", ["empty", "cut", "no head", "footer", "page"])
def test_a_damaged_parquet_file_is_an_input_error(tmp_path, damage) -> None:
    """Whatever is broken in it, the file is named, and the process lives."""
    path = tmp_path / "in"
    write_parquet(path, rows())
    body = bytearray(path.read_bytes())
    match damage:
        case "empty":
            body.clear()
        case "cut":
            del body[-100:]
        case "no head":
            body[:4] = b"XXXX"
        case "footer":
            body[-300:-8] = os.urandom(292)
        case "page":
            body[200:20_000] = os.urandom(19_800)
    path.write_bytes(body)

    with pytest.raises(InputError) as caught:
        list(source("parquet", path).read({}))
    assert str(path) in caught.value.message


def test_a_pipe_is_refused(tmp_path) -> None:
    """What cannot be gone to and fro in is no input of these kinds."""
    os.mkfifo(tmp_path / "pipe")
    for kind in ("json", "parquet"):
        with pytest.raises(InputError, match="is no file"):
            list(source(kind, tmp_path / "pipe").read({}))


def test_values_are_decoded_where_they_are_wanted(tmp_path) -> None:
    """Transforms see the rows as objects."""
    write_json(tmp_path / "in", rows(3))

    assert [batch.values for batch in source("json", tmp_path / "in", want_values=True).read({})] == [rows(3)]
