"""Sinks that are a function of the user's, or standard output: every row of a part, and what cannot be taken."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.components.catalog import sink_of
from engine.components.sinks.python import PartOfRows, PythonSink
from engine.components.sinks.stdout import StdoutSink
from engine.errors import ConfigError, OutputError, PartialFailure
from engine.pipeline.spec import PipelineSpec, SinkSpec, SourceSpec
from engine.settings import ObjectsSettings
from engine.store.room import is_away


class Taker:
    """A function that remembers what it was called with."""

    def __init__(self, act: Callable[[list[dict[str, Any]], PartOfRows], Any] = lambda rows, part: None) -> None:
        self.calls: list[tuple[list[dict[str, Any]], PartOfRows]] = []
        self._act = act

    def __call__(self, rows: list[dict[str, Any]], part: PartOfRows) -> None:
        self.calls.append((rows, part))
        self._act(rows, part)


def write(sink: Any, count: int, *, number: int = 7) -> Any:
    """One part of so many rows."""
    part = sink.begin(epoch=3, number=number)
    try:
        for start in range(0, count, 400):
            rows = [{"id": f"r{n}", "n": n} for n in range(start, min(start + 400, count))]
            part.append(sink.encode(rows), len(rows))
        return part.finish()
    finally:
        part.discard()


def python(taker: Taker) -> PythonSink:
    """A sink into it."""
    return PythonSink("acme:store", taker, pipeline="cities", key="id")


def test_a_function_gets_every_row_of_a_part_in_batches() -> None:
    """Each row once, in order, in batches that say the pipeline, the epoch, the part and their place in it."""
    taker = Taker()
    done = write(python(taker), 50_000)

    rows = [row for call, _ in taker.calls for row in call]
    assert [row["n"] for row in rows] == list(range(50_000))
    assert max(len(call) for call, _ in taker.calls) <= 1_000
    told = [part for _, part in taker.calls]
    assert {(part.pipeline, part.epoch, part.part) for part in told} == {("cities", 3, 7)}
    assert [part.batch for part in told] == list(range(len(told)))
    assert [part.first for part in told] == [call[0]["n"] for call, _ in taker.calls]
    assert (done.name, done.rows, done.refused) == ("part-0003-000007", 50_000, ())


def test_rows_that_a_function_refuses_are_named() -> None:
    """By their index in the batch, with its reason; the others count."""

    def act(rows: list[dict[str, Any]], part: PartOfRows) -> None:
        failures = {index: "unlucky" for index, row in enumerate(rows) if row["n"] in (13, 1_500)}
        for row in rows:
            row.clear()
        if failures:
            raise PartialFailure("some", failures=failures)

    done = write(python(Taker(act)), 2_000)

    assert [(row.index, row.key, row.reason) for row in done.refused] == [
        (13, "r13", "acme:store: unlucky"), (1_500, "r1500", "acme:store: unlucky"),
    ]  # fmt: skip
    assert done.rows == 1_998


@pytest.mark.parametrize("index", [-1, 5, 99])
def test_a_refused_row_that_cannot_be_named_fails_the_part(index) -> None:
    """An index outside the batch, or a row without its key, is the function's mistake."""

    def act(rows: list[dict[str, Any]], part: PartOfRows) -> None:
        raise PartialFailure("some", failures={index: "no"})

    sink = PythonSink("acme:store", Taker(act), pipeline="p", key="absent" if index == 5 else "id")
    with pytest.raises(OutputError, match="to be named by"):
        write(sink, 10)


def test_what_a_function_raises_ends_the_part_with_its_name() -> None:
    """Anything but an error of the engine is told with the function, the rows and the part."""

    def act(rows: list[dict[str, Any]], part: PartOfRows) -> None:
        raise KeyError("oh")

    with pytest.raises(OutputError, match=r"acme:store.*rows 0 to 9 of part 7: KeyError") as caught:
        write(python(Taker(act)), 10)
    assert not is_away(caught.value)


def test_a_function_may_ask_to_be_called_again() -> None:
    """Whatever it writes to is away: the part begins again from its first batch."""
    tries: list[int] = []

    def act(rows: list[dict[str, Any]], part: PartOfRows) -> None:
        tries.append(part.batch)
        if len(tries) == 2:
            raise OutputError("the far end is away", is_away=True)

    sink = python(Taker(act))
    part = sink.begin(epoch=1, number=1)
    part.append(sink.encode([{"id": f"r{n}"} for n in range(1_500)]), 1_500)
    with pytest.raises(OutputError) as caught:
        part.finish()
    assert is_away(caught.value)
    assert part.finish().rows == 1_500
    assert tries == [0, 1, 0, 1]


def test_a_function_is_imported_from_beside_the_pipeline(tmp_path: Path) -> None:
    """One that is not there, or async, is told as the sink's."""
    (tmp_path / "beside_sink.py").write_text("def store(rows, part): ...\nasync def wait(rows, part): ...\n")

    def opened(call: str) -> Any:
        spec = PipelineSpec(
            version=1, name="p", source=SourceSpec(type="ndjson", key="id"), sink=SinkSpec(type="python", call=call)
        )
        return sink_of(spec, owner=str, store=ObjectsSettings(), base=tmp_path)

    assert opened("beside_sink:store").call == "beside_sink:store"
    for call in ("beside_sink:absent", "beside_sink:wait", "no_such_module:x"):
        with pytest.raises(ConfigError, match=f"the sink `{call}`"):
            opened(call)


@pytest.fixture
def stdout():
    """A pipe or file in the place of stdout: call with a descriptor."""
    saved = os.dup(1)
    yield lambda fd: os.dup2(fd, 1)
    os.dup2(saved, 1)
    os.close(saved)


def test_rows_come_out_as_lines_when_their_part_is_whole(tmp_path, stdout) -> None:
    """One JSON object per line, in order; a part that is discarded leaves nothing."""
    sink = StdoutSink()
    with (tmp_path / "out").open("wb") as file:
        stdout(file.fileno())
        part = sink.begin(epoch=1, number=1)
        part.append(sink.encode([{"id": "never"}]), 1)
        part.discard()
        done = write(sink, 1_000)
    lines = (tmp_path / "out").read_bytes().splitlines()

    assert len(lines) == done.rows == 1_000
    assert lines[999] == b'{"id":"r999","n":999}'
    assert (sink.sweep(set()), sink.write_manifest({})) == (0, "")


def test_a_reader_that_has_gone_is_an_output_error(stdout) -> None:
    """A closed pipe fails the part, whose rows come again."""
    read, out = os.pipe()
    os.close(read)
    stdout(out)
    try:
        with pytest.raises(OutputError, match="standard output"):
            write(StdoutSink(), 10)
    finally:
        os.close(out)
