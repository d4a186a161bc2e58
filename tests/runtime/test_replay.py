"""Dead letters sent again: the output of a repaired pipeline is that of one that never failed."""

from __future__ import annotations

import json
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError, StateError
from engine.events import JobSubmitted
from engine.pipeline.parse import load_pipeline
from engine.runtime.drain import StopFlag
from engine.runtime.replay import Replay, open_replay
from engine.store.ledger import Ledger
from engine.store.letters import Selection
from tests.runtime.conftest import Rig, plain
from tests.runtime.watchers import At
from tests.store.version_1 import downgrade

pytestmark = pytest.mark.anyio

_FIELDS = 'key   = "id"\n[source.fields]\nid = "str"\nrank = "int"'


def _write(rig: Rig, rows: int, *, bad_every: int) -> None:
    """Rows of which some have a rank in words."""
    with (rig.directory / "in.ndjson").open("w") as file:
        for number in range(rows):
            rank = number if number % bad_every else f"no. {number}"
            file.write(json.dumps({"id": f"r{number}", "name": f"Row {number}", "rank": rank}) + "\n")


def _output(rig: Rig) -> list[tuple[str, str]]:
    return sorted((row["external_id"], row["status"]) for row in rig.rows())


def _positions(rig: Rig) -> Any:
    return rig.ledger("SELECT * FROM marks WHERE epoch=1"), rig.ledger("SELECT * FROM jobs WHERE epoch=1 ORDER BY seq")


async def test_a_repaired_and_replayed_run_equals_a_clean_one(rig: Rig, tmp_path: Path) -> None:
    """One row in a hundred fails; with the mapping fixed a replay delivers them, and no position of the input moves."""
    rig.replace('key   = "id"', _FIELDS)
    _write(rig, 300, bad_every=100)
    first = await rig.run()
    assert plain(first) == {
        "outcome": "done", "read": 300, "accepted": 297, "rejected": 0, "dead": 3, "filtered": 0, "open": 0,
    }  # fmt: skip
    before = _positions(rig)
    rig.replace('rank = "int"', 'rank = "json"')
    replay = await rig.replay()
    assert plain(replay) == {
        "outcome": "done", "read": 3, "accepted": 3, "rejected": 0, "dead": 0, "filtered": 0, "open": 0,
    }  # fmt: skip
    assert _positions(rig) == before
    assert rig.ledger("SELECT DISTINCT state FROM dead_letters") == [("replayed",)]
    async with AsyncExitStack() as stack:
        (tmp_path / "clean").mkdir()
        clean = Rig(tmp_path / "clean", stack)
        clean.replace('key   = "id"', _FIELDS.replace('"int"', '"json"'))
        _write(clean, 300, bad_every=100)
        assert (await clean.run()).accepted == 300
        assert _output(rig) == _output(clean)
    manifest = json.loads((rig.out / "_manifest.json").read_text())
    assert (manifest["epoch"], manifest["rows"]) == (1, 300)
    assert (await rig.run()).outcome == "nothing_new"


async def test_a_letter_that_fails_again_is_a_new_letter_that_says_which_it_was(rig: Rig) -> None:
    """Its place is the input's, not the replay's; the old one has ended, and the books of both runs balance."""
    rig.replace('key   = "id"', _FIELDS)
    _write(rig, 40, bad_every=20)
    first = await rig.run()
    again = await rig.replay()
    assert (again.read, again.dead, again.open, again.outcome) == (2, 2, 0, "over_budget")
    old, new = rig.letters.find(Selection(states=("replayed",))), rig.letters.find(Selection(states=("open",)))
    assert [letter.replay_of for letter in new] == [letter.id for letter in old]
    for before, after in zip(old, new, strict=True):
        assert (after.input, after.line, after.start, after.end, after.raw) == (
            before.input, before.line, before.start, before.end, before.raw,
        )  # fmt: skip
        assert (before.run_id, before.replay_run, after.run_id) == (first.run_id, again.run_id, again.run_id)


async def test_rows_the_platform_rejected_are_edited_and_accepted(rig: Rig) -> None:
    """Edited letters travel as they were edited; what was read is kept beside it."""
    rig.replace('entity_type = "location"', 'entity_type = "location"\nmode = "insert"')
    rig.write(5)
    rig.write(2)
    first = await rig.run()
    assert (first.accepted, first.rejected) == (5, 2)
    for letter in rig.letters.find(Selection(bucket="rejected")):
        rig.letters.edit(letter, json.dumps({"id": f"{letter.key}-b", "name": "again"}).encode(), now_ns=1)
    again = await rig.replay()
    assert (again.read, again.accepted, again.open) == (2, 2, 0)
    assert rig.keys() == sorted([*(f"r{n}" for n in range(5)), "r0-b", "r1-b"])
    letters = rig.letters.find(Selection())
    assert [(letter.state, b"again" in (letter.edited or b""), b"Row" in letter.raw) for letter in letters] == [
        ("replayed", True, True), ("replayed", True, True),
    ]  # fmt: skip
    with pytest.raises(StateError, match="cannot be changed"):
        rig.letters.edit(letters[0], b"{}", now_ns=2)


