"""The NDJSON source: every line is a record, a bad record or blank, and each knows its place."""

import gzip
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.components.sources.ndjson import NdjsonSource
from engine.pipeline.spec import SourceSpec
from engine.record import Slice


def keys(batches):
    return [key for batch in batches for key in batch.keys]


def bad(batches):
    return [(record.line, record.code) for batch in batches for record in batch.bad]


def test_lines_become_records_with_their_places(source, here):
    """Raw bytes, ends, line numbers and keys are parallel; blank lines and line ends are not content."""
    data = b'\xef\xbb\xbf{"id":"a"}\r\n\n  {"id": 7, "x": [1]} \n{"id":"c"}\n'
    (here / "in.ndjson").write_bytes(data)

    (batch,) = source().read({})

    assert batch.raws == [b'{"id":"a"}', b'{"id": 7, "x": [1]}', b'{"id":"c"}']
    assert batch.keys == ["a", "7", "c"]
    assert list(batch.lines) == [1, 3, 4]
    assert list(batch.ends) == [15, 39, 50]
    assert (batch.start, batch.end, batch.line, batch.next_line) == (0, len(data), 1, 5)
    assert batch.values is None
    assert batch.bad == []


BAD_LINES = [
    (b'{"id":"x"', "record.json"),
    (b'{"id":"x"}{"id":"y"}', "record.json"),
    (b'{"id":"x"} {"id":"y"}', "record.json"),
    (b'{"id":"x","y":tru}', "record.json"),
    (b'{"id":"x","y":"\x00"}', "record.json"),
    (b"not json", "record.json"),
    (b'{"id":"x","y":"\xff"}', "record.encoding"),
    (b'{"x":1}', "record.key_missing"),
    (b'{"id":null}', "record.key_missing"),
    (b'{"id":""}', "record.key_missing"),
    (b'{"id":1.5}', "record.type"),
    (b'{"id":true}', "record.type"),
    (b'{"id":["x"]}', "record.type"),
    (b"[1]", "record.type"),
    (b'{"id":"x","y":' + b"[" * 5000 + b"]" * 5000 + b"}", "record.too_deep"),
    (b'{"id":"' + b"x" * 20_000 + b'"}', "record.too_long"),
]


@pytest.mark.parametrize("want_values", [False, True])
@pytest.mark.parametrize(("line", "code"), BAD_LINES, ids=[str(line[:25]) for line, _ in BAD_LINES])
def test_one_bad_line_spoils_nothing_else(source, here, line, code, want_values):
    """The bad line alone goes, with its code, its place and its bytes; its neighbours are read."""
    (here / "in.ndjson").write_bytes(b'{"id":"a"}\n' + line + b'\n{"id":"b"}\n')

    (batch,) = source(want_values=want_values, line_max=15_000).read({})

    assert batch.keys == ["a", "b"]
    assert list(batch.lines) == [1, 3]
    (record,) = batch.bad
    assert (record.code, record.line, record.start, record.end) == (code, 2, 11, 12 + len(line))
    assert line.startswith(record.raw)
    assert record.reason
    assert batch.values == ([{"id": "a"}, {"id": "b"}] if want_values else None)


def test_an_object_over_two_lines_is_two_bad_lines(source, here):
    """Two halves of an object are not a record, also where another line makes up the number."""
    (here / "in.ndjson").write_bytes(b'{"id":1}{"id":2}\n{"id":\n3}\n{"id":4}\n')

    batches = list(source().read({}))

    assert keys(batches) == ["4"]
    assert bad(batches) == [(1, "record.json"), (2, "record.json"), (3, "record.type")]


def test_declared_fields_are_checked(source, here):
    """A member of another type makes its record bad, and the reason names member and types."""
    (here / "in.ndjson").write_bytes(b'{"id":"a","n":1,"u":0}\n{"id":"b","n":"1"}\n{"id":"c","n":null}\n{"id":"d"}\n')

    (batch,) = source(fields={"id": "str", "n": "int", "kind": "enum(x, y) | None"}).read({})

    assert batch.keys == ["a"]
    assert [record.code for record in batch.bad] == ["record.type"] * 3
    assert "`int`" in batch.bad[0].reason
    assert "$.n" in batch.bad[0].reason
    assert "`n`" in batch.bad[2].reason


def test_values_keep_large_whole_numbers(source, here):
    """Decoded values are exact where a float would round."""
    (here / "in.ndjson").write_bytes(b'{"id":1,"n":123456789012345678901234567890}\n')

    (batch,) = source(want_values=True).read({})

    assert batch.values == [{"id": 1, "n": 123456789012345678901234567890}]


def test_a_large_file_comes_in_windows_that_join(source, here):
    """Batches are bounded, follow each other without a gap, and read again give the same bytes."""
    rows = [{"id": f"P-{n}", "text": "x" * (n % 300)} for n in range(10_000)]
    (here / "in.ndjson").write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    reader = source()

    batches = list(reader.read({}))

    assert keys(batches) == [row["id"] for row in rows]
    assert len(batches) > 4
    assert all(batch.end - batch.start <= 300_000 for batch in batches)
    for before, after in pairwise(batches):
        assert (before.end, before.next_line) == (after.start, after.line)
    assert [line for batch in batches for line in batch.lines] == list(range(1, 10_001))


def test_the_last_line_needs_no_line_end(source, here):
    """What stands after the last line end is a record, and its extent ends with the file."""
    (here / "in.ndjson").write_bytes(b'{"id":"a"}\n{"id":"b"}')

    batches = list(source().read({}))

    assert keys(batches) == ["a", "b"]
    assert batches[-1].ends[-1] == batches[-1].end == 21


line = st.sampled_from([b'{"id":"%d"}', b"", b"  ", b"{", b'{"id":null}', b'{"id":1}{"id":2}', b"x" * 60])


@given(lines=st.lists(line, max_size=20), crlf=st.booleans())
def test_every_line_has_one_end(tmp_path_factory, lines, crlf):
    """Records, bad records and blank lines add up to the lines of the file."""
    path = tmp_path_factory.mktemp("lines") / "in.ndjson"
    lines = [text % n if b"%d" in text else text for n, text in enumerate(lines)]
    path.write_bytes((b"\r\n" if crlf else b"\n").join(lines))
    spec = SourceSpec(type="ndjson", paths=(str(path),), key="id", line_max=50)

    batches = list(NdjsonSource(spec, want_values=False).read({}))

    assert len(keys(batches)) == sum(text.startswith(b'{"id":"') for text in lines)
    assert len(keys(batches)) + len(bad(batches)) == sum(bool(text.strip()) for text in lines)


@pytest.mark.parametrize("name", ["in.ndjson", "in.ndjson.gz"])
def test_slices_are_read_again_exactly(source, here, name):
    """A slice cut at any record gives its records, places and lines as the first time."""
    data = b"".join(b'{"id":"%d","x":"%s"}\n' % (n, b"y" * (n % 50)) for n in range(3000))
    (here / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    reader = source()
    (batch,) = reader.read({})
    slices = [
        Slice(name, batch.ends[9], batch.ends[19], 11),
        Slice(name, batch.ends[99], batch.ends[2500], 101),
        Slice(name, 0, batch.ends[0], 1),
    ]

    again = list(reader.reread(slices))

    assert [b.keys for b in again] == [batch.keys[10:20], batch.keys[100:2501], batch.keys[:1]]
    assert [b.raws for b in again] == [batch.raws[10:20], batch.raws[100:2501], batch.raws[:1]]
    assert list(again[1].ends) == list(batch.ends[100:2501])
    assert [b.line for b in again] == [11, 101, 1]
