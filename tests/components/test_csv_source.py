"""The CSV source: rows with their true extents, typed cells, and bad rows that stay alone."""

import csv
import io
import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.components.sources.csv import CsvSource
from engine.errors import InputError
from engine.pipeline.spec import SourceSpec
from engine.record import Slice


def values(batches):
    return [value for batch in batches for value in (batch.values or [])]


def bad(batches):
    return [(record.line, record.code) for batch in batches for record in batch.bad]


def test_rows_become_objects_with_their_places(source, here):
    """Quoted line ends, commas and quotes are content; extents count every byte of a row."""
    data = '\ufeffid,name\r\n1,"Zoë ""Z"""\r\n\r\n2,"two\r\nlines, one row"\r\n3,last\r\n'.encode()
    (here / "in.csv").write_bytes(data)

    (batch,) = source("csv", want_values=True).read({})

    assert batch.values == [
        {"id": "1", "name": 'Zoë "Z"'},
        {"id": "2", "name": "two\r\nlines, one row"},
        {"id": "3", "name": "last"},
    ]
    assert [json.loads(raw) for raw in batch.raws] == batch.values
    assert batch.keys == ["1", "2", "3"]
    assert list(batch.lines) == [2, 4, 6]
    assert [batch.line_after(index) for index in range(3)] == [3, 6, 7]
    assert [data[:end][-5:] for end in batch.ends] == [b'"""\r\n', b'ow"\r\n', b"ast\r\n"]
    assert (batch.start, batch.end, batch.line, batch.next_line) == (0, len(data), 1, 7)


def test_values_are_left_out_unless_wanted(source, here):
    """Without transforms only the JSON text is kept."""
    (here / "in.csv").write_text("id\na\n")

    (batch,) = source("csv").read({})

    assert batch.values is None
    assert batch.raws == [b'{"id":"a"}']


def test_cells_are_read_as_declared(source, here):
    """Numbers, truths, times, choices and JSON become what JSON has for them; empty may be null."""
    (here / "in.csv").write_text(
        'id;n;f;b;at;on;kind;any;none;text\n7;-3;1.5e3;TRUE;2026-01-01T10:00:00Z;2026-02-03;x;"{""a"":[1]}";;\n'
    )
    fields = {
        "id": "int",
        "n": "int",
        "f": "float",
        "b": "bool",
        "at": "datetime",
        "on": "date",
        "kind": "enum(x, y)",
        "any": "json",
        "none": "int | None",
        "absent": "str | None",
    }

    (batch,) = source("csv", delimiter=";", fields=fields, want_values=True).read({})

    assert batch.bad == []
    assert batch.keys == ["7"]
    assert batch.values == [
        {
            "id": 7,
            "n": -3,
            "f": 1500.0,
            "b": True,
            "at": "2026-01-01T10:00:00+00:00",
            "on": "2026-02-03",
            "kind": "x",
            "any": {"a": [1]},
            "none": None,
            "text": "",
            "absent": None,
        }
    ]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("int", ""),
        ("int", "1_0"),
        ("int", "1.0"),
        ("int", " 1"),
        ("int", "٣"),
        ("float", "inf"),
        ("float", "nan"),
        ("float", "1e999"),
        ("float", "1_0"),
        ("bool", "yes"),
        ("datetime", "yesterday"),
        ("date", "2026-13-01"),
        ("json", "{"),
        ("enum(x, y)", "z"),
        ("enum(x, y) | None", "z"),
    ],
)
def test_a_cell_of_another_type_names_column_and_types(source, here, kind, text):
    """The reason says which column, what was expected and what was there."""
    (here / "in.csv").write_text(f"id,c\na,{text}\n")

    (batch,) = source("csv", fields={"c": kind}).read({})

    (record,) = batch.bad
    assert batch.keys == []
    assert (record.code, record.line) == ("record.type", 2)
    assert "`c`" in record.reason
    assert kind in record.reason
    assert repr(text) in record.reason


BAD_ROWS = [
    (b"x", "record.columns", 1),
    (b"x,y,z", "record.columns", 1),
    (b'x,"y"z', "record.csv", 1),
    (b'x,"y\nmore"z', "record.csv", 2),
    (b",y", "record.key_missing", 1),
    (b"x,\xff", "record.encoding", 1),
    (b'x,"\xff\n\xfe"', "record.encoding", 2),
    (b"x,a\rb", "record.csv", 1),
    (b"x," + b"y" * 3000, "record.too_long", 1),
]


def test_reading_by_columns_and_by_rows_agree(source, here):
    """A file without a quote is read column by column, one with a quote row by row, to the same values."""
    fields = {"n": "int", "f": "float", "m": "int | None", "gone": "str | None"}
    rows = "".join(f"k{n},{n},{n}.5,{n if n % 2 else ''}\n" for n in range(20))
    (here / "in.csv").write_text("id,n,f,m\n" + rows)
    (by_columns,) = source("csv", fields=fields, want_values=True).read({})
    (here / "in.csv").write_text("id,n,f,m\n" + rows + '"k20",20,20.5,\n')
    (by_rows,) = source("csv", fields=fields, want_values=True).read({})

    assert by_columns.bad == by_rows.bad == []
    assert by_columns.values[3] == {"id": "k3", "n": 3, "f": 3.5, "m": 3, "gone": None}
    assert by_columns.values == by_rows.values[:-1]
    assert by_columns.raws == by_rows.raws[:-1]
    assert by_columns.keys == by_rows.keys[:-1]
    for index in range(20):
        assert by_columns.lines[index] == by_rows.lines[index]
        assert by_columns.ends[index] == by_rows.ends[index]
        assert by_columns.line_after(index) == by_rows.line_after(index)