async def test_a_job_that_failed_is_replayed_with_new_keys(rig: Rig) -> None:
    """All rows of a dead job are sent again as other jobs of the platform, and land once."""
    await rig.emulate({"at": "job.outcome", "count": 1, "status": "failed", "code": "bad", "retryable": False})
    rig.write(30)
    assert (await rig.run()).dead == 10
    again = await rig.replay()
    assert (again.read, again.accepted, again.replays) == (10, 10, 0)
    assert rig.emulator.state.faults.tally()[0]["struck"] == 1
    assert rig.creates() == 4
    assert rig.keys() == sorted(f"r{n}" for n in range(30))
    keys = [row[0] for row in rig.ledger('SELECT "key" FROM jobs')]
    assert len(set(keys)) == 4


async def test_a_stopped_replay_is_taken_up_where_it_was(rig: Rig) -> None:
    """Its letters are out of reach meanwhile; the next replay ends it, with no job made twice."""
    await rig.emulate(
        {"at": "job.outcome", "count": 3, "status": "failed", "code": "bad", "retryable": False}, latency_s=0.3
    )
    rig.write(30)
    assert (await rig.run()).dead == 30
    stop = StopFlag()
    first = await rig.replay(stop=stop, observer=At(stop.request, JobSubmitted, 1))
    assert (first.outcome, first.is_replay) == ("interrupted", True)
    assert "replaying" in {letter.state for letter in rig.letters.find(Selection())}
    again = await rig.replay()
    assert (again.outcome, again.run_id, again.read, again.accepted) == ("done", first.run_id, 30, 30)
    assert rig.creates() == 6
    assert rig.keys() == sorted(f"r{n}" for n in range(30))


async def test_an_abandoned_replay_gives_its_letters_back(rig: Rig) -> None:
    """With another file an unfinished replay is refused; abandoned, its letters are sent by a new one."""
    rig.replace('key   = "id"', _FIELDS)
    await rig.emulate(latency_s=0.3)
    _write(rig, 30, bad_every=3)
    await rig.run()
    rig.replace('rank = "int"', 'rank = "json"')
    stop = StopFlag()
    first = await rig.replay(stop=stop, observer=At(stop.request, JobSubmitted, 1))
    assert first.outcome == "interrupted"
    rig.replace("rows = 10", "rows = 5")
    with pytest.raises(ConfigError, match="unfinished"):
        await rig.replay()
    again = await rig.replay(is_anew=True)
    assert (again.outcome, again.read, again.accepted) == ("done", 10, 10)
    assert again.run_id != first.run_id
    assert rig.ledger("SELECT outcome FROM runs WHERE run_id=?", (first.run_id,)) == [("abandoned",)]
    assert rig.keys() == sorted(f"r{n}" for n in range(30))


async def test_a_replay_beside_an_unfinished_run_disturbs_nothing(rig: Rig) -> None:
    """Both share the output of one epoch; the run goes on from its own position afterwards."""
    rig.replace('key   = "id"', _FIELDS)
    await rig.emulate(latency_s=0.3)
    _write(rig, 200, bad_every=20)
    stop = StopFlag()
    first = await rig.run(stop=stop, observer=At(stop.request, JobSubmitted, 2))
    assert (first.outcome, first.dead > 0) == ("interrupted", True)
    for letter in rig.letters.find(Selection()):
        row = json.loads(letter.raw)
        rig.letters.edit(letter, json.dumps({**row, "rank": 0}).encode(), now_ns=1)
    middle = await rig.replay()
    assert (middle.outcome, middle.accepted) == ("done", first.dead)
    last = await rig.run()
    assert (last.outcome, last.run_id, last.read, last.open) == ("done", first.run_id, 200, 0)
    rest = await rig.replay() if last.dead > first.dead else None
    assert rest is None or rest.outcome == "over_budget"
    assert last.accepted + middle.accepted == len(rig.keys()) == len(set(rig.keys()))


async def test_letters_of_an_earlier_epoch_are_left_alone(rig: Rig) -> None:
    """A fresh run has read their rows again, so sending them too would deliver them twice."""
    rig.replace('key   = "id"', _FIELDS)
    _write(rig, 20, bad_every=10)
    await rig.run()
    await rig.run(fresh=True)
    assert len(rig.letters.find(Selection())) == 4
    rig.replace('rank = "int"', 'rank = "json"')
    again = await rig.replay()
    assert (again.read, again.accepted) == (2, 2)
    assert json.loads((rig.out / "_manifest.json").read_text())["epoch"] == 2
    assert rig.keys() == sorted(f"r{n}" for n in range(20))


