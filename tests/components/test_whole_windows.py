"""Windows of input taken at once are the windows taken record by record: the same bytes, keys and places."""

from __future__ import annotations

import csv
import datetime as dt
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.fields import parse_field_type
from engine.codec.lines import LineSplitter
from engine.components.sinks import csv as sinks_csv
from engine.components.sinks.csv import CsvSink
from engine.components.sources.cells import cell_reader, column_reader, json_rows
from engine.components.sources.csv import CsvSource
from engine.components.sources.ndjson import NdjsonSource
from engine.pipeline.spec import SinkSpec, SourceSpec

members = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "é", 7, "", None, 1.5])},
    optional={"n": st.integers(0, 2) | st.just("x"), "more": st.sampled_from([[], {"id": "b"}, "}\n{", None])},
)
good = st.fixed_dictionaries({"id": st.sampled_from(["a", "b", 7]), "n": st.just(1)})
lines = st.one_of(
    good.map(lambda row: json.dumps(row).encode()),
    good.map(lambda row: json.dumps(row).encode()),
    members.map(lambda row: json.dumps(row, ensure_ascii=False).encode()),
    st.sampled_from(
        [b"", b" ", b' {"id":"a"}', b'{"id":"a"} ', b'{"id":"a"}{"id":"b"}', b'{"id":', b'"b"}', b"{}", b"[1]",
         b'{"id":"a","id":"b"}', b'{"id":"\xff"}', b'{"id":"a"}\r', b"}", b"{",
         b'{"id":"a","n":' + b"[" * 128 + b"]" * 128 + b"}"]
    ),
)  # fmt: skip


def alike(fast, slow):
    lists = ("raws", "ends", "lines", "keys", "values", "bad", "gone")
    places = ("start", "end", "line", "next_line")
    assert [getattr(fast, name) for name in places] == [getattr(slow, name) for name in places]
    for name in lists:
        one, other = getattr(fast, name), getattr(slow, name)
        assert one == other or list(one) == list(other), name


@given(
    texts=st.lists(lines, min_size=1, max_size=6),
    fields=st.sampled_from([{}, {"n": "int"}, {"n": "int | None"}, {"id": "str"}]),
    want_values=st.booleans(),
)
def test_a_window_of_lines_read_at_once_is_the_window_read_line_by_line(texts, fields, want_values):
    """Whatever stands on the lines, either way gives the same batch, or only the slow way gives one."""
    spec = SourceSpec(type="ndjson", paths=("in",), key="id", fields=fields)
    source = NdjsonSource(spec, want_values=want_values)
    window = LineSplitter(1000).feed(b"\n".join(texts) + b"\n")
    slow = source._line_by_line("in", window)
    fast = source._whole("in", window)
    if fast is None:
        assert slow.bad
    else:
        alike(fast, slow)


cells = st.sampled_from(["1", "-2", "+3", "1.5", ".5", "1e3", "1e999", "1_0", " 1", "inf", "٣", "", "x", "é", "true"])


@given(
    rows=st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=6),
    fields=st.sampled_from([{}, {"n": "int"}, {"f": "float"}, {"n": "int | None", "gone": "str | None"}]),
    end=st.sampled_from(["\n", "\r\n"]),
    want_values=st.booleans(),
)
def test_columns_read_at_once_are_the_cells_read_row_by_row(tmp_path_factory, rows, fields, end, want_values):
    """The JSON of each row is the same to the byte, and so are keys, places and values."""
    path = tmp_path_factory.mktemp("columns") / "in.csv"
    path.write_bytes(end.join(map(",".join, [["id", "n", "f"], *rows])).encode() + end.encode())

    def batches(*, is_slow: bool):
        source = CsvSource(SourceSpec(type="csv", paths=(str(path),), key="id", fields=fields), want_values=want_values)
        if is_slow:
            source._whole = lambda *_: None
        return list(source.read({}))

    (fast,), (slow,) = batches(is_slow=False), batches(is_slow=True)
    alike(fast, slow)


@given(
    texts=st.lists(cells | st.text("0123456789+-.eE", max_size=6), max_size=5), word=st.sampled_from(["int", "float"])
)
def test_a_column_of_numbers_is_read_as_its_cells(texts, word):
    """What no cell takes no column takes, and the numbers are the same."""
    kind = parse_field_type(word)
    try:
        expected = [cell_reader(kind)(text) for text in texts]
    except ValueError:
        with pytest.raises(ValueError):
            column_reader(kind)(texts)
    else:
        assert list(column_reader(kind)(texts)) == expected


@given(
    names=st.lists(st.text(max_size=3), min_size=1, max_size=3, unique=True),
    value=st.none() | st.integers() | st.text(max_size=3) | st.sampled_from([1e300, True, {"a": [1]}]),
)
def test_rows_of_columns_are_written_as_the_objects_they_are(names, value):
    """Names of any kind, values of any kind: the text is that of the same object as a dict."""
    (text,) = json_rows({name: [value] for name in names})
    assert json.loads(text) == dict.fromkeys(names, value)
    assert b"\n" not in text


texts = st.sampled_from(
    ["", "a", "=1", "-x", "+", "@", "\tb", "é", 'q"', "a,b", "two\nlines", "cr\r", "two\r\nlines", "\uff1d"]
)


@given(
    columns=st.lists(
        st.lists(texts, min_size=3, max_size=3)
        | st.lists(st.integers() | st.floats(allow_nan=False), min_size=3, max_size=3)
        | st.lists(
            st.none() | st.booleans() | texts | st.just({"a": [1]}) | st.just(dt.date(2026, 1, 2)),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=3,
    ),
    is_guarded=st.booleans(),
)
def test_columns_written_at_once_are_the_cells_written_one_by_one(columns, is_guarded):
    """The same CSV, whatever the cells: quoted, guarded, or neither."""
    names = [f"c{number}" for number in range(len(columns))]
    spec = SinkSpec(type="csv", path="", formula_guard=is_guarded)
    sink = CsvSink(spec, dict.fromkeys(names, "str"), None)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    text = CsvSink._guarded if is_guarded else str
    lines = sinks_csv._Lines()
    csv.writer(lines, lineterminator="\r\n").writerows(
        [[sinks_csv._cell(row[name], text) for name in names] for row in rows]
    )
    assert sink.encode(rows) == "".join(f"{line}\n" for line in lines).encode()
