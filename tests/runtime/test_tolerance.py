"""The budget of dead letters: judged at the end, and a breaker on the way."""

from __future__ import annotations

import pytest

from engine.errors import ConfigError, Exit, StaleCheckpoint
from engine.runtime.tolerance import Tolerance
from tests.runtime.conftest import Rig

pytestmark = pytest.mark.anyio

_BUDGET = '[dead_letters]\nmax = "2%"\nafter = 50\n'
_ALL_JOBS_FAIL = {"at": "job.outcome", "status": "failed", "code": "bad", "message": "no", "retryable": False}


def test_nothing_is_judged_before_enough_rows_have_ended() -> None:
    """A first unlucky job stops nothing; the row that makes the number full may."""
    budget = Tolerance(0.1, after=100)
    budget.take(1_000)
    budget.end(99, failed=99)
    assert not budget.is_spent
    budget.end(1, failed=0)
    assert not budget.is_spent
    budget.end(1, failed=2)
    assert budget.is_spent


def test_rows_of_an_earlier_process_count_as_read() -> None:
    """A run that ends what another process read is not judged against the few rows it read itself."""
    budget = Tolerance(0.1, after=10)
    budget.end(100, failed=10)
    assert not budget.is_spent
    budget.end(1, failed=1)
    assert budget.is_spent


def test_without_a_budget_nothing_stops_a_run() -> None:
    """No `max`, no breaker."""
    budget = Tolerance(None)
    budget.end(10_000, failed=10_000)
    assert not budget.is_spent


async def test_a_run_in_which_too_much_fails_takes_no_more_input(rig: Rig) -> None:
    """Past the budget nothing more is sent, what is at the platform is finished, exit 5; the repaired run goes on."""
    rig.text += _BUDGET
    rig.replace("batch = { rows = 10 }", "batch = { rows = 10 }\njobs_in_flight = 4")
    emulator = await rig.emulate({**_ALL_JOBS_FAIL, "count": 5})
    rig.write(2_000)
    first = await rig.run()
    assert (first.outcome, first.exit_code) == ("over_budget", Exit.OVER_BUDGET)
    struck = emulator.state.faults.tally()[0]["struck"]
    assert struck == 5
    assert first.remote_open == 0
    assert rig.creates() < 200
    assert first.dead == 10 * struck
    assert "took no more input" in first.lines[0]
    rig.replace("jobs_in_flight = 4", "jobs_in_flight = 64")
    again = await rig.run()
    assert again.open == 0
    assert rig.creates() == 200
    replay = await rig.replay()
    assert replay.open == 0
    assert rig.keys() == sorted(f"r{n}" for n in range(2_000))


async def test_what_was_not_sent_is_made_again_from_a_repaired_file(rig: Rig) -> None:
    """Jobs that were planned and never sent take the new mapping; the platform gets no body of the old one."""
    rig.text += _BUDGET
    rig.replace("batch = { rows = 10 }", "batch = { rows = 10 }\njobs_in_flight = 2")
    emulator = await rig.emulate({**_ALL_JOBS_FAIL, "count": 5})
    rig.write(1_000)
    first = await rig.run()
    assert first.outcome == "over_budget"
    assert first.open > 0
    assert emulator.state.faults.tally()[0]["struck"] == 5
    rig.replace("jobs_in_flight = 2", "jobs_in_flight = 64")
    rig.replace('name = "label"', 'name = "title"')
    again = await rig.run()
    assert (again.run_id, again.open) == (first.run_id, 0)
    labels = [row[0] for row in emulator.state.db.execute("SELECT label FROM entities")]
    assert labels.count(None) == again.accepted - first.accepted > 0
    assert again.accepted + again.dead == 1_000
    assert rig.creates() == 100


async def test_jobs_that_were_sent_hold_the_file_as_it_was(rig: Rig) -> None:
    """An open job the platform may know cannot be made again, so another file is refused."""
    rig.text += _BUDGET
    await rig.emulate({"at": "result.rows", "drop": 1})
    rig.write(20)
    assert (await rig.run()).outcome == "unbalanced"
    rig.replace('name = "label"', 'name = "title"')
    with pytest.raises(ConfigError, match="unfinished"):
        await rig.run()


async def test_a_file_that_makes_other_rows_of_unsent_jobs_is_refused(rig: Rig) -> None:
    """The books have counted those rows: a new filter cannot take them away."""
    rig.text += _BUDGET
    rig.replace("batch = { rows = 10 }", "batch = { rows = 10 }\njobs_in_flight = 2")
    await rig.emulate({**_ALL_JOBS_FAIL, "count": 5})
    rig.write(1_000)
    assert (await rig.run()).open > 0
    text = rig.text
    rig.text += '[[transform]]\ntype="filter"\nfield="id"\nop="=="\nvalue="r1"\n'
    with pytest.raises(StaleCheckpoint):
        await rig.run()
    rig.text = text.replace("jobs_in_flight = 2", "jobs_in_flight = 64")
    assert (await rig.run()).open == 0
