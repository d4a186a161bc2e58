"""The table of states, and what each move writes."""

from __future__ import annotations

import pytest

from engine.jobs import lifecycle
from engine.store.rows import JobRow
from tests.jobs.rows import job_row

_MOVES = {
    lifecycle.SUBMITTING: lambda job: lifecycle.send(job, now_ns=1),
    lifecycle.SUBMITTED: lambda job: lifecycle.accept(job, remote_id="r", trace_id=None, now_ns=1),
    lifecycle.SUCCEEDED: lambda job: lifecycle.settle(job, "succeeded", now_ns=1),
    lifecycle.FAILED: lambda job: lifecycle.settle(job, "failed", now_ns=1),
    lifecycle.CANCELLED: lambda job: lifecycle.settle(job, "cancelled", now_ns=1),
    lifecycle.PLANNED: lambda job: lifecycle.start_over(job, key="k2"),
    lifecycle.COMMITTED: lambda job: lifecycle.commit(job, part=1, now_ns=1),
    lifecycle.DEAD: lambda job: lifecycle.give_up(job, reason="why", now_ns=1),
}


@pytest.mark.parametrize("state", lifecycle.LEGAL)
@pytest.mark.parametrize("target", lifecycle.LEGAL)
def test_only_the_table_s_moves_are_possible(state: str, target: str) -> None:
    """Every pair of states: the move works exactly when the table says so."""
    job = job_row(state=state)
    if target in lifecycle.LEGAL[state] or (state == target == lifecycle.SUBMITTING):
        _MOVES[target](job)
        assert job.state == target
    else:
        with pytest.raises(lifecycle.IllegalMove):
            _MOVES[target](job)


def test_every_state_can_be_left_but_the_ended_ones() -> None:
    """A job is never stuck in a state that nothing leads out of, unless it has ended."""
    assert {state for state, after in lifecycle.LEGAL.items() if not after} == lifecycle.ENDED


def test_sending_again_keeps_the_start_of_the_window() -> None:
    """The idempotency window of an attempt starts with its first request, not with its last."""
    job = job_row()
    lifecycle.send(job, now_ns=100)
    lifecycle.send(job, now_ns=200)
    assert job.sent_ns == 100


def test_a_new_attempt_has_a_key_of_its_own_and_keeps_the_trace() -> None:
    """Trying a failed job again changes key and attempt, forgets the remote job, and stays in the trace."""
    job = job_row(state=lifecycle.SUBMITTED, remote_id="r1", sent_ns=1)
    lifecycle.settle(job, "failed", now_ns=2, error="boom")
    trace = job.trace_id
    lifecycle.start_over(job, key="other")
    assert (job.attempt, job.key, job.remote_id, job.sent_ns, job.trace_id) == (2, "other", None, None, trace)


def test_giving_up_accounts_for_every_row() -> None:
    """A dead job's rows are all dead, whatever was counted before."""
    job: JobRow = job_row(rows=7, state=lifecycle.SUCCEEDED, accepted=3)
    lifecycle.give_up(job, reason="no", now_ns=1)
    assert (job.accepted, job.rejected, job.dead) == (0, 0, 7)


def test_the_window_is_judged_with_a_minute_in_hand() -> None:
    """A key is trusted until a minute before the platform forgets it."""
    job = job_row(sent_ns=0)
    day_s = 86_400
    assert lifecycle.is_inside_window(job, now_ns=(day_s - 61) * 10**9, window_s=day_s)
    assert not lifecycle.is_inside_window(job, now_ns=(day_s - 60) * 10**9, window_s=day_s)
