"""The batcher: jobs are decided by the input alone, and every record read is in exactly one of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.jobs import batcher as batching
from engine.jobs.batcher import Batcher, Cut
from engine.record import BadRecord, Batch

_KINDS = st.sampled_from(["good", "bad", "gone"])
_RECORDS = st.lists(st.tuples(_KINDS, st.integers(1, 40)), max_size=60)


def _batches(records: Sequence[tuple[str, int]], window: int) -> list[Batch]:
    """Records of one input, `window` of them to a batch; each is one line of its size."""
    batches, offset = [], 0
    for first in range(0, len(records), window):
        batch = Batch("in", offset, offset, first + 1, first + 1, [], [], [], [])
        raws, ends, lines, keys, bad, gone = [], [], [], [], [], []
        for number, (kind, size) in enumerate(records[first : first + window], start=first + 1):
            start, offset = offset, offset + size
            if kind == "good":
                raws.append(b"x" * size)
                ends.append(offset)
                lines.append(number)
                keys.append(str(number))
            elif kind == "bad":
                bad.append(BadRecord("in", number, start, offset, b"x" * size, "record.json", "bad"))
            else:
                gone.append(offset)
        batch.raws, batch.ends, batch.lines, batch.keys, batch.bad, batch.gone = raws, ends, lines, keys, bad, gone
        batch.end, batch.next_line = offset, first + 1 + len(records[first : first + window])
        batches.append(batch)
    return batches


def _cuts(records: Sequence[tuple[str, int]], window: int, *, rows: int = 5, room: int = 100) -> list[Cut]:
    batcher = Batcher(rows_max=rows, bytes_max=room + 10, envelope_bytes=10)
    cuts = [cut for batch in _batches(records, window) for cut in batcher.add(batch, batch.raws)]
    return [*cuts, last] if (last := batcher.flush()) else cuts


@given(records=_RECORDS, window=st.integers(1, 9))
def test_every_record_is_in_exactly_one_cut(records: list[tuple[str, int]], window: int) -> None:
    """Good, bad and filtered records add up over the cuts, in reading order, and the slices join without a gap."""
    cuts = _cuts(records, window)
    assert sum(cut.read for cut in cuts) == len(records)
    kinds = [kind for kind, _ in records]
    assert [key for cut in cuts for key in cut.keys] == [str(n) for n, k in enumerate(kinds, 1) if k == "good"]
    assert sum(len(cut.bad) for cut in cuts) == kinds.count("bad")
    assert sum(cut.filtered for cut in cuts) == kinds.count("gone")
    reached = 0
    for cut in cuts:
        for piece in cut.slices:
            assert piece.start == reached
            reached = piece.end
        assert cut.ends["in"][0] == reached
    assert reached == sum(size for _, size in records)


@given(records=_RECORDS, one=st.integers(1, 9), other=st.integers(1, 9))
def test_where_a_job_ends_does_not_depend_on_how_the_input_was_read(
    records: list[tuple[str, int]], one: int, other: int
) -> None:
    """The same input read in other windows gives the same jobs, so a lost ledger tail is planned again as it was."""
    first, second = _cuts(records, one), _cuts(records, other)
    assert [cut.items for cut in first] == [cut.items for cut in second]


@given(records=_RECORDS, window=st.integers(1, 9), at=st.integers(0, 59))
def test_reading_on_from_a_cut_gives_the_same_jobs(records: list[tuple[str, int]], window: int, at: int) -> None:
    """A process that takes up after any job plans the rest as the first one would have."""
    cuts = _cuts(records, window)
    if not cuts:
        return
    done = cuts[: at % len(cuts)]
    offset = done[-1].ends["in"][0] if done else 0
    sizes, rest = 0, []
    for kind, size in records:
        if sizes >= offset:
            rest.append((kind, size))
        sizes += size
    again = _cuts(rest, window)
    assert [cut.items for cut in again] == [cut.items for cut in cuts[len(done) :]]


@given(records=_RECORDS, window=st.integers(1, 9))
def test_a_job_stays_within_its_bounds(records: list[tuple[str, int]], window: int) -> None:
    """No job has more rows or bytes than allowed, except a single row that is larger than a whole job."""
    for cut in _cuts(records, window, rows=5, room=60):
        assert len(cut.items) <= 5
        assert cut.body_bytes <= 60 or len(cut.items) == 1


def test_the_line_of_a_slice_is_where_it_begins() -> None:
    """A job cut in the middle of a batch begins on the line after the last record before it."""
    cuts = _cuts([("good", 10)] * 7, 7, rows=3)
    assert [cut.slices[0].line for cut in cuts] == [1, 4, 7]


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a few records overflow: two bad ones, or 50 bytes of originals."""
    monkeypatch.setattr(batching, "BAD_MAX", 1200)
    monkeypatch.setattr(batching, "RAWS_MAX", 50)


