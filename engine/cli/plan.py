"""`engine plan`: what a run would do, said before it does it; reads the input and the ledger, connects to nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from engine.access import platform_name
from engine.cli.compared import Change, Last
from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import clock_text, emit, emit_json, grouped, plural
from engine.cli.survey import Past, Survey, look_back, survey
from engine.emulator.state import Options
from engine.jobs.lifecycle import SUBMITTED
from engine.pipeline.spec import PipelineSpec
from engine.runtime.forecast import Ahead, Forecast, Pace, forecast
from engine.settings import Settings

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """The plan of one pipeline."""

    spec: PipelineSpec
    platform: str
    past: Past
    found: Survey
    ahead: Ahead
    forecast: Forecast | None


@click.command(epilog="Example:  engine plan people.toml")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read no further than about N rows.")
@click.option("--fresh", is_flag=True, help="As `engine run --fresh`: over the whole input again.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file.")
@pass_invocation
def plan(
    invocation: Invocation,
    files: tuple[str, ...],
    limit: int | None,
    fresh: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Say what a run would do: rows, jobs, requests, bytes, how long, what it would resume, and what has changed.

    Reads the input and the ledger, runs the transforms, and opens no connection.
    """
    settings, specs = invocation.load(files)
    for path, spec in zip(files, specs, strict=True):
        planned = _plan(settings, spec, path, limit=limit, fresh=fresh)
        if as_json:
            emit_json(_plain(planned))
        else:
            emit("\n".join(_lines(settings, planned)))


def _plan(settings: Settings, spec: PipelineSpec, path: str, *, limit: int | None, fresh: bool) -> Planned:
    past = look_back(settings, spec)
    if fresh:
        past = msgspec.structs.replace(past, run_id=None, open_jobs={}, open_rows=0, marks={})
    found = survey(spec, path, past.marks, limit=limit)
    waiting = past.waiting
    unsent = sum(past.open_jobs.values()) - waiting
    # Without jobs each row that is asked for is a request; rows that only pass ask nobody.
    if spec.job is not None:
        asked = found.jobs + unsent
    else:
        asked = found.sent + past.open_rows if spec.row_route is not None else 0
    ahead = Ahead(rows=found.sent + past.open_rows, jobs=asked, waiting=waiting, has_jobs=spec.job is not None)
    return Planned(
        spec=spec,
        platform=platform_name(settings) if spec.needs_platform else "none: rows pass on this machine",
        past=past,
        found=found,
        ahead=ahead,
        forecast=forecast(ahead, _pace(settings, spec, past)) if found.is_known else None,
    )


def _pace(settings: Settings, spec: PipelineSpec, past: Past) -> Pace:
    platform, job_s = settings.platform, past.job_s
    if job_s is None and platform.profile == "emulator" and platform.emulator.url is None:
        job_s = Options().latency_s if platform.emulator.latency is None else platform.emulator.latency
    ceiling = spec.job.jobs_in_flight if spec.job else None
    return Pace(
        requests_per_s=platform.requests_per_s,
        jobs_in_flight=min(platform.limits.jobs_in_flight, ceiling or platform.limits.jobs_in_flight),
        concurrency=platform.limits.concurrency,
        job_s=job_s,
        rows_per_s=past.rows_per_s,
    )


def _plain(planned: Planned) -> dict[str, Any]:
    found, past, cast = planned.found, planned.past, planned.forecast
    return {
        "pipeline": planned.spec.name,
        "platform": planned.platform,
        "is_known": found.is_known,
        "is_whole": found.is_whole,
        "inputs": found.inputs,
        "rows": {"read": found.read, "sent": found.sent, "filtered": found.filtered, "dead": found.dead},
        "jobs": found.jobs if planned.spec.job else 0,
        "bytes": found.body_bytes,
        "requests": None if cast is None else {"create": cast.create, "poll": cast.poll, "fetch": cast.fetch},
        "seconds": None if cast is None else cast.seconds,
        "last_seconds": past.last_s,
        "since": None if past.last is None else _since(past.last),
        "resume": None if past.run_id is None else {"run_id": past.run_id, "jobs": past.open_jobs},
    }


def _lines(settings: Settings, planned: Planned) -> list[str]:
    spec = planned.spec
    return [
        f"{spec.name}  ·  {Path(settings.state_dir) / spec.name}",
        f"  input     {_input(planned)}",
        *_batches(planned),
        f"  platform  {planned.platform}",
        *_requests(planned),
        f"  time      {_time(planned)}",
        f"  resume    {_resume(planned.past)}",
        *_last(planned),
    ]


