"""Shares of an input: each record is in exactly one, at the place it has in the whole."""

import gzip
import os
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.components.catalog import open_source
from engine.components.sources.shared import open_shared
from engine.pipeline.spec import SourceSpec
from engine.record import BLOCK_BYTES, Batch, Share, Slice

_JSON_LINES = st.one_of(
    st.integers(0, 200).map(lambda size: b'{"id":"%d","x":"%s"}' % (size, b"y" * size)),
    st.sampled_from([b"", b"  ", b"not json", b'{"x":1}', b'{"id":7}\r', b'{"id":"' + b"z" * 900 + b'"}']),
)
_CSV_LINES = st.one_of(
    st.integers(0, 200).map(lambda size: b"%d,%s" % (size, b"y" * size)),
    st.sampled_from(
        [b"", b'8,"a\nb"', b'9,"q""q"', b"one", b'5,"never closed', b"7,x\r", b'"6","' + b"z\n" * 90 + b'"']
    ),
)


@contextmanager
def _folder():
    """A folder to work in, for each example anew."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def _records(batches):
    """Each record with everything that must be as in the whole; good ones and bad ones."""
    found = []
    for batch in batches:
        starts = [batch.start, *batch.ends[:-1]]
        for index, raw in enumerate(batch.raws):
            values = batch.values[index] if batch.values is not None else None
            place = (batch.input, batch.ends[index], batch.lines[index], batch.line_after(index))
            found.append((*place, raw, batch.keys[index], str(values)))
            assert starts[index] < batch.ends[index] <= batch.end
        for bad in batch.bad:
            # Of an over-long line only a beginning is kept; how much hangs on the windows it was read in.
            raw = b"" if bad.code == "record.too_long" else bad.raw
            found.append((bad.input, bad.end, bad.line, bad.lines, raw, bad.code, str(bad.start)))
    return found


def _swallowed(batches, ends):
    """Good records of the whole that lie inside the extent of another one, as a dead letter of it would say it."""
    return [
        (batch.input, start, end)
        for batch in batches
        for start, end in zip([batch.start, *batch.ends[:-1]], batch.ends, strict=False)
        if any(start < other < end for other in ends[batch.input])
    ]


def _check_windows(batches):
    """Batches of one input cover it without gap or overlap."""
    reached = {}
    for batch in batches:
        assert (batch.start, batch.line) == reached.get(batch.input, (0, 1))
        assert batch.end > batch.start
        reached[batch.input] = (batch.end, batch.next_line)
    return reached


def _check(spec, of, block_bytes, *, want_values):
    """All shares together are the whole; reading on and reading again keep to the same shares."""
    whole = list(open_source(spec, want_values=want_values).read({}))
    together = []
    ends = defaultdict(list)
    for batch in whole:
        ends[batch.input] += batch.ends
    for number in range(1, of + 1):
        share = Share(number, of, block_bytes)
        batches = list(open_shared(spec, share, want_values=want_values).read({}))
        assert _check_windows(batches) == _check_windows(whole)
        records = _records(batches)
        assert all(share.has(record[0], record[1]) for record in records)
        assert not _swallowed(batches, ends)
        together += records

        middle = batches[len(batches) // 2 :]
        again = open_shared(spec, share, want_values=want_values)
        slices = [Slice(batch.input, batch.start, batch.end, batch.line) for batch in middle]
        assert sorted(_records(again.reread(slices))) == sorted(_records(middle))
        if middle:
            first = middle[0]
            others = {name: again.mark(name, *place) for name, place in _check_windows(batches).items()}
            marks = {name: mark for name, mark in others.items() if name < first.input}
            marks[first.input] = again.mark(first.input, first.start, first.line)
            assert sorted(_records(again.read(marks))) == sorted(_records(middle))
    assert sorted(together) == sorted(_records(whole))


@given(
    files=st.lists(st.lists(_JSON_LINES, max_size=30), min_size=1, max_size=3),
    of=st.integers(2, 5),
    block_bytes=st.sampled_from([7, 64, 300, 1000, 5000]),
    ends_with_lf=st.booleans(),
    want_values=st.booleans(),
)
def test_every_line_is_in_exactly_one_share(files, of, block_bytes, ends_with_lf, want_values):
    """NDJSON: the union of the shares is the input, none overlap, and every place and key is that of the whole."""
    with _folder() as here:
        for number, lines in enumerate(files):
            (here / f"in{number}.ndjson").write_bytes(b"\n".join(lines) + b"\n" * ends_with_lf)
        spec = SourceSpec(type="ndjson", paths=("in*",), key="id", line_max=800)
        _check(spec, of, block_bytes, want_values=want_values)


@given(
    files=st.lists(st.lists(_CSV_LINES, max_size=30), min_size=1, max_size=3),
    of=st.integers(2, 5),
    block_bytes=st.sampled_from([7, 64, 300, 1000, 5000]),
    want_values=st.booleans(),
)
def test_every_row_is_in_exactly_one_share(files, of, block_bytes, want_values):
    """CSV: the same, with rows over several lines and quotes that never close."""
    with _folder() as here:
        for number, lines in enumerate(files):
            (here / f"in{number}.csv").write_bytes(b"id,x\n" + b"\n".join(lines))
        spec = SourceSpec(type="csv", paths=("in*",), key="id", line_max=800)
        _check(spec, of, block_bytes, want_values=want_values)


@given(lines=st.lists(_JSON_LINES, max_size=40), more=st.lists(_JSON_LINES, max_size=40), of=st.integers(2, 4))
def test_what_is_appended_moves_nothing(lines, more, of):
    """A file that grows, and a new one beside it, leave every record in the share it was in."""
    with _folder() as here:
        spec = SourceSpec(type="ndjson", paths=("in*",), key="id", line_max=800)
        (here / "in1").write_bytes(b"".join(line + b"\n" for line in lines))
        shares = [Share(number, of, 100) for number in range(1, of + 1)]
        before = [_records(open_shared(spec, share, want_values=False).read({})) for share in shares]
        with (here / "in1").open("ab") as file:
            file.write(b"".join(line + b"\n" for line in more))
        (here / "in0").write_bytes(b'{"id":"new"}\n')
        after = [_records(open_shared(spec, share, want_values=False).read({})) for share in shares]
        for old, new in zip(before, after, strict=True):
            assert sorted(record for record in new if record[:1] == ("in1",))[: len(old)] == sorted(old)


@pytest.mark.parametrize("kind", ["ndjson", "csv"])
def test_a_compressed_input_is_shared_by_its_plain_bytes(here, kind):
    """Blocks are of what stands in the file, not of how it is stored."""
    lines = [f'{{"id":"{n}"}}' if kind == "ndjson" else f"{n},x" for n in range(2000)]
    head = [] if kind == "ndjson" else ["id,x"]
    (here / "in.gz").write_bytes(gzip.compress("\n".join([*head, *lines, ""]).encode()))
    spec = SourceSpec(type=kind, paths=("in.gz",), key="id")

    _check(spec, 3, 1000, want_values=False)


def test_lines_of_others_are_not_looked_at(here):
    """What is in a foreign block is passed over: only own blocks cost more than counting lines."""
    line = b'{"id":"%s"}\n' % (b"k" * 100)
    (here / "in.ndjson").write_bytes(line * (8 * BLOCK_BYTES // len(line)))
    spec = SourceSpec(type="ndjson", paths=("in.ndjson",), key="id")
    share = Share(1, 4)
    inner = open_shared(spec, share, want_values=False)._source

    given_out = [batch for batch in inner.read({}) if isinstance(batch, Batch) and batch.raws]

    assert given_out
    assert all(share.has(batch.input, end) for batch in given_out for end in batch.ends)