async def test_rows_of_a_table_are_read_again_under_their_header(rig: Rig) -> None:
    """A CSV row that did not fit is kept as text; with another type for its column it is a row like any other."""
    rig.replace('type  = "ndjson"\npaths = ["', 'type  = "csv"\npaths = ["')
    rig.replace("in*.ndjson", "in*.csv")
    rig.replace('key   = "id"', _FIELDS)
    (rig.directory / "in.csv").write_text('id,name,rank\na,A,1\nb,"B,\n b",second\nc,C,3\nd,D\n')
    first = await rig.run()
    assert (first.read, first.accepted, first.dead) == (4, 2, 2)
    torn = rig.letters.find(Selection(codes=("record.columns",)))[0]
    rig.letters.edit(torn, b'{"id":"d","name":"D","rank":"4"}', now_ns=1)
    rig.replace('rank = "int"', 'rank = "str"')
    again = await rig.replay()
    assert (again.read, again.accepted, again.open) == (2, 2, 0)
    assert rig.keys() == ["a", "b", "c", "d"]
    labels = {row[0] for row in rig.emulator.state.db.execute("SELECT label FROM entities")}
    assert labels == {"A", "B,\n b", "C", "D"}


async def test_filtered_letters_have_ended_too(rig: Rig) -> None:
    """A letter that the repaired pipeline filters on purpose is filtered, and is not sent a third time."""
    rig.replace('key   = "id"', _FIELDS)
    _write(rig, 20, bad_every=10)
    await rig.run()
    rig.replace('rank = "int"', 'rank = "json"')
    rig.text += '[[transform]]\ntype="filter"\nfield="id"\nop="=="\nvalue="none"\n'
    again = await rig.replay()
    assert (again.outcome, again.read, again.filtered, again.open) == ("done", 2, 2, 0)
    assert {letter.state for letter in rig.letters.find(Selection())} == {"replayed"}
    with pytest.raises(StateError, match="no letter to replay"):
        await rig.replay()


async def test_what_travelled_is_kept_where_it_is_not_what_was_read(rig: Rig) -> None:
    """A letter of a transformed row shows the record as it was read and as it was sent."""
    await rig.emulate({"at": "job.outcome", "count": 1, "status": "failed", "code": "bad", "retryable": False})
    rig.text += '[[transform]]\ntype="set"\nvalues={ note = "new" }\n'
    rig.write(1)
    await rig.run()
    letter = rig.letters.find(Selection())[0]
    assert json.loads(letter.raw) == {"id": "r0", "name": "Row 0"}
    assert json.loads(letter.sent or b"") == {"id": "r0", "name": "Row 0", "note": "new"}


async def test_a_pipeline_that_never_ran_has_nothing_to_replay(rig: Rig) -> None:
    """A replay needs a run to land in."""
    rig.write(1)
    with pytest.raises(StateError, match="never run"):
        await rig.run(replay=Replay(letters=(1,)))


async def test_letters_of_a_ledger_of_version_1_can_be_replayed(rig: Rig) -> None:
    """A state directory that the first version wrote goes on under this one."""
    rig.replace('key   = "id"', _FIELDS)
    _write(rig, 20, bad_every=10)
    await rig.run()
    downgrade(rig.directory / "state" / "rig" / "ledger.sqlite")
    assert rig.ledger("SELECT value FROM meta WHERE name='version'") == [("1",)]
    assert (await rig.run()).outcome == "nothing_new"
    rig.replace('rank = "int"', 'rank = "json"')
    assert (await rig.replay()).accepted == 2
    assert rig.keys() == sorted(f"r{n}" for n in range(20))


async def test_f01_a_replay_that_died_with_its_letters_taken_goes_on(rig: Rig) -> None:
    """Killed right after it took them, before anything was sent: the next replay is that one."""
    rig.replace('key   = "id"', _FIELDS)
    _write(rig, 20, bad_every=10)
    await rig.run()
    rig.replace('rank = "int"', 'rank = "json"')
    spec = load_pipeline(str(rig.directory / "rig.toml"), env={})
    ledger = Ledger(rig.directory / "state" / "rig", "rig")
    opening = await open_replay(ledger, spec, Replay(letters=(1, 2)), now_ns=time.time_ns())
    ledger.close()
    assert rig.letters.ids(Selection(states=("replaying",))) == [1, 2]
    again = await rig.replay()
    assert (again.run_id, again.outcome, again.accepted) == (opening.run.run_id, "done", 2)
    assert rig.keys() == sorted(f"r{n}" for n in range(20))
