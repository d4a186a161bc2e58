"""`engine runs ls|show|diff`: past and present runs, with their books, and what is different between two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.joint import joint_of
from engine.cli.ledgers import glances, table, time_text
from engine.cli.output import emit, emit_json, plural
from engine.codec.payload import to_wire
from engine.errors import NothingSuch
from engine.store.reading import Glance, RunLine


@click.group()
def runs() -> None:
    """List, show and compare past runs."""


@runs.command("ls", epilog="Example:  engine runs ls people")
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


@runs.command("show", epilog="Example:  engine runs show people")
@click.argument("name")
@click.option("--json", "is_json", is_flag=True, help="One JSON object.")
@pass_invocation
def show_run(invocation: Invocation, name: str, is_json: bool) -> int:  # noqa: FBT001
    """Show one run: NAME is its id, the beginning of its id, or a pipeline, whose newest run is shown.

    A run in several processes is shown as one, with a line for each share.
    """
    joint = joint_of(invocation, name)
    if joint is None:
        line, letters = _one(invocation, name, lambda glance, line: glance.letters(run_id=line.run_id, limit=20))
        shares: list[RunLine] = []
    else:
        line, letters, shares = joint.line, joint.letters, joint.shares
    if is_json:
        more = {} if joint is None else {"shares": [to_wire(share) for share in shares], "seconds": joint.seconds}
        emit_json({**to_wire(line), **more, "dead_letters": letters})
        return 0
    what = f"epoch {line.epoch}" if line.lands_in is None else f"replay of dead letters into epoch {line.lands_in}"
    who = f"run {line.run_id}" if joint is None else f"{plural(len(shares), 'share')} of one run"
    emit(f"{line.pipeline}  ·  {who}  ·  {what}  ·  {line.outcome}")
    emit(f"  started {time_text(line.started_ns)}   ended {time_text(line.ended_ns)}   processes {line.invocations}")
    emit(
        f"  {line.read} rows read = {line.accepted} accepted + {line.rejected} rejected + {line.dead} dead"
        f" + {line.filtered} filtered + {line.open} open"
    )
    emit(f"  {plural(line.jobs, 'job')}   {plural(line.parts, 'part')}")
    for share in shares:
        emit(f"  {share.pipeline}  run {share.run_id}  {share.outcome}: {plural(share.read, 'row')}")
    for letter in letters:
        where = f"{letter['input']} line {letter['line']}" + (f", {letter['key']}" if letter["key"] else "")
        emit(f"  {letter['bucket']}: {where}: {letter['reason']} [{letter['code']}]")
    return 0


@runs.command("diff", epilog="Example:  engine runs diff people people")
@click.argument("first")
@click.argument("second")
@click.option("--json", "is_json", is_flag=True, help="One JSON object.")
@pass_invocation
def diff_runs(invocation: Invocation, first: str, second: str, is_json: bool) -> int:  # noqa: FBT001
    """Say what is different between two runs: outcome, time, rows, jobs, and dead letters by code.

    FIRST and SECOND are ids, the beginnings of ids, or pipelines, whose newest runs are meant.
    """
    sides = [_side(invocation, name) for name in (first, second)]
    names = list(dict.fromkeys([*sides[0], *sides[1]]))
    rows = [(name, sides[0].get(name), sides[1].get(name)) for name in names]
    changed = [row for row in rows if row[1] != row[2]]
    if is_json:
        emit_json({name: {"first": before, "second": after} for name, before, after in changed})
        return 0
    table(("", "FIRST", "SECOND", "CHANGE"), [(*row, _change(*row[1:])) for row in changed])
    return 0


def _side(invocation: Invocation, name: str) -> dict[str, Any]:
    joint = joint_of(invocation, name)
    if joint is not None:
        return _comparable(joint.line, joint.reasons)
    return _comparable(*_one(invocation, name, lambda glance, line: glance.reasons(line.run_id)))


T = TypeVar("T")


def _one(invocation: Invocation, name: str, look: Callable[[Glance, RunLine], T]) -> tuple[RunLine, T]:
    """The one run that is meant by a name, and what a look into its ledger finds of it.

    Raises:
        NothingSuch: there is none, or several.
    """
    found: list[tuple[RunLine, T]] = []
    for glance in glances(invocation, None):
        lines = glance.runs(limit=1) if glance.pipeline == name else glance.runs(limit=2, run_id=name)
        found += [(line, look(glance, line)) for line in lines]
    if len(found) != 1:
        raise NothingSuch(
            f"{len(found)} runs begin with {name!r}" if found else f"there is no run or pipeline {name!r}",
            hint="engine runs ls",
        )
    return found[0]


def _comparable(line: RunLine, reasons: dict[str, int]) -> dict[str, Any]:
    seconds = None if line.ended_ns is None else round((line.ended_ns - line.started_ns) / 1e9, 3)
    members = ("pipeline", "run_id", "epoch", "outcome", "invocations", "read", "accepted", "rejected", "dead",
               "filtered", "open", "jobs")  # fmt: skip
    plain = {name: getattr(line, name) for name in members}
    return {**plain, "seconds": seconds, **{f"dead letters {code}": count for code, count in reasons.items()}}


def _change(before: Any, after: Any) -> str:
    """How far a number went; a code that only one run has went from or to nothing."""
    if isinstance(before, int | float) or isinstance(after, int | float):
        return f"{(after or 0) - (before or 0):+.10g}"
    return ""


def _row(line: RunLine) -> tuple[Any, ...]:
    return (
        line.pipeline, line.run_id, time_text(line.started_ns), line.outcome, line.read, line.accepted, line.rejected,
        line.dead, line.filtered, line.open, line.jobs,
    )  # fmt: skip