def _input(planned: Planned) -> str:
    found = planned.found
    if not found.is_known:
        return "unknown before it is read: " + (
            "the platform lists it" if planned.spec.source.type == "platform" else "standard input"
        )
    more = "" if found.is_whole else ", and more"
    taken = " new" if planned.past.marks else ""
    parts = f"{grouped(found.sent)} to send + {grouped(found.filtered)} filtered + {grouped(found.dead)} dead letters"
    return f"{plural(found.inputs, 'file')}, {grouped(found.read)}{taken} rows{more} = {parts}"


def _batches(planned: Planned) -> list[str]:
    found, job = planned.found, planned.spec.job
    if not found.is_known or (job is None and planned.spec.row_route is None):
        return []
    if job is None:
        return [f"  batches   one request for each row, {_bytes(found.body_bytes)}"]
    size = f"of at most {grouped(job.batch.rows)} rows and {_bytes(job.batch.bytes)}"
    return [f"  batches   {plural(found.jobs, 'job')} {size}, {_bytes(found.body_bytes)} in all"]


def _requests(planned: Planned) -> list[str]:
    cast = planned.forecast
    if cast is None or not planned.spec.needs_platform:
        return []
    if planned.spec.job is None:
        return [f"  requests  create {grouped(cast.create)}"]
    return [f"  requests  create {grouped(cast.create)}   poll ~{grouped(cast.poll)}   fetch {grouped(cast.fetch)}"]


def _time(planned: Planned) -> str:
    last = f" (last run {clock_text(planned.past.last_s)})" if planned.past.last_s is not None else ""
    seconds = None if planned.forecast is None else planned.forecast.seconds
    if seconds is None:
        return f"unknown: no run of this pipeline tells how long it takes{last}"
    more = "" if planned.found.is_whole else " for these rows"
    return f"about {clock_text(seconds)}{more}{last}"


def _since(last: Last) -> dict[str, Any]:
    """The last run and the changes since, as plain data."""
    run = last.run
    books = {"read": run.read, "jobs": run.jobs, "accepted": run.accepted, "rejected": run.rejected, "dead": run.dead}
    told = {"run_id": run.run_id, "outcome": run.outcome, **books, "seconds": last.seconds, "platform": last.platform}
    return {**told, "changes": last.changes}


def _last(planned: Planned) -> list[str]:
    """The last run beside this one, and each option that says something else now."""
    last, found = planned.past.last, planned.found
    if last is None:
        return []
    run = last.run
    now = f", now {plural(found.read, 'row')}" if found.is_known else ""
    took = "" if last.seconds is None else f" in {clock_text(last.seconds)}"
    lines = [f"  last      {run.outcome}: {plural(run.read, 'row')}, {plural(run.jobs, 'job')}{took}{now}"]
    if planned.spec.needs_platform and last.platform not in (None, planned.platform):
        lines.append(
            f"  changed   platform: was {last.platform}; its ledger stays there (another state_dir, or --fresh)"
        )
    if last.changes is None:
        return [*lines, "  changed   unknown: what the file said then cannot be read any more"]
    for change in last.changes:
        words = f"{change.option}: {change.before or 'not set'} → {change.after or 'not set'}"
        lines.append(f"  changed   {words}{_weight(planned, change) if change.decides else ''}")
    return lines


def _weight(planned: Planned, change: Change) -> str:
    """What a change of what jobs are made of means for the run."""
    if planned.past.run_id is None:
        return "  (new rows make other jobs)"
    return "  (an unfinished run was planned without it: --finish-old-then-new, or --fresh)"


def _resume(past: Past) -> str:
    if past.run_id is None:
        return "nothing unfinished"
    told = [f"{count} {state}" for state, count in sorted(past.open_jobs.items()) if state != SUBMITTED]
    if past.waiting:
        told.insert(0, f"{past.waiting} at the platform, to be re-attached")
    return f"run {past.run_id}: {', '.join(told) or 'no open jobs'}"


def _bytes(size: float) -> str:
    """A size with its unit: 96 B, 12 KiB, 1.5 MiB."""
    step = 0
    while size >= 1024 and step < len(_UNITS) - 1:
        size, step = size / 1024, step + 1
    return f"{size:.0f} {_UNITS[step]}" if not step or size >= 10 else f"{size:.1f} {_UNITS[step]}"