@pytest.mark.parametrize(("row", "code", "lines"), BAD_ROWS, ids=[str(row[:12]) for row, _, _ in BAD_ROWS])
def test_one_bad_row_spoils_nothing_else(source, here, row, code, lines):
    """The bad row alone goes, with its place and its bytes; its neighbours are read."""
    (here / "in.csv").write_bytes(b"id,c\na,1\n" + row + b'\nb,"2"\n')

    (batch,) = source("csv", line_max=2000).read({})

    assert batch.keys == ["a", "b"]
    assert list(batch.lines) == [2, 3 + lines]
    (record,) = batch.bad
    assert (record.code, record.line, record.start, record.end) == (code, 3, 9, 10 + len(row))
    assert record.raw == row


@pytest.mark.parametrize("rows_after", [3, 40_000])
def test_a_quote_that_never_closes_costs_its_own_line(source, here, rows_after):
    """Neither at the end of the file nor at the cap does an open quote swallow the rows after it."""
    rows = b"".join(b"%d,row\n" % n for n in range(rows_after))
    (here / "in.csv").write_bytes(b'id,c\na,"open\n' + rows)

    batches = list(source("csv", line_max=300_000).read({}))

    assert bad(batches) == [(2, "record.csv")]
    assert [key for batch in batches for key in batch.keys] == [str(n) for n in range(rows_after)]


def test_a_long_quoted_cell_reaches_over_windows(source, here):
    """A row larger than a window is one row, and the batches around it join."""
    cell = "line\n" * 200_000
    with (here / "in.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([["id", "c"], ["a", "1"], ["b", cell], ["c", "3"]])

    batches = list(source("csv", want_values=True).read({}))

    assert values(batches) == [{"id": "a", "c": "1"}, {"id": "b", "c": cell}, {"id": "c", "c": "3"}]
    for before, after in pairwise(batches):
        assert (before.end, before.next_line) == (after.start, after.line)


def test_names_can_come_from_the_spec(source, here):
    """With `header` given, the first line is a row."""
    (here / "in.csv").write_text("1,x\n")

    (batch,) = source("csv", header=("id", "c"), want_values=True).read({})

    assert batch.values == [{"id": "1", "c": "x"}]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,c\n", "no column `id`; it has: name, c"),
        ("id,c,c\n", "column `c` twice"),
        ('id,"c"x\n', "header"),
    ],
)
def test_a_header_that_cannot_serve_stops_the_input(source, here, text, reason):
    """A missing or doubled column is the whole file's fault."""
    (here / "in.csv").write_text(text + "1,2\n")

    with pytest.raises(InputError, match=reason):
        list(source("csv").read({}))


def test_an_empty_file_has_no_rows(source, here):
    """No header, no batch."""
    (here / "in.csv").touch()

    assert list(source("csv").read({})) == []


def test_resuming_and_reading_again_find_the_header(source, here):
    """The header is looked up at the beginning of the file, wherever reading starts."""
    rows = "".join(f'{n},"cell\n{n}"\n' for n in range(100))
    (here / "in.csv").write_text("id,c\n" + rows)
    first = source("csv", want_values=True)
    (batch,) = first.read({})
    mark = first.mark("in.csv", batch.ends[49], batch.line_after(49))

    (rest,) = source("csv", want_values=True).read({"in.csv": mark})
    again = list(
        source("csv", want_values=True).reread(
            [
                Slice("in.csv", 0, batch.ends[0], 1),
                Slice("in.csv", batch.ends[9], batch.ends[19], batch.lines[10]),
            ]
        )
    )

    assert rest.values == batch.values[50:]
    assert rest.lines == batch.lines[50:]
    assert [one.values for one in again] == [batch.values[:1], batch.values[10:20]]
    assert again[1].ends == batch.ends[10:20]


cell = st.text(st.sampled_from('ab",\n\r é;'), max_size=6)


@given(rows=st.lists(st.tuples(st.integers(0, 99), cell, cell), max_size=20))
def test_what_a_writer_wrote_is_what_is_read(tmp_path_factory, rows):
    """Whatever cells hold, rows come back, and their extents cover the file without a gap."""
    path = tmp_path_factory.mktemp("csv") / "in.csv"
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("id", "x", "y"), *rows])
    path.write_bytes(text.getvalue().encode())
    spec = SourceSpec(type="csv", paths=(str(path),), key="id")
    reader = CsvSource(spec, want_values=True)

    batches = list(reader.read({}))

    assert [tuple(value.values()) for value in values(batches)] == [(str(n), x, y) for n, x, y in rows]
    for batch in batches:
        starts = [batch.start, *batch.ends]
        for index, row in enumerate(batch.values):
            (one,) = reader.reread([Slice(str(path), starts[index], starts[index + 1], batch.lines[index])])
            assert one.values == [row]
