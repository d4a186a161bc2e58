"""`engine status`: each pipeline under the state directory in one line; takes no lock, so it works beside engines."""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.ledgers import glances, table, time_text
from engine.cli.output import clock_text, emit, emit_json
from engine.store.reading import Glance, RunLine

# A run that works writes a sign of life every 2 s; one whose disk is busy, a little later.
_SILENCE_S = 15.0


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a pipeline stands.

    `state` is running, stopped, unfinished (killed, or silent), or how the last run ended; `never` without a run.
    `idle_s` is how long ago an unfinished run last showed life.
    """

    pipeline: str
    state: str
    run: RunLine | None
    idle_s: float | None
    open_jobs: dict[str, int]
    dead_letters: int
    file: str | None


@click.command(epilog="Example:  engine status")
@click.argument("pipeline", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per pipeline.")
@pass_invocation
def status(invocation: Invocation, pipeline: str | None, as_json: bool) -> int:  # noqa: FBT001
    """Say how the pipelines stand: what runs, how the last run ended, open jobs, dead letters.

    PIPELINE is a name or a pipeline file; without one, every ledger under the state directory is looked into.
    """
    standings = [standing_of(glance, now_ns=time.time_ns()) for glance in glances(invocation, pipeline)]
    if as_json:
        for standing in standings:
            emit_json(standing)
        return 0
    heads = ("PIPELINE", "STATE", "STARTED", "READ", "ACCEPTED", "REJECTED", "DEAD", "OPEN JOBS", "DEAD LETTERS")
    table(heads, [_row(standing) for standing in standings])
    for standing in standings:
        if standing.state in ("stopped", "unfinished") and standing.file:
            emit(f"{standing.pipeline}: continue with  engine run {standing.file}")
    return 0


def standing_of(glance: Glance, *, now_ns: int) -> Standing:
    """How one pipeline stands, from its ledger alone."""
    newest = next(iter(glance.runs(limit=1)), None)
    alive_ns = None if newest is None else glance.alive_ns(newest.run_id)
    idle_s = None if alive_ns is None else max(0.0, (now_ns - alive_ns) / 1e9)
    state = "never" if newest is None else newest.outcome
    if idle_s is not None and idle_s < _SILENCE_S:
        state = "running"
    return Standing(
        pipeline=glance.pipeline,
        state=state,
        run=newest,
        idle_s=idle_s,
        open_jobs=glance.open_jobs(),
        dead_letters=glance.waiting_letters(),
        file=glance.file,
    )


def _row(standing: Standing) -> tuple[Any, ...]:
    run = standing.run
    state = standing.state
    if standing.state == "unfinished" and standing.idle_s is not None:
        state += f" (no sign of life for {clock_text(standing.idle_s)})"
    books = (None,) * 4 if run is None else (run.read, run.accepted, run.rejected, run.dead)
    jobs = ", ".join(f"{count} {name}" for name, count in standing.open_jobs.items()) or "0"
    started = time_text(None if run is None else run.started_ns)
    return (standing.pipeline, state, started, *books, jobs, standing.dead_letters)