def _kept_cuts(records: Sequence[tuple[str, int]], window: int) -> list[Cut]:
    batcher = Batcher(rows_max=5, bytes_max=110, envelope_bytes=10, keeps=True)
    cuts = [cut for batch in _batches(records, window) for cut in batcher.add(batch, batch.raws)]
    return [*cuts, last] if (last := batcher.flush()) else cuts


_IN_SMALL = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@_IN_SMALL
@given(records=_RECORDS, one=st.integers(1, 9), other=st.integers(1, 9), at=st.integers(0, 59))
def test_bad_records_and_originals_end_a_job_at_a_record(
    small_bounds: None, records: list[tuple[str, int]], one: int, other: int, at: int
) -> None:
    """What piles up beside a job ends it, wherever windows lie and wherever reading was taken up again."""
    cuts = _kept_cuts(records, one)
    assert sum(cut.read for cut in cuts) == len(records)
    assert all(sum(map(len, cut.originals.raws)) <= 50 or len(cut.items) == 1 for cut in cuts)
    assert all(len(cut.bad) <= 5 for cut in cuts)
    assert [cut.items for cut in cuts if cut.items] == [cut.items for cut in _kept_cuts(records, other) if cut.items]
    if not cuts:
        return
    done = cuts[: at % len(cuts)]
    offset, line = done[-1].ends["in"] if done else (0, 1)
    assert line == 1 + sum(cut.read for cut in done)
    again = _kept_cuts(records[line - 1 :], one)
    assert [cut.items for cut in again if cut.items] == [cut.items for cut in cuts[len(done) :] if cut.items]
    assert offset == sum(size for _, size in records[: line - 1])


@_IN_SMALL
@given(records=_RECORDS, window=st.integers(1, 9))
def test_originals_keep_their_places(small_bounds: None, records: list[tuple[str, int]], window: int) -> None:
    """Each original is kept with the line and the bytes it came from, so that its dead letter can name them."""
    ends = [sum(size for _, size in records[: n + 1]) for n in range(len(records))]
    want = [(n + 1, ends[n] - size, ends[n]) for n, (kind, size) in enumerate(records) if kind == "good"]
    kept = [cut.originals for cut in _kept_cuts(records, window)]
    found = [place for each in kept for place in zip(each.lines, each.starts, each.ends, strict=True)]
    assert [(line, end) for line, _, end in found] == [(line, end) for line, _, end in want]
    assert all(start <= true_start for (_, start, _), (_, true_start, _) in zip(found, want, strict=True))


@given(
    records=st.lists(st.tuples(st.sampled_from(["good", "good", "good", "gone"]), st.integers(1, 140)), max_size=60),
    window=st.integers(1, 20),
    rows=st.integers(1, 7),
    room=st.sampled_from([30, 100, 1000]),
)
def test_cuts_found_by_sums_are_the_cuts_found_by_looking(
    records: list[tuple[str, int]], window: int, rows: int, room: int
) -> None:
    """Items larger than a job, jobs that are just full, windows that end anywhere: either way cuts the same."""

    def cuts(*, keeps: bool) -> list[tuple[object, ...]]:
        batcher = Batcher(rows_max=rows, bytes_max=room + 10, envelope_bytes=10, keeps=keeps)
        found = [cut for batch in _batches(records, window) for cut in batcher.add(batch, batch.raws)]
        found += [last] if (last := batcher.flush()) else []
        return [(cut.keys, cut.items, cut.slices, cut.ends, cut.filtered, cut.body_bytes) for cut in found]

    # With originals to keep, every item is looked at.
    assert cuts(keeps=False) == cuts(keeps=True)
