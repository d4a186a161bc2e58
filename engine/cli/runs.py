"""`engine runs ls|show`: past and present runs, with their books."""

from __future__ import annotations

from typing import Any

import click

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.ledgers import glances, table, time_text
from engine.cli.output import emit, emit_json, plural
from engine.codec.payload import to_wire
from engine.errors import NothingSuch
from engine.store.reading import RunLine


@click.group()
def runs() -> None:
    """List and show past runs."""


@runs.command("ls")
@click.argument("pipeline", required=False)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Runs per pipeline.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object per run.")
@pass_invocation
def list_runs(invocation: Invocation, pipeline: str | None, limit: int, is_json: bool) -> int:  # noqa: FBT001
    """List runs, newest first; PIPELINE is a name or a pipeline file."""
    lines = [line for glance in glances(invocation, pipeline) for line in glance.runs(limit=limit)]
    if is_json:
        for line in lines:
            emit_json(to_wire(line))
        return 0
    heads = (
        "PIPELINE",
        "RUN",
        "STARTED",
        "OUTCOME",
        "READ",
        "ACCEPTED",
        "REJECTED",
        "DEAD",
        "FILTERED",
        "OPEN",
        "JOBS",
    )
    table(heads, [_row(line) for line in lines])
    return 0


@runs.command("show")
@click.argument("name")
@click.option("--json", "is_json", is_flag=True, help="One JSON object.")
@pass_invocation
def show_run(invocation: Invocation, name: str, is_json: bool) -> int:  # noqa: FBT001
    """Show one run: NAME is its id, the beginning of its id, or a pipeline, whose newest run is shown."""
    found: list[tuple[RunLine, list[dict[str, Any]]]] = []
    for glance in glances(invocation, None):
        lines = glance.runs(limit=1) if glance.pipeline == name else glance.runs(limit=2, run_id=name)
        found += [(line, glance.letters(run_id=line.run_id, limit=20)) for line in lines]
    if len(found) != 1:
        raise NothingSuch(
            f"{len(found)} runs begin with {name!r}" if found else f"there is no run or pipeline {name!r}",
            hint="engine runs ls",
        )
    line, letters = found[0]
    if is_json:
        emit_json({**to_wire(line), "dead_letters": letters})
        return 0
    what = f"epoch {line.epoch}" if line.lands_in is None else f"replay of dead letters into epoch {line.lands_in}"
    emit(f"{line.pipeline}  ·  run {line.run_id}  ·  {what}  ·  {line.outcome}")
    emit(f"  started {time_text(line.started_ns)}   ended {time_text(line.ended_ns)}   processes {line.invocations}")
    emit(
        f"  {line.read} rows read = {line.accepted} accepted + {line.rejected} rejected + {line.dead} dead"
        f" + {line.filtered} filtered + {line.open} open"
    )
    emit(f"  {plural(line.jobs, 'job')}   {plural(line.parts, 'part')}")
    for letter in letters:
        where = f"{letter['input']} line {letter['line']}" + (f", {letter['key']}" if letter["key"] else "")
        emit(f"  {letter['bucket']}: {where}: {letter['reason']} [{letter['code']}]")
    return 0


def _row(line: RunLine) -> tuple[Any, ...]:
    return (
        line.pipeline, line.run_id, time_text(line.started_ns), line.outcome, line.read, line.accepted, line.rejected,
        line.dead, line.filtered, line.open, line.jobs,
    )  # fmt: skip
