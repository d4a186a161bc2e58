"""One pass over a window of row results says what two passes say, or leaves the window alone."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.array import ArraySplitter
from engine.codec.fields import struct_of
from engine.codec.payload import MAX_DEPTH, depth_of
from engine.codec.rows import line_rows
from engine.components.sinks.csv import CsvSink
from engine.components.sinks.ndjson import NdjsonSink
from engine.errors import BrokenAnswer, RecordError, Unbalanced
from engine.jobs.interpret import Interpreter, Reading, Taken
from engine.jobs.one_pass import one_pass
from engine.jobs.passing import Passing
from engine.jobs.records import Ended
from engine.jobs.result_lines import RowLines
from engine.pipeline.spec import SinkSpec

SINK = NdjsonSink(None, None)
FIELDS: list[dict[str, str]] = [
    {},
    {"n": "int"},
    {"id": "str", "n": "int | None"},
    {"n": "float", "status": "str"},
    {"id": "str", "status": "enum(ok, bad)", "more": "json"},
    {"id": "int", "status": "str | None"},
]
others = st.recursive(
    st.none() | st.integers(-9, 9) | st.sampled_from(["", "é", '},{"id"', "]}\n", "x" * 200]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "n", "x"]), inner, max_size=2),
    max_leaves=4,
)
rows = st.fixed_dictionaries(
    {"id": st.sampled_from(["a", "b", 7]) | st.just(1.5), "n": st.integers(0, 3) | st.just("x")},
    optional={"status": st.sampled_from(["ok", "ok", "ok", "bad", "odd"]), "more": others, "error": others},
) | st.fixed_dictionaries({"id": st.sampled_from(["a", "b"]), "n": st.just(1), "status": st.just("ok"), "more": others})
# What is no row of its own, or not at its place: each of these must be told apart from lines that are.
oddities = st.sampled_from(
    [b"", b" ", b"[1]", b"7", b'{"id":"a"', b'"n":1}', b'{"id":"a","n":1,"status":"ok"}{"id":"b","n":1,"status":"ok"}',
     b' {"id":"a","n":1,"status":"ok"}', b'{"id":"a","n":1,"status":"ok"}\r', b'{"id":"\xff","n":1,"status":"ok"}',
     b'{"id":"a","n":1,"status":"ok","more":' + b"[" * 128 + b"]" * 128 + b"}",
     b'{"id":"a","n":1,"status":"ok","more":' + b"[" * 127 + b"]" * 127 + b"}"]
)  # fmt: skip


def reading(fields: dict[str, str], status: str | None = "status", *, takes_raw: bool = True) -> Reading:
    return Reading(
        match="id",
        status=status,
        accepted=frozenset(["ok"]) if status else frozenset(),
        rejected=frozenset(["bad"]) if status else frozenset(),
        row=struct_of("ResultRow", fields) if fields else None,
        encode=(SINK if takes_raw else CsvSink(SinkSpec(type="csv", path=""), fields or {"id": "str"}, None)).encode,
        takes_raw=takes_raw,
    )


def slow(asked: Reading, rows_max: int) -> Interpreter:
    interpreter = Interpreter(asked, rows_max=rows_max)
    interpreter._one = None
    return interpreter


def told(interpreter: Interpreter, found: list[Taken]) -> tuple[object, ...]:
    ends = [(end.key, end.bucket, end.code) for taken in found for end in taken.ended]
    chunk = b"".join(taken.chunk for taken in found)
    return chunk, sum(taken.accepted for taken in found), ends, interpreter.keys, interpreter.statuses


def outcome(act: Any) -> object:
    try:
        return act()
    except (Unbalanced, BrokenAnswer, RecordError) as exc:
        return type(exc)


@given(
    values=st.lists(rows, max_size=6),
    fields=st.sampled_from(FIELDS),
    status=st.sampled_from(["status", "status", None]),
    takes_raw=st.booleans(),
    indent=st.sampled_from([None, None, 1]),
    rows_max=st.sampled_from([3, 9, 9]),
)
def test_a_window_read_in_one_pass_is_the_window_read_in_two(values, fields, status, takes_raw, indent, rows_max):
    """Chunk, counts, keys and ends are the same, and so is what is refused."""
    asked = reading(fields, status, takes_raw=takes_raw)
    text = json.dumps(values, indent=indent, ensure_ascii=False, separators=(",", ":")).encode()

    def take(interpreter: Interpreter) -> object:
        return told(interpreter, [interpreter.window(text)])

    fast, plain = Interpreter(asked, rows_max=rows_max), slow(asked, rows_max)
    assert outcome(lambda: take(fast)) == outcome(lambda: take(plain))


@given(
    texts=st.lists(rows.map(lambda row: json.dumps(row, ensure_ascii=False).encode()) | oddities, max_size=8),
    fields=st.sampled_from(FIELDS),
    status=st.sampled_from([None, "status"]),
    size=st.integers(1, 90),
    line_max=st.sampled_from([60, 1000]),
    is_ended=st.booleans(),
)
def test_lines_taken_whole_are_the_lines_taken_one_by_one(texts, fields, status, size, line_max, is_ended):
    """Whatever the lines and the pieces: the same rows land, the same lines are bad, with the same numbers."""
    body = b"\n".join(texts) + (b"\n" if is_ended else b"")
    asked = reading(fields, status)

    def take(interpreter: Interpreter, lines: RowLines[Taken]) -> object:
        found = []
        for start in range(0, len(body) + size, size):
            window = lines.feed(body[start : start + size]) if start < len(body) else lines.finish()
            if window is not None:
                found.append(interpreter.window(window) if isinstance(window, bytes) else window)
        return told(interpreter, found), lines.rows, [(bad.number, bad.reason) for bad in lines.bad]

    fast, plain = Interpreter(asked, rows_max=99), slow(asked, 99)
    one_by_one = outcome(lambda: take(plain, RowLines(line_max, plain.lines)))
    assert outcome(lambda: take(fast, RowLines(line_max, fast.lines))) == one_by_one


@given(texts=st.lists(rows.map(lambda row: json.dumps(row).encode()) | oddities, min_size=1, max_size=6))
def test_lines_are_decoded_together_only_when_each_is_one_object(texts):
    """A body that is taken holds as many rows as lines, each of which stands by itself."""
    body = b"".join(text + b"\n" for text in texts)
    found = line_rows(body, msgspec.Raw)
    if found is not None:
        assert [bytes(row) for row in found] == texts
        assert all(type(json.loads(text)) is dict for text in texts)
    else:
        assert any(not _stands_alone(text) for text in texts)


def _stands_alone(text: bytes) -> bool:
    try:
        is_object = type(json.loads(text.decode())) is dict and depth_of(text) <= MAX_DEPTH
    except ValueError:
        return False
    return is_object and text.startswith(b"{") and text.endswith(b"}")


@pytest.mark.parametrize("gap", [",", ", ", " ,\n "])
def test_a_large_array_is_taken_window_by_window(gap):
    """Guessed windows are proved by taking them; nothing is doubled or lost, also where a guess is wrong."""
    texts = [json.dumps({"id": f"r{n}", "status": "ok", "x": ["},{", {"id": "y" * (n % 90)}]}) for n in range(3000)]
    document = f'{{"rows":[{gap.join(texts)}],"summary":{{"received":3000}}}}'.encode()
    asked = reading({"id": "str"})
    interpreter = Interpreter(asked, rows_max=3000)
    splitter = ArraySplitter("rows", take=interpreter.elements)

    found = [w for start in range(0, len(document), 65536) for w in splitter.feed(document[start : start + 65536])]

    assert all(isinstance(window, Taken) for window in found)
    assert interpreter.keys == [f"r{n}" for n in range(3000)]
    assert sum(window.accepted for window in found) == 3000
    assert json.loads(splitter.finish()) == {"rows": [], "summary": {"received": 3000}}


@pytest.mark.parametrize(
    ("fields", "is_one"),
    [
        ({"id": "str"}, True),
        ({"status": "enum(ok, bad)"}, True),
        ({"id": "str | None"}, False),
        ({"id": "json"}, False),
        ({"status": "json"}, False),
        ({"status": "str | None"}, False),
    ],
)
def test_only_members_that_serve_matching_too_are_read_once(fields, is_one):
    """A member declared as what cannot be matched or counted is decoded once for either use."""
    assert (one_pass("id", "status", struct_of("ResultRow", fields)) is not None) is is_one


@given(
    texts=st.lists(rows.map(lambda row: json.dumps(row, ensure_ascii=False).encode()), max_size=6),
    fields=st.sampled_from(FIELDS),
)
def test_rows_that_pass_together_are_the_rows_that_pass_one_by_one(texts, fields):
    """Without jobs too, a row that does not fit ends alone and the others land as they would have."""
    row = struct_of("ResultRow", fields) if fields else None
    passing = Passing(row=row, encode=SINK.encode, takes_raw=False)
    keys = [str(number) for number in range(len(texts))]
    ended: list[Ended] = []
    fits, _ = passing._one_by_one(texts, keys, ended)

    taken = passing.encode(texts, keys)

    assert taken.chunk == (SINK.encode(fits) if fits else b"")
    assert (taken.accepted, [end.key for end in taken.ended]) == (len(fits), [end.key for end in ended])
