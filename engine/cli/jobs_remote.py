"""`engine jobs cancel|reattach|reap`: jobs given up, taken back, and remote jobs that no ledger of ours knows.

What is the ledger's is changed under its lock, so never beside a running engine. What is nobody's is only touched
when it was shown first.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.ledgers import bring_up_to_date, glances, table
from engine.cli.output import emit, emit_json, tell
from engine.cli.run import on_loop
from engine.cli.shards import with_ledger
from engine.client.client import Client
from engine.clock import SystemClock
from engine.codec.payload import to_wire
from engine.contract.jobs import QUEUED, RUNNING, RemoteJob
from engine.contract.profile import PROFILE
from engine.errors import EngineError, PlatformError, StateError, TransportError
from engine.jobs.cancel import Cancelled, cancel_jobs
from engine.jobs.lifecycle import BY_HAND, COMMITTED, SUCCEEDED, take_back
from engine.jobs.records import Records, keep
from engine.pipeline.units import duration
from engine.settings import Settings
from engine.store.ledger import Ledger
from engine.store.letters import Letter, Letters, Selection
from engine.store.reading import Glance
from engine.store.rows import JobRow
from engine.telemetry.tee import Tee

_TOKEN_DIGITS = 8
_AT_ONCE = 16


@click.command("cancel", epilog="Example:  engine jobs cancel people")
@click.argument("names", nargs=-1, metavar="[PIPELINE|JOB]…")
@click.option("--all", "is_all", is_flag=True, help="The open jobs of every pipeline.")
@click.option("--again", is_flag=True, help="Send their rows again later, rather than make dead letters of them.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object per pipeline.")
@pass_invocation
def cancel(
    invocation: Invocation,
    *,
    names: tuple[str, ...],
    is_all: bool,
    again: bool,
    is_json: bool,
) -> int:
    """Cancel jobs at the platform: all of a PIPELINE, by name or file, or single ones, as `jobs show` finds them.

    The ledger says what became of each. Their rows become dead letters in the next run, unless --again.
    """
    if bool(names) == is_all:
        raise click.UsageError("which jobs? the names of pipelines or jobs, or --all")
    settings = invocation.settings()
    wanted = _wanted(invocation, names)
    worst: EngineError | None = None
    for pipeline, job_names in wanted.items():
        told = on_loop(lambda p=pipeline, j=job_names: _cancel(settings, p, j, again=again))  # type: ignore[misc]
        worst = worst or told.first_error
        if is_json:
            emit_json({"pipeline": pipeline, **_plain(told)})
        else:
            emit(f"{pipeline}: {_said(told)}")
    if worst is not None:
        raise worst
    return 0


def _wanted(invocation: Invocation, names: tuple[str, ...]) -> dict[str, set[tuple[int, int]] | None]:
    """By pipeline, the jobs that are meant; None is every open one.

    Raises:
        StateError: a name is neither a pipeline's nor one job's.
    """
    if not names:
        return {glance.pipeline: None for glance in glances(invocation, None)}
    state_dir = Path(invocation.settings().state_dir)
    wanted: dict[str, set[tuple[int, int]] | None] = {}
    for name in names:
        if name.endswith(".toml") or (with_ledger(state_dir / name) / "ledger.sqlite").is_file():
            wanted.update({glance.pipeline: None for glance in glances(invocation, name)})
            continue
        pipeline, job = _one_job(invocation, name)
        known = wanted.setdefault(pipeline, set())
        if known is not None:
            known.add((job.epoch, job.seq))
    return wanted


def _one_job(invocation: Invocation, name: str) -> tuple[str, JobRow]:
    found = [(glance.pipeline, job) for glance in glances(invocation, None) for job in glance.jobs(limit=9, name=name)]
    if len(found) != 1:
        raise StateError(
            f"{len(found)} jobs are called {name!r}" if found else f"no ledger holds a job {name!r}",
            hint="use the remote id, the key or the trace id: engine jobs ls",
        )
    return found[0]


async def _cancel(settings: Settings, pipeline: str, names: set[tuple[int, int]] | None, *, again: bool) -> Cancelled:
    from engine.platform import open_platform

    ledger = Ledger(Path(settings.state_dir) / pipeline, pipeline)
    try:
        jobs = [job for job in ledger.submitted_jobs() if names is None or (job.epoch, job.seq) in names]
        if not jobs:
            return Cancelled()
        clock = SystemClock()
        async with open_platform(settings, observer=Tee(), clock=clock) as platform:
            return await cancel_jobs(
                jobs, client=platform.client, ledger=ledger, clock=clock, again_as=pipeline if again else None
            )
    finally:
        ledger.close()


def _plain(told: Cancelled) -> dict[str, int]:
    return {"cancelled": told.cancelled, "asked": told.asked, "ended": told.ended, "failed": told.failed}


def _said(told: Cancelled) -> str:
    words = {
        "cancelled": "cancelled", "asked": "being cancelled", "ended": "had ended before",
        "failed": "could not be asked",
    }  # fmt: skip
    parts = [f"{count} {words[name]}" for name, count in _plain(told).items() if count]
    return " · ".join(parts) or "no job of it is at the platform"


@click.command("reattach", epilog="Example:  engine jobs reattach 1")
@click.argument("name", metavar="JOB")
@click.option("--refetch", is_flag=True, help="Fetch a result that did not balance, without asking for the job first.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object.")
@pass_invocation
def reattach(invocation: Invocation, *, name: str, refetch: bool, is_json: bool) -> int:
    """Take back a job that is dead, failed, cancelled or does not balance: the next run looks at it again.

    Dead letters of its rows are dropped, because the rows may yet arrive; its run is open again.
    """
    pipeline, found = _one_job(invocation, name)
    settings = invocation.settings()
    directory = Path(settings.state_dir) / pipeline
    ledger = Ledger(directory, pipeline)
    try:
        shelf = Letters(directory)
        job = _fit(ledger, found, pipeline, shelf.current_epochs())
        letters = shelf.find(Selection(where=f"epoch={job.epoch} AND seq={job.seq}"))
        if any(letter.state in ("replaying", "replayed") for letter in letters):
            raise StateError(
                f"rows of job {job.seq} were sent again since; taking it back could deliver them twice",
                hint=f"engine dlq ls {pipeline} --where seq={job.seq}",
            )
        kept = _kept(letters) if len(letters) == job.rows else None
        take_back(job, now_ns=time.time_ns(), is_fetched=refetch and job.state == SUCCEEDED)
        on_loop(lambda: _write(ledger, job, kept))
    finally:
        ledger.close()
    if is_json:
        emit_json({"pipeline": pipeline, "seq": job.seq, "state": job.state, "letters_dropped": len(letters)})
        return 0
    dropped = f", {len(letters)} dead letters dropped" if letters else ""
    emit(f"job {job.seq} ({job.remote_id}) of {pipeline} is {job.state} again{dropped}; the next run goes on with it")
    return 0


def _fit(ledger: Ledger, found: JobRow, pipeline: str, epochs: list[int]) -> JobRow:
    job = ledger.job(found.epoch, found.seq)
    if job is None or job.state not in BY_HAND:
        done = "its rows have landed" if found.state == COMMITTED else "it goes on by itself"
        raise StateError(f"job {found.seq} is {found.state}: {done}", hint=f"engine jobs show {found.key}")
    if job.epoch not in epochs:
        raise StateError(f"job {job.seq} is of epoch {job.epoch}, whose rows were all read again since")
    if job.remote_id is None:
        raise StateError(
            f"job {job.seq} never reached the platform", hint=f"engine dlq replay {pipeline} --where seq={job.seq}"
        )
    newest = ledger.last_run(epoch=job.epoch)
    if newest is not None and newest.run_id != job.run_id:
        raise StateError(
            f"job {job.seq} is of run {job.run_id}, and other runs have followed it",
            hint=f"send its rows again instead: engine dlq replay {pipeline} --where seq={job.seq}",
        )
    return job


async def _write(ledger: Ledger, job: JobRow, kept: bytes | None) -> None:
    await ledger.take_back(job, kept)


def _kept(letters: list[Letter]) -> bytes | None:
    """The records of a dead job, from its letters: an input that cannot be read twice has them nowhere else."""
    if not letters:
        return None
    return keep(
        Records(
            items=[letter.raw if letter.sent is None else letter.sent for letter in letters],
            raws=[letter.raw for letter in letters],
            keys=[letter.key for letter in letters],
            inputs=[letter.input for letter in letters],
            lines=[letter.line for letter in letters],
            starts=[letter.start for letter in letters],
            ends=[letter.end for letter in letters],
        )
    )


class Orphans(msgspec.Struct, frozen=True):
    """Remote jobs that are queued or running and that no ledger of ours knows; `token` names exactly these."""

    jobs: list[RemoteJob]

    @property
    def token(self) -> str:
        """Changes with every job that comes or goes."""
        names = "\0".join(sorted(job.id for job in self.jobs))
        return hashlib.sha256(names.encode()).hexdigest()[:_TOKEN_DIGITS]


@click.command("reap", epilog="Example:  engine jobs reap --older-than 1h")
@click.option("--kind", type=click.Choice(sorted(PROFILE.kinds)), help="Only jobs of this kind.")
@click.option("--older-than", "age", default="1h", show_default=True, metavar="TIME", help="Only jobs this old.")
@click.option("--confirm", "token", metavar="TOKEN", help="Cancel the jobs that were listed with this token.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object per job.")
@pass_invocation
def reap(
    invocation: Invocation,
    *,
    kind: str | None,
    age: str,
    token: str | None,
    is_json: bool,
) -> int:
    """List queued and running jobs of this tenant that no ledger under `state_dir` knows; cancel them when confirmed.

    Others may work for the same tenant elsewhere: look at the list before you confirm it.
    """
    try:
        older_s = duration(age)
    except ValueError:
        raise click.BadParameter(f"`{age}` is not a duration; write 30m or 1h", param_hint="--older-than") from None
    settings = invocation.settings()
    state_dir = Path(settings.state_dir)
    ledgers = sorted(path.parent for path in state_dir.glob("*/ledger.sqlite"))
    for directory in ledgers:
        bring_up_to_date(directory)
    orphans, failed = on_loop(lambda: _reap(settings, ledgers, kind, older_s, token))
    _print_orphans(orphans, is_json=is_json)
    if token is None:
        if orphans.jobs:
            flags = f"{f' --kind {kind}' if kind else ''} --older-than {age}"
            tell(f"to cancel exactly these:  engine jobs reap{flags} --confirm {orphans.token}")
        return 0
    if token != orphans.token:
        raise StateError(
            "the list has changed since it was confirmed; nothing was cancelled",
            hint="run reap without --confirm first",
        )
    tell(f"{len(orphans.jobs) - len(failed)} jobs cancelled")
    if failed:
        raise failed[0]
    return 0


def _print_orphans(orphans: Orphans, *, is_json: bool) -> None:
    if is_json:
        for job in orphans.jobs:
            emit_json(to_wire(job))
        return
    heads = ("REMOTE ID", "KIND", "STATUS", "CREATED", "TRACE")
    table(heads, [(job.id, job.kind, job.status, job.created_at, job.trace_id) for job in orphans.jobs])


async def _reap(
    settings: Settings, ledgers: list[Path], kind: str | None, older_s: float, token: str | None
) -> tuple[Orphans, list[EngineError]]:
    from engine.platform import open_platform

    async with open_platform(settings, observer=Tee(), clock=SystemClock()) as platform:
        orphans = Orphans(await _orphans(platform.client, ledgers, kind, older_s))
        failed: list[EngineError] = []
        if token == orphans.token:
            slots = asyncio.Semaphore(_AT_ONCE)

            async def one(job: RemoteJob) -> None:
                try:
                    async with slots:
                        await platform.client.jobs.cancel(job.id)
                except (PlatformError, TransportError) as exc:
                    failed.append(exc)

            await asyncio.gather(*(one(job) for job in orphans.jobs))
        return orphans, failed


async def _orphans(client: Client, ledgers: list[Path], kind: str | None, older_s: float) -> list[RemoteJob]:
    """Nobody's jobs. The ledgers are read after the list: a job is in its ledger before the platform has it."""
    listed = [job for status in (QUEUED, RUNNING) async for job in client.jobs.every(kind=kind, status=status)]
    old = {job.id: job for job in listed if _age_s(job) >= older_s}
    for directory in ledgers:
        with Glance(directory) as glance:
            for job in list(old.values()):
                if glance.holds(remote_id=job.id, trace_id=job.trace_id):
                    del old[job.id]
    return sorted(old.values(), key=lambda job: job.id)


def _age_s(job: RemoteJob) -> float:
    """A job whose age cannot be read is new: it is left alone."""
    try:
        at = datetime.fromisoformat(job.created_at or "")
    except ValueError:
        return -1.0
    return time.time() - (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
