"""F19: refusals that asking again cannot change are not asked again; their rows are dead letters with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import Exit, RunFailed
from tests.runtime.conftest import Rig

pytestmark = pytest.mark.anyio

_FINAL = {400: "platform.rejected", 404: "platform.missing", 409: "platform.conflict", 410: "platform.missing",
          422: "platform.rejected"}  # fmt: skip


def _struck(rig: Rig) -> list[int]:
    return [rule["struck"] for rule in rig.emulator.state.faults.tally()]


def _letters(rig: Rig) -> list[tuple[Any, ...]]:
    return rig.ledger("SELECT DISTINCT stage, code, reason FROM dead_letters")


@pytest.mark.parametrize("status", sorted(_FINAL))
async def test_f19_a_refused_create_is_a_dead_letter_at_once(rig: Rig, status: int) -> None:
    """One create of three is refused: asked once, its ten rows are dead letters with the platform's own words."""
    await rig.emulate({"at": "request", "route": "jobs.create", "status": status, "count": 1, "code": "no_thanks"})
    rig.write(30)
    report = await rig.run()
    assert (report.accepted, report.dead, report.open) == (20, 10, 0)
    assert _struck(rig) == [1]
    assert rig.emulator._dispatch.requests["jobs.create"] == 3
    [(stage, code, reason)] = _letters(rig)
    assert (stage, code) == ("create", _FINAL[status])
    assert str(status) in reason
    assert "The fault script says so." in reason


@pytest.mark.parametrize("status", sorted(_FINAL))
async def test_f19_a_refused_result_is_a_dead_letter_at_once(rig: Rig, status: int) -> None:
    """One result of three is refused for good: asked for once, its rows are dead letters, the others land."""
    await rig.emulate({"at": "request", "route": "jobs.result", "status": status, "count": 1, "code": "gone_away"})
    rig.write(30)
    report = await rig.run()
    assert (report.accepted, report.dead, report.open) == (20, 10, 0)
    assert _struck(rig) == [1]
    assert rig.emulator._dispatch.requests["jobs.result"] == 3
    [(stage, code, reason)] = _letters(rig)
    assert (stage, code) == ("result", _FINAL[status])
    assert "The fault script says so." in reason


async def test_f19_a_result_that_is_not_ready_is_asked_for_again(rig: Rig) -> None:
    """409 `job_not_ready` is the one refusal worth repeating: the rows land, nothing is a dead letter."""
    await rig.emulate(
        {"at": "request", "route": "jobs.result", "status": 409, "count": 4, "code": "job_not_ready", "retry_after": 0}
    )
    rig.write(30)
    report = await rig.run()
    assert (report.outcome, report.accepted, report.dead) == ("done", 30, 0)
    assert _struck(rig) == [4]
    assert rig.emulator._dispatch.requests["jobs.result"] == 7


async def test_f19_a_result_that_is_never_ready_is_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never is not for ever: after its tries the job's rows are dead letters."""
    monkeypatch.setattr("engine.runtime.run._READY_TRIES", 3)
    await rig.emulate({"at": "request", "route": "jobs.result", "status": 409, "code": "job_not_ready"})
    rig.write(10)
    report = await rig.run()
    assert (report.accepted, report.dead, report.open) == (0, 10, 0)
    assert _struck(rig) == [3]


@pytest.mark.parametrize("route", ["jobs.create", "jobs.get", "jobs.result"])
async def test_f19_403_ends_the_run_and_loses_nothing(rig: Rig, route: str) -> None:
    """Forbidden is for somebody to mend: exit 4, no dead letter; afterwards the same run ends as it should."""
    await rig.emulate({"at": "request", "route": route, "status": 403, "count": 20})
    # Few enough that jobs.get is asked, and not the list.
    rows = 10 if route == "jobs.get" else 30
    rig.write(rows)
    with pytest.raises(RunFailed) as caught:
        await rig.run()
    assert caught.value.exit == Exit.CREDENTIALS
    assert 1 <= _struck(rig)[0] <= 3
    assert _letters(rig) == []
    rig.emulator.state.faults._at.clear()
    report = await rig.run()
    assert (report.outcome, report.accepted) == ("done", rows)
    assert rig.creates() == rows // 10


@pytest.mark.parametrize("status", [404, 410])
async def test_f19_a_job_that_vanished_is_a_dead_letter(rig: Rig, status: int) -> None:
    """The platform no longer knows a job it took: its rows are dead letters that name it."""
    await rig.emulate({"at": "request", "route": "jobs.get", "status": status, "count": 1})
    rig.write(10)
    report = await rig.run()
    assert (report.accepted, report.dead, report.open) == (0, 10, 0)
    assert _struck(rig) == [1]
    [(stage, code, _)] = _letters(rig)
    assert (stage, code) == ("job", "job.vanished")
    assert rig.ledger("SELECT count(*) FROM dead_letters WHERE remote_id IS NOT NULL") == [(10,)]
