"""Whole runs whose results are not as declared: what lands, what is counted, and what stops a job."""

from __future__ import annotations

from typing import Any

import pytest

from engine.transport.incoming import Incoming, Outgoing
from tests.faults.rewriting import document, rewrite, with_document
from tests.runtime.conftest import Rig

pytestmark = pytest.mark.anyio
_FIELDS = """[results.fields]
external_id = "str"
id          = "str"
status      = "str"
"""
_DRIFT = """[results.fields]
external_id = "str"
status      = "str"
score       = "int | None"
[results.drift]
"""


async def _spoiled(rig: Rig, drift: str) -> None:
    """A platform whose every fifth row result has a `score` that is text, and a pipeline that says so much of drift."""
    rig.replace(_FIELDS, _DRIFT + drift)
    emulator = await rig.emulate()

    def change(incoming: Incoming, outgoing: Outgoing) -> Outgoing | None:
        if not incoming.path.startswith("/results/") or outgoing.status != 200:
            return None
        result: dict[str, Any] = document(outgoing)
        for index, row in enumerate(result["rows"]):
            row["score"] = "high" if index % 5 == 0 else index
        return with_document(outgoing, result)

    rewrite(emulator, change)
    rig.write(20)


async def test_what_is_not_declared_lands_and_what_does_not_fit_becomes_null(rig: Rig) -> None:
    """All rows land, with the members nobody named; the report counts the values that were lost."""
    await _spoiled(rig, 'new_field = "widen"\nbad_value = "null"\n')
    report = await rig.run()
    assert (report.outcome, report.accepted, report.dead) == ("done", 20, 0)
    assert any("4 values of `score` did not fit" in line for line in report.lines)
    rows = rig.rows()
    assert {tuple(sorted(row)) for row in rows} == {("errors", "external_id", "id", "index", "score", "status")}
    assert sum(row["score"] is None for row in rows) == 4


async def test_a_bad_value_stops_its_job_and_nothing_of_it_lands(rig: Rig) -> None:
    """The run does not balance and names the row; with the type mended it goes on where it was."""
    await _spoiled(rig, 'bad_value = "reject"\n')
    report = await rig.run()
    assert (report.outcome, report.accepted, report.open) == ("unbalanced", 0, 20)
    assert "does not fit [results.fields]" in report.lines[0]
    rig.replace('"int | None"', '"json"')
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", 20)
    assert rig.creates() == 2
