"""Sinks: parts are whole or absent, safe to write again, and hold exactly the rows given."""

import csv
import gzip
import hashlib
import io
import json
import resource
import sys
from pathlib import Path

import pytest

from engine.codec import payload
from engine.codec.fields import struct_of
from engine.errors import ConfigError, MissingExtra, OutputError, PartialFailure

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

UNPACK = {"none": bytes, "gzip": gzip.decompress, "zstd": zstd.decompress}
FIELDS = {
    "id": "str",
    "first name": "str | None",
    "n": "int | None",
    "f": "float",
    "ok": "bool",
    "at": "datetime | None",
    "on": "date | None",
    "any": "json",
}
TEXT = b"""[
  {"id":"a","first name":"Zo\xc3\xab, \\"Z\\"","n":-3,"f":1.5,"ok":true,"at":"2026-01-01T10:00:00+02:00",
   "on":"2026-02-03","any":{"k": [1,
   2]}},
  {"id":"=1+1","f":2,"ok":false,"any":null}
]"""


@pytest.fixture
def rows():
    """Two typed rows, as results are decoded: with JSON in them that was never decoded."""
    return payload.decode(TEXT, list[struct_of("Row", FIELDS)])


def names(folder: Path):
    return sorted(path.name for path in folder.iterdir())


def write(sink, rows, *, epoch=1, number=1):
    part = sink.begin(epoch=epoch, number=number)
    part.append(sink.encode(rows), len(rows))
    return part.finish()


@pytest.mark.parametrize(("compression", "suffix"), [("none", ""), ("gzip", ".gz"), ("zstd", ".zst")])
@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_a_part_is_what_its_record_says(sink, here, rows, kind, compression, suffix):
    """Name, rows, size and digest are those of the final file, and no other file is left."""
    done = write(sink(kind, FIELDS, compression=compression), rows, epoch=3, number=42)

    data = (here / "out" / done.name).read_bytes()
    assert done.name == f"part-0003-000042.{kind}{suffix}"
    assert (done.rows, done.body_bytes) == (2, len(data))
    assert done.sha256 == hashlib.sha256(data).hexdigest()
    assert UNPACK[compression](data).count(b"\n") == 2 + (kind == "csv")
    assert names(here / "out") == [done.name]


def test_ndjson_rows_are_one_line_each(sink, here, rows):
    """Line ends between the tokens of undecoded JSON do not become lines."""
    done = write(sink(), [*rows, {"a": [1]}])

    lines = (here / "out" / done.name).read_bytes().splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "id": "a",
            "first name": 'Zoë, "Z"',
            "n": -3,
            "f": 1.5,
            "ok": True,
            "at": "2026-01-01T10:00:00+02:00",
            "on": "2026-02-03",
            "any": {"k": [1, 2]},
        },
        {
            "id": "=1+1",
            "first name": None,
            "n": None,
            "f": 2.0,
            "ok": False,
            "at": None,
            "on": None,
            "any": None,
        },
        {"a": [1]},
    ]


