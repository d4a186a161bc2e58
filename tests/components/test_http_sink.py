"""HTTP sink: every row arrives, each batch under one key for ever, and what the receiver refuses is told row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.components.sinks.directory import PartRecord
from engine.components.sinks.http import HttpPart, HttpSink
from engine.errors import ConfigError, OutputError
from engine.pipeline.check import Parts, check_pipeline
from engine.pipeline.spec import PostSpec, SinkSpec
from engine.settings import Secret
from engine.store.room import is_away
from tests.runtime.receiver import Receiver, receiving

TOKEN = "a-token-of-tests"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """One that takes everything."""
    with receiving() as one:
        yield one


Begin = Callable[..., HttpPart]


@pytest.fixture
def begin(receiver: Receiver) -> Iterator[Begin]:
    """A part of so many rows, ready to be finished."""
    parts: list[HttpPart] = []

    def begin(rows: int, *, number: int = 1, owner: str = "me", **options: Any) -> HttpPart:
        members = {"batch": PostSpec(rows=4), "headers": {"Authorization": Secret(TOKEN)}, **options}
        spec = SinkSpec(type="http", endpoint=receiver.url, **members)
        sink = HttpSink(spec, pipeline="people", key="id", owner=owner)
        part = sink.begin(epoch=1, number=number)
        parts.append(part)
        part.append(sink.encode([{"id": f"r{index}", "n": index} for index in range(rows)]), rows)
        return part

    yield begin
    for part in parts:
        part.discard()


def ids(receiver: Receiver) -> list[str]:
    """The rows that were taken."""
    return [row["id"] for row in receiver.rows]


@pytest.mark.parametrize(("method", "format_"), [("POST", "ndjson"), ("PUT", "json")])
def test_rows_arrive_in_batches_in_order(receiver: Receiver, begin: Begin, method: str, format_: str) -> None:
    """Ten rows are batches of four, four and two, each with a key of its own and the headers that were asked for."""
    done = begin(10, method=method, format=format_).finish()
    assert (done.name, done.rows, done.refused) == ("part-0001-000001", 10, ())
    assert [len(seen.rows) for seen in receiver.seen] == [4, 4, 2]
    assert ids(receiver) == [f"r{number}" for number in range(10)]
    assert {(seen.method, seen.headers["authorization"]) for seen in receiver.seen} == {(method, TOKEN)}
    assert len(receiver.taken) == 3


def test_a_batch_is_bounded_in_bytes(receiver: Receiver, begin: Begin) -> None:
    """A row that is larger than a body may be goes alone."""
    begin(3, batch=PostSpec(rows=100, bytes=1)).finish()
    assert [len(seen.rows) for seen in receiver.seen] == [1, 1, 1]


def test_a_lost_answer_and_a_full_house_cost_a_request(receiver: Receiver, begin: Begin) -> None:
    """Asked again under the same key: what was taken is not taken twice."""
    receiver.script = ["lost", (429, {"Retry-After": "0"}), 204]
    assert begin(4).finish().rows == 4
    assert len({seen.headers["idempotency-key"] for seen in receiver.seen}) == 1
    assert ids(receiver) == ["r0", "r1", "r2", "r3"]
    assert len(receiver.seen) == 3


def test_a_receiver_that_is_away_is_waited_for_and_not_told_twice(receiver: Receiver, begin: Begin) -> None:
    """The part says that it is away; finished again, it goes on with the batch that was not taken."""
    receiver.script = [204, *[501] * 20]
    part = begin(8)
    with pytest.raises(OutputError, match="answers 501") as raised:
        part.finish()
    assert is_away(raised.value)
    assert TOKEN not in str(raised.value)
    receiver.script = []
    assert part.finish().rows == 8
    assert ids(receiver) == [f"r{number}" for number in range(8)]
    assert [seen.rows[0]["id"] for seen in receiver.seen].count("r0") == 1


def test_a_pause_that_the_receiver_asks_for_is_kept_without_holding_up_a_stop(receiver: Receiver, begin: Begin) -> None:
    """It is not asked again before, and whoever waits does so outside, where a stop is heard."""
    receiver.script = [(503, {"Retry-After": "200"})] * 3
    part = begin(4)
    for _ in range(2):
        with pytest.raises(OutputError) as raised:
            part.finish()
        assert is_away(raised.value)
    assert len(receiver.seen) == 3
    assert "asked for a pause" in raised.value.message


def test_refused_rows_are_found_and_named(receiver: Receiver, begin: Begin) -> None:
    """Two bad rows of eight are dead letters with the receiver's words, less our secret; the others arrive."""
    receiver.refuses = {"r2", "r5"}
    done: PartRecord = begin(8).finish()
    assert done.rows == 6
    assert [(row.index, row.key) for row in done.refused] == [(2, "r2"), (5, "r5")]
    assert done.refused[0].reason == "the receiver answers 422: no: ***"
    assert sorted(ids(receiver)) == ["r0", "r1", "r3", "r4", "r6", "r7"]


@pytest.mark.parametrize("answer", [401, 404, (302, {"Location": "http://127.0.0.1:1/"})])
def test_a_request_that_is_wrong_as_such_stops(receiver: Receiver, begin: Begin, answer: Any) -> None:
    """No row is at fault where the door is shut, has moved or is not there."""
    receiver.script = [answer]
    with pytest.raises(ConfigError, match=r"answers (401|404|302): no:") as raised:
        begin(4).finish()
    assert "check `endpoint`" in (raised.value.hint or "")
    assert TOKEN not in str(raised.value)
    assert len(receiver.seen) == 1


def test_a_key_is_of_these_rows_of_this_ledger(receiver: Receiver, begin: Begin) -> None:
    """The same part made again has the same key; another part, other rows or another ledger have others."""
    for rows, more in ((4, {}), (4, {}), (3, {}), (4, {"number": 2}), (4, {"owner": "you"})):
        begin(rows, **more).finish()
    keys = [seen.headers["idempotency-key"] for seen in receiver.seen]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("options", "at"),
    [
        ({}, "sink.endpoint"),
        ({"endpoint": "ftp://x/"}, "sink.endpoint"),
        ({"endpoint": "http://example.net/"}, "sink.endpoint"),
        ({"endpoint": "https://me:pw@example.net/"}, "sink.endpoint"),
        ({"endpoint": "https://example.net/", "path": "out"}, "sink.path"),
        ({"endpoint": "https://example.net/", "headers": {"Host": Secret("x")}}, "sink.headers.Host"),
        ({"endpoint": "https://example.net/", "headers": {"a b": Secret("x")}}, "sink.headers.a b"),
        ({"type": "ndjson", "path": "out", "endpoint": "https://example.net/"}, "sink.endpoint"),
    ],
)
def test_what_cannot_be_is_found_by_check(options: dict[str, Any], at: str) -> None:
    """Each at its own place, before anything runs."""
    found = check_pipeline(Parts(sink=SinkSpec(**{"type": "http", **options})))
    assert [".".join(map(str, fault.at)) for fault in found] == [at]
