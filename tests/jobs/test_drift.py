"""Row results that are not as declared: new members dropped, landed, refused; bad values nulled or fatal."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.codec.fields import struct_of
from engine.codec.payload import encode_lines
from engine.errors import Unbalanced
from engine.jobs.interpret import Interpreter, Reading, Taken
from engine.pipeline.check import Parts, check_pipeline
from engine.pipeline.spec import DriftSpec, JobSpec, ResultsSpec, SinkSpec

FIELDS = {"id": "str", "status": "str", "score": "int | None", "at": "datetime"}
GOOD = {"id": "a", "status": "ok", "score": 1, "at": "2026-01-01T00:00:00Z"}


def reading(*, new_field: str = "drop", bad_value: str = "quarantine") -> Reading:
    """How rows of FIELDS are read."""
    return Reading(
        match="id",
        status="status",
        accepted=frozenset(["ok"]),
        rejected=frozenset(["bad"]),
        row=struct_of("Row", FIELDS, is_closed=new_field == "reject"),
        encode=lambda rows: encode_lines(list(rows)),
        takes_raw=True,
        is_wide=new_field == "widen",
        nulls=frozenset(["score"]) if bad_value == "null" else frozenset(),
        is_strict=bad_value == "reject",
    )


def take(how: Reading, *rows: dict[str, Any], is_pretty: bool = False) -> tuple[Taken, Interpreter]:
    """Read a window."""
    interpreter = Interpreter(how, rows_max=99)
    return interpreter.window(json.dumps(rows, indent=1 if is_pretty else None).encode()), interpreter


def landed(taken: Taken) -> list[dict[str, Any]]:
    """The rows of a chunk."""
    return [json.loads(line) for line in taken.chunk.splitlines()]


@pytest.mark.parametrize("is_pretty", [False, True])
@pytest.mark.parametrize(
    ("new_field", "wanted"), [("drop", [GOOD]), ("widen", [{**GOOD, "more": [1]}]), ("reject", [])]
)
def test_a_member_that_nobody_declared(new_field: str, wanted: list[dict[str, Any]], is_pretty: bool) -> None:
    """It is left out, lands with its row, or costs the row; a row without it is none the worse."""
    taken, _ = take(reading(new_field=new_field), {**GOOD, "more": [1]}, {**GOOD, "id": "b"}, is_pretty=is_pretty)
    assert landed(taken) == [*wanted, {**GOOD, "id": "b"}]
    said = [(row.key, row.bucket, row.code) for row in taken.ended]
    assert said == ([("a", "dead", "record.type")] if new_field == "reject" else [])
    if new_field == "reject":
        assert "`more`" in taken.ended[0].reason


@pytest.mark.parametrize("new_field", ["drop", "widen", "reject"])
def test_rejected_rows_keep_their_reason_beside_a_new_member(new_field: str) -> None:
    """What the platform refused is told in its own words where the row may be read, whatever else it holds."""
    bad = {**GOOD, "id": "b", "status": "bad", "error": "no such"}
    taken, interpreter = take(reading(new_field=new_field), GOOD, bad)
    assert landed(taken) == [GOOD]
    assert interpreter.keys == ["a", "b"]
    if new_field != "reject":
        assert [(row.bucket, row.reason) for row in taken.ended] == [("rejected", "no such")]


@pytest.mark.parametrize("new_field", ["drop", "widen"])
def test_a_bad_value_is_set_apart_or_becomes_null(new_field: str) -> None:
    """By default its row is a dead letter; with `null` it lands without the value, and is counted."""
    wrong = {**GOOD, "id": "b", "score": "many"}
    taken, interpreter = take(reading(new_field=new_field), GOOD, wrong)
    assert (landed(taken), [row.key for row in taken.ended]) == ([GOOD], ["b"])
    assert not interpreter.nulled

    taken, interpreter = take(reading(new_field=new_field, bad_value="null"), GOOD, wrong)
    assert landed(taken) == [GOOD, {**wrong, "score": None}]
    assert (taken.ended, interpreter.nulled, interpreter.keys) == ([], {"score": 1}, ["a", "b"])


def test_a_value_that_may_not_be_null_costs_its_row() -> None:
    """`at` must be a time: nulling is for fields that say they may be null."""
    taken, interpreter = take(reading(bad_value="null"), GOOD, {**GOOD, "id": "b", "at": "soon", "score": []})
    assert [row.key for row in taken.ended] == ["b"]
    assert "$[0].at" in taken.ended[0].reason
    assert interpreter.keys == ["a", "b"]


def test_a_bad_value_can_stop_its_job() -> None:
    """With `reject` nothing of the job counts, and the message names row and field."""
    with pytest.raises(Unbalanced, match=r"row 'b' does not fit .*score"):
        take(reading(bad_value="reject"), GOOD, {**GOOD, "id": "b", "score": "many"})


def faults(results: ResultsSpec, sink: str = "ndjson", **more: Any) -> list[tuple[str, str]]:
    """What a check says: places and messages."""
    parts = Parts(job=JobSpec(kind="import.bulk"), results=results, sink=SinkSpec(type=sink, path="out"), **more)  # type: ignore[arg-type]
    return [(".".join(map(str, fault.at)), fault.message) for fault in check_pipeline(parts) if "drift" in fault.at]


@pytest.mark.parametrize(
    ("drift", "fields", "sink", "at", "said"),
    [
        (DriftSpec(new_field="widen"), FIELDS, "csv", "results.drift.new_field", "no others"),
        (DriftSpec(new_field="widen"), {}, "ndjson", "results.drift", "needs [results.fields]"),
        (DriftSpec(new_field="reject"), FIELDS, "ndjson", "results.drift.new_field", "`external_id` is in every row"),
        (DriftSpec(bad_value="null"), {"id": "str"}, "ndjson", "results.drift.bad_value", "no field may be null"),
    ],
)
def test_what_cannot_be_is_found_by_check(
    drift: DriftSpec, fields: dict[str, str], sink: str, at: str, said: str
) -> None:
    """Each at its own place, before anything runs."""
    found = faults(ResultsSpec(fields=fields, drift=drift), sink)
    assert len(found) == 1
    assert found[0][0] == at
    assert said in found[0][1]


def test_without_a_job_there_is_nothing_to_hold_to_it() -> None:
    """Answers of routes are of the contract's types already."""
    parts = Parts(results=ResultsSpec(fields=FIELDS, drift=DriftSpec(new_field="reject")))
    assert any("only the results of jobs" in fault.message for fault in check_pipeline(parts))