def test_csv_has_a_header_and_one_row_per_row(sink, here, rows):
    """Columns are the declared fields in order; a CSV reader gets every cell back."""
    done = write(sink("csv", FIELDS), rows)

    table = list(csv.reader(io.StringIO((here / "out" / done.name).read_text(), newline="")))
    assert table[0] == list(FIELDS)
    assert table[1][:-1] == [
        "a",
        'Zoë, "Z"',
        "-3",
        "1.5",
        "true",
        "2026-01-01T10:00:00+02:00",
        "2026-02-03",
    ]
    assert json.loads(table[1][-1]) == {"k": [1, 2]}
    assert table[2] == ["'=1+1", "", "", "2.0", "false", "", "", "null"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\0", "＝", "＋", "－", "＠"])  # noqa: RUF001
@pytest.mark.parametrize("guard", [True, False])
def test_text_that_looks_like_a_formula_is_quoted(sink, start, guard):
    """Text cells that a spreadsheet would run get a quote in front, unless that is switched off."""
    writer = sink("csv", {"text": "str", "n": "int"}, formula_guard=guard)

    (row,) = csv.reader(io.StringIO(writer.encode([{"text": f"{start}1", "n": -1}]).decode(), newline=""))

    assert row == [f"'{start}1" if guard else f"{start}1", "-1"]


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_parquet_has_typed_columns(sink, here, rows, compression):
    """Types are the declared ones: times in UTC, undecoded JSON as text."""
    arro3_io = pytest.importorskip("arro3.io")
    done = write(sink("parquet", FIELDS, compression=compression), rows)

    path = here / "out" / done.name
    table = arro3_io.read_parquet(path).read_all()
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    assert done.name == "part-0001-000001.parquet"
    assert list(columns) == list(FIELDS)
    assert columns["id"] == ["a", "=1+1"]
    assert columns["n"] == [-3, None]
    assert columns["f"] == [1.5, 2.0]
    assert columns["ok"] == [True, False]
    assert columns["at"][0].isoformat() == "2026-01-01T08:00:00+00:00"
    assert columns["on"][0].isoformat() == "2026-02-03"
    assert json.loads(columns["any"][0]) == {"k": [1, 2]}
    assert (done.rows, done.body_bytes) == (2, path.stat().st_size)
    assert done.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert names(here / "out") == [done.name]


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_json_that_may_be_null_is_any_json(sink, here, kind):
    """A value, a null and an absent member: the value is written as it came, and the others are nothing."""
    fields = {"id": "str", "more": "json | None"}
    text = b'[{"id":"a","more":{"k":1}},{"id":"b","more":null},{"id":"c"}]'
    path = here / "out" / write(sink(kind, fields), payload.decode(text, list[struct_of("Row", fields)])).name
    if kind == "parquet":
        column = pytest.importorskip("arro3.io").read_parquet(path).read_all().column("more").to_pylist()
        assert column == ['{"k":1}', None, None]
    elif kind == "csv":
        assert list(csv.reader(path.read_text().splitlines()))[1:] == [["a", '{"k":1}'], ["b", ""], ["c", ""]]
    else:
        assert [json.loads(line)["more"] for line in path.read_text().splitlines()] == [{"k": 1}, None, None]


def test_parquet_converts_in_bounded_memory(sink, here):
    """A part much larger than its row groups is written without being held."""
    pytest.importorskip("arro3.io")
    writer = sink("parquet", {"id": "int", "text": "str"}, row_group=1 << 20)
    part = writer.begin(epoch=1, number=1)
    chunk = writer.encode([{"id": n, "text": f"{n:01000d}"} for n in range(5000)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        part.append(chunk, 5000)

    done = part.finish()

    assert done.rows == 100_000
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 60


def test_parquet_names_the_rows_that_do_not_fit(sink):
    """A whole number past 64 bits is a failure of its row, not of the part."""
    pytest.importorskip("arro3.io")
    writer = sink("parquet", {"id": "str", "n": "int"})

    with pytest.raises(PartialFailure) as caught:
        writer.encode([{"id": "a", "n": 1}, {"id": "b", "n": 2**63}])

    assert list(caught.value.failures) == [1]


def test_parquet_without_its_library_says_what_to_install(sink, monkeypatch):
    """The extra is named when the sink opens, not when the first part closes."""
    monkeypatch.setitem(sys.modules, "arro3.io", None)

    with pytest.raises(MissingExtra, match="parquet"):
        sink("parquet", {"id": "str"})


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_must_be_declared(sink, kind):
    """Formats with columns cannot guess them."""
    with pytest.raises(ConfigError, match="columns"):
        sink(kind)


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_writing_a_part_again_replaces_it(sink, here, kind):
    """The same part written twice is one file, with the rows of the second writing."""
    writer = sink(kind, {"id": "str"})
    write(writer, [{"id": "old"}])

    done = write(writer, [{"id": "new"}])

    assert names(here / "out") == [done.name]
    assert done.sha256 == hashlib.sha256((here / "out" / done.name).read_bytes()).hexdigest()


@pytest.mark.parametrize("kind", ["ndjson", "csv", "parquet"])
def test_a_part_is_not_there_until_it_is_finished(sink, here, kind):
    """Until then only temporary names exist; discarding removes them, also twice."""
    writer = sink(kind, {"id": "str"})
    part = writer.begin(epoch=1, number=1)
    part.append(writer.encode([{"id": "a"}] * 1000), 1000)

    assert all(name.startswith(".") for name in names(here / "out"))
    assert part.rows == 1000
    assert part.body_bytes >= 2000
    part.discard()
    part.discard()
    assert names(here / "out") == []


def test_equal_rows_make_equal_files(sink, here):
    """A part written again after a crash is the same to the byte, compressed or not."""
    writer = sink(compression="gzip")

    digests = {write(writer, [{"id": "a"}]).sha256 for _ in range(2)}

    assert len(digests) == 1


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_a_full_disk_leaves_nothing_behind(sink, here, kind):
    """Where the system refuses a write, the error names the path, and no file stands."""
    writer = sink(kind, {"id": "str"})
    part = writer.begin(epoch=1, number=1)
    chunk = writer.encode([{"id": "x" * 1000}] * 3000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OutputError, match="part-0001-000001"):
            part.append(chunk, 3000)
            part.finish()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    part.discard()

    assert names(here / "out") == []


def test_a_link_in_the_place_of_a_part_is_refused(sink, here):
    """Neither a final nor a temporary name that is a link leads a write elsewhere."""
    (here / "victim").write_text("precious")
    writer = sink()
    (here / "out" / "part-0001-000001.ndjson").symlink_to(here / "victim")
    (here / "out" / ".part-0001-000002.ndjson.tmp").symlink_to(here / "victim")

    with pytest.raises(OutputError):
        write(writer, [{"id": "a"}], number=1)
    write(writer, [{"id": "a"}], number=2)

    assert (here / "victim").read_text() == "precious"


def test_the_directory_is_held(sink, here):
    """Parts land in the directory that was opened, wherever its path leads later."""
    writer = sink()
    (here / "out").rename(here / "moved")
    (here / "elsewhere").mkdir()
    (here / "out").symlink_to(here / "elsewhere")

    done = write(writer, [{"id": "a"}])

    assert names(here / "moved") == [done.name]
    assert names(here / "elsewhere") == []


def test_a_path_that_cannot_be_a_directory_is_named(sink, here):
    """The error holds the sink's path."""
    (here / "out").write_text("a file")

    with pytest.raises(OutputError, match="out"):
        sink()


def test_sweeping_takes_what_is_ours_and_not_kept(sink, here):
    """Temporary files and parts nobody committed go; kept parts and strangers' files stay."""
    writer = sink()
    kept, gone = write(writer, [{"id": "a"}], number=1), write(writer, [{"id": "b"}], number=2)
    writer.begin(epoch=1, number=3)
    for name in ("notes.txt", "part-1.ndjson", "_manifest.json", ".part-0001-000004.parquet.spool.tmp"):
        (here / "out" / name).write_text("{}")

    assert writer.sweep({kept.name}) == 3

    assert names(here / "out") == ["_manifest.json", "notes.txt", kept.name, "part-1.ndjson"]
    assert not (here / "out" / gone.name).exists()


def test_the_manifest_is_replaced_as_a_whole(sink, here):
    """It holds version, pipeline and what was given, and its path is told."""
    writer = sink()
    writer.write_manifest({"parts": [], "rows": 0})
    path = writer.write_manifest({"parts": [{"name": "p", "rows": 1, "bytes": 2, "sha256": "x"}], "rows": 1})

    assert payload.loads((here / path).read_bytes()) == {
        "version": 1,
        "pipeline": "cities",
        "parts": [{"name": "p", "rows": 1, "bytes": 2, "sha256": "x"}],
        "rows": 1,
    }
    assert names(here / "out") == ["_manifest.json"]


def test_two_pipelines_cannot_share_a_directory(sink):
    """The second would sweep the first one's parts, so it is refused."""
    sink().write_manifest({"parts": [], "rows": 0})

    with pytest.raises(OutputError, match="`cities`"):
        sink(pipeline="towns")
