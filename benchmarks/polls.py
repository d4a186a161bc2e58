"""P9: how often a job is asked about with 100,000 in flight, and how late its end is noticed.

    python -m benchmarks.polls [--quick]

The engine's own schedule against a platform whose clock is moved by hand, so that the figures are the same on every
machine: `polling.py` beside this file plays it, and says what the model is. Durations lie around a minute. The peer
asks each job every 5 s. That a real run asks no more often is shown by P8, which keeps 100,000 real jobs in flight.
"""

from __future__ import annotations

from typing import Any

from benchmarks.command import alone
from benchmarks.rounds import Contestant, Meter, Size, perform
from benchmarks.row import Goal, Reading, Readings, Row

JOBS = 100_000
SPREAD = "around a minute"
POLLS, DELAY, FIXED_POLLS, FIXED = "engine, polls", "engine, delay in s", "every 5 s, polls", "every 5 s, delay in s"

ROW = Row(
    id="P9",
    title="polls per job at 100,000 in flight, and detection delay",
    unit="requests per job; seconds",
    goals=(
        Goal("fewer than 2 polls per job", 2.0, ours=POLLS),
        Goal("noticed sooner than by polling every 5 s", 1.0, ours=DELAY, against=FIXED),
    ),
    peer=FIXED_POLLS,
    note="a model: requests take 50 ms, ours go 16 at once; the 20,000 a second of the peer take nothing",
)


def model(*, jobs: int) -> dict[str, Any]:
    """Ours and the peer over the same jobs."""
    import random

    from benchmarks.polling import SPREADS, fixed, ours

    chance = random.Random(1)
    durations = [SPREADS[SPREAD](chance) for _ in range(jobs)]
    with Meter() as meter:
        mine = ours(durations, jobs)
    theirs = fixed(durations, 5.0)
    return meter.answer(jobs, ours=mine, theirs=theirs)


def measure(size: Size) -> dict[str, Readings]:
    """Once: the model has no noise."""
    jobs = size.of(JOBS, quick=5_000)
    answer = perform(Contestant(POLLS, "benchmarks.polls:model", {"jobs": jobs}))
    (polls, delay_s), (fixed_polls, fixed_delay_s) = answer["ours"], answer["theirs"]
    return {
        POLLS: [Reading(polls)],
        DELAY: [Reading(delay_s)],
        FIXED_POLLS: [Reading(fixed_polls)],
        FIXED: [Reading(fixed_delay_s)],
    }


if __name__ == "__main__":
    alone(ROW, measure)
