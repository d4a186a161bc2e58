"""`engine jobs ls|show`: the ledger's jobs. The verbs that ask or change something are in `jobs_remote`."""

from __future__ import annotations

from typing import Any

import click

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.ledgers import glances, table, time_text
from engine.cli.output import emit, emit_json
from engine.codec.payload import to_wire
from engine.errors import NothingSuch
from engine.store.rows import JobRow

_STATES = ("open", "planned", "submitting", "submitted", "succeeded", "failed", "cancelled", "committed", "dead")


_VERBS = {"cancel": "cancel", "reattach": "reattach", "reap": "reap"}


class _Jobs(click.Group):
    """The group whose verbs that talk to the platform are imported when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return ["ls", "show", *_VERBS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _VERBS:
            from engine.cli import jobs_remote

            found: click.Command = getattr(jobs_remote, _VERBS[cmd_name])
            return found
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Jobs)
def jobs() -> None:
    """Look into the ledger of a pipeline, and act on its jobs."""


@jobs.command("ls", epilog="Example:  engine jobs ls people")
@click.argument("pipeline", required=False)
@click.option("--state", type=click.Choice(_STATES), help="Only jobs in this state; `open` is every one not ended.")
@click.option("--run", "run_id", help="Only jobs of this run; the beginning of its id is enough.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Jobs per pipeline.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object per job.")
@pass_invocation
def list_jobs(
    invocation: Invocation,
    pipeline: str | None,
    state: str | None,
    run_id: str | None,
    limit: int,
    is_json: bool,  # noqa: FBT001
) -> int:
    """List jobs, newest first; PIPELINE is a name or a pipeline file."""
    rows: list[tuple[str, JobRow]] = []
    for glance in glances(invocation, pipeline):
        rows += [(glance.pipeline, job) for job in glance.jobs(limit=limit, state=state, run_id=run_id)]
    if is_json:
        for name, job in rows:
            emit_json(_plain(name, job))
        return 0
    heads = ("PIPELINE", "SEQ", "STATE", "TRY", "ROWS", "ACCEPTED", "REJECTED", "DEAD", "REMOTE ID", "TRACE")
    names = ("seq", "state", "attempt", "rows", "accepted", "rejected", "dead", "remote_id", "trace_id")
    table(heads, [(name, *(getattr(job, member) for member in names)) for name, job in rows])
    return 0


@jobs.command("show", epilog="Example:  engine jobs show 1")
@click.argument("name")
@click.option("--json", "is_json", is_flag=True, help="One JSON object per job.")
@pass_invocation
def show_job(invocation: Invocation, name: str, is_json: bool) -> int:  # noqa: FBT001
    """Show jobs by sequence number, remote id, idempotency key or trace id."""
    count = 0
    for glance in glances(invocation, None):
        for job in glance.jobs(limit=20, name=name):
            count += 1
            document = {**_plain(glance.pipeline, job), "attempts": glance.attempts(job)}
            if is_json:
                emit_json(document)
            else:
                _print(document)
    if not count:
        raise NothingSuch(f"no ledger holds a job {name!r}", hint="engine jobs ls")
    return 0


def _plain(pipeline: str, job: JobRow) -> dict[str, Any]:
    members = {name: getattr(job, name) for name in JobRow.__struct_fields__}
    members["digest"] = job.digest.hex()
    members["keys_digest"] = job.keys_digest.hex()
    members["slices"] = [
        {"input": cut.input, "start": cut.start, "end": cut.end, "line": cut.line} for cut in job.slices
    ]
    return {"pipeline": pipeline, **to_wire(members)}


def _print(document: dict[str, Any]) -> None:
    for name, value in document.items():
        if name == "slices":
            for cut in value:
                emit(f"  input        {cut['input']} bytes {cut['start']}-{cut['end']}, from line {cut['line']}")
        elif name == "attempts":
            for attempt in value:
                emit(f"  attempt {attempt['attempt']:<5}{attempt['outcome']} {attempt['error'] or ''}".rstrip())
        elif name.endswith("_ns"):
            emit(f"  {name.removesuffix('_ns'):<12} {time_text(value)}")
        elif value is not None:
            emit(f"  {name:<12} {value}")
