"""The books of whole runs: every row read ends in exactly one bucket, or the outcome says so."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.errors import Exit
from tests.runtime.conftest import Rig, plain

pytestmark = pytest.mark.anyio


async def test_every_row_is_accepted_and_lands_once(rig: Rig) -> None:
    """The plain case: 95 rows, ten jobs, one part."""
    rig.write(95)
    report = await rig.run()
    books = {"read": 95, "accepted": 95, "rejected": 0, "dead": 0, "filtered": 0, "open": 0}
    assert plain(report) == {"outcome": "done", **books}
    assert (report.jobs, report.parts, report.exit_code) == (10, 1, Exit.DONE)
    assert rig.keys() == sorted(f"r{n}" for n in range(95))
    assert rig.creates() == 10


async def test_nothing_new_sends_nothing(rig: Rig) -> None:
    """A second run over the same input says so, and reports the books of the run that ended it."""
    rig.write(20)
    first = await rig.run()
    second = await rig.run()
    assert (second.outcome, second.jobs, second.requests, second.run_id) == ("nothing_new", 0, 0, first.run_id)
    assert (second.read, second.accepted) == (20, 20)
    assert rig.creates() == 2


async def test_only_new_rows_are_taken(rig: Rig) -> None:
    """Rows appended to a file, and files that appear, are a run of their own in the same epoch."""
    rig.write(15)
    await rig.run()
    rig.write(5, first=15)
    rig.write(3, first=20, name="in2.ndjson")
    report = await rig.run()
    assert (report.outcome, report.read, report.accepted, report.epoch) == ("done", 8, 8, 1)
    assert rig.keys() == sorted(f"r{n}" for n in range(23))


async def test_fresh_starts_an_epoch_with_new_keys_and_replaces_the_output(rig: Rig) -> None:
    """Everything is sent again as new jobs, and the old epoch's parts go once the new one is complete."""
    rig.write(20)
    await rig.run()
    report = await rig.run(fresh=True)
    assert (report.outcome, report.epoch, report.read, report.replays) == ("done", 2, 20, 0)
    assert rig.creates() == 4
    assert rig.keys() == sorted(f"r{n}" for n in range(20))
    assert json.loads((rig.out / "_manifest.json").read_text())["epoch"] == 2


async def test_a_bad_line_costs_that_line_only(rig: Rig) -> None:
    """Malformed, keyless and mistyped lines are dead letters with their bytes and place; the others go on."""
    rig.replace('key   = "id"', 'key   = "id"\n[source.fields]\nid = "str"\nname = "str"')
    rig.write(3)
    with (rig.directory / "in.ndjson").open("ab") as file:
        file.write(b'not json\n{"name":"no key"}\n\n{"id":"x","name":7}\n')
    rig.write(2, first=3)
    report = await rig.run()
    assert plain(report) == {
        "outcome": "done", "read": 8, "accepted": 5, "rejected": 0, "dead": 3, "filtered": 0, "open": 0,
    }  # fmt: skip
    letters = rig.ledger('SELECT line, code, raw, start, "end" FROM dead_letters ORDER BY line')
    assert [(line, code) for line, code, *_ in letters] == [
        (4, "record.json"),
        (5, "record.key_missing"),
        (7, "record.type"),
    ]
    data = (rig.directory / "in.ndjson").read_bytes()
    for _, _, raw, start, end in letters:
        assert data[start:end].strip() == raw


async def test_filtered_and_transformed_rows_are_counted(rig: Rig) -> None:
    """A filter's rows are filtered; rows a function fails on are dead; all others arrive changed."""
    (rig.directory / "steps.py").write_text(
        "def shout(rows):\n"
        "    for row in rows:\n"
        "        if row['id'] == 'r3':\n"
        "            raise ValueError('no threes')\n"
        "    return [{**row, 'name': row['name'].upper()} for row in rows]\n"
    )
    rig.text += '[[transform]]\ntype="filter"\nfield="id"\nop="!="\nvalue="r1"\n'
    rig.text += '[[transform]]\ntype="python"\ncall="steps:shout"\n'
    rig.write(12)
    report = await rig.run()
    assert (report.read, report.accepted, report.filtered, report.dead, report.open) == (12, 10, 1, 1, 0)
    labels = [row[0] for row in rig.emulator.state.db.execute("SELECT label FROM entities")]
    assert sorted(labels) == sorted(f"ROW {n}" for n in range(12) if n not in (1, 3))


async def test_rows_the_platform_refuses_are_kept_as_rejected(rig: Rig) -> None:
    """A second insert of the same row is skipped by the platform, and kept here with its reason."""
    rig.replace('entity_type = "location"', 'entity_type = "location"\nmode = "insert"')
    rig.write(5)
    rig.write(2)
    report = await rig.run()
    assert (report.read, report.accepted, report.rejected, report.open) == (7, 5, 2, 0)
    letters = rig.ledger("SELECT bucket, key, line, code FROM dead_letters ORDER BY line")
    assert [letter[:2] for letter in letters] == [("rejected", "r0"), ("rejected", "r1")]


async def test_too_many_failed_rows_are_over_budget(rig: Rig) -> None:
    """One bad row in ten is over one percent: exit 5, and the good rows are there all the same."""
    rig.text += '[dead_letters]\nmax = "1%"\n'
    rig.write(9)
    with (rig.directory / "in.ndjson").open("a") as file:
        file.write("{\n")
    report = await rig.run()
    assert (report.outcome, report.exit_code, report.accepted) == ("over_budget", Exit.OVER_BUDGET, 9)


async def test_a_run_in_which_nothing_got_through_is_over_budget(rig: Rig) -> None:
    """Without a budget too, a run whose every row failed is no success."""
    (rig.directory / "in.ndjson").write_text("{\n{\n")
    report = await rig.run()
    assert (report.outcome, report.exit_code, report.read, report.dead) == ("over_budget", Exit.OVER_BUDGET, 2, 2)


@pytest.mark.parametrize(
    ("says", "words"),
    [({"drop": 1}, "the result holds 9"), ({"duplicate": 1}, "more than the 10 rows"), ({"miscount": 1}, "counts")],
)
async def test_a_platform_that_miscounts_is_caught(rig: Rig, says: dict[str, Any], words: str) -> None:
    """Rows dropped, doubled or miscounted by the platform: exit 6, and nothing of that job is committed."""
    await rig.emulate({"at": "result.rows", "count": 1, **says})
    rig.write(30)
    report = await rig.run()
    assert (report.outcome, report.exit_code) == ("unbalanced", Exit.UNBALANCED)
    assert (report.read, report.accepted, report.open) == (30, 20, 10)
    assert words in report.lines[0]
    assert len(rig.keys()) == 20


async def test_a_limit_takes_so_many_rows_and_the_next_run_goes_on(rig: Rig) -> None:
    """`--limit 7` reads seven rows; without it the rest follow."""
    rig.write(20)
    first = await rig.run(limit=7)
    second = await rig.run()
    assert (first.read, second.read) == (7, 13)
    assert rig.keys() == sorted(f"r{n}" for n in range(20))


async def test_an_empty_input_is_a_run_of_no_rows(rig: Rig) -> None:
    """Nothing to read is an outcome, and `min_rows` makes it a failure."""
    (rig.directory / "in.ndjson").write_text("")
    assert plain(await rig.run())["outcome"] == "done"
    rig.text += "[expect]\nmin_rows = 1\n"
    report = await rig.run(fresh=True)
    assert (report.outcome, report.exit_code) == ("too_few_rows", Exit.UNBALANCED)
