"""Summary: the report of a run in words, and as the fields of its JSON line."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.cli.output import Paint, clock_text, grouped
from engine.runtime.report import Report

_HEADS = {
    "done": "✓ done in {took}",
    "nothing_new": "✓ nothing new: every row of the input has ended before",
    "interrupted": "■ stopped after {took}; nothing will be repeated",
    "over_budget": "✗ ended after {took}: too many rows were rejected or dead",
    "unbalanced": "✗ the books do not balance, after {took}",
    "too_few_rows": "✗ done in {took}, but fewer rows were read than [expect] min_rows asks for",
    "failed": "✗ failed after {took}",
}


# Of a run that is over in a moment nobody asks why it was slow.
_PACE_FROM_S = 5.0


def report_fields(report: Report) -> dict[str, Any]:
    """Everything a report says, as plain data."""
    fields: dict[str, Any] = msgspec.to_builtins(report)
    return {**fields, "polls_per_job": report.polls_per_job}


def report_lines(report: Report, path: str, paint: Paint) -> list[str]:
    """A report for a human: the outcome, the equation, the traffic, and what to type next."""
    head = _HEADS.get(report.outcome, report.outcome).format(took=clock_text(report.seconds))
    head = (paint.bad if head.startswith("✗") else paint.good)(head)
    lines = [head if report.outcome == "nothing_new" and not report.read else f"{head}     {_equation(report)}"]
    if report.jobs or report.requests:
        lines.append("  " + _traffic(report))
    if report.limit is not None and report.seconds >= _PACE_FROM_S:
        limit = report.limit
        lines.append(f"  pace set by {limit.stage} ({limit.share:.0%} of the time): {limit.remedy}")
    lines += [f"  {line}" for line in report.lines]
    return [*lines, *_next(report, path, paint)]


def command_of(path: str, pipeline: str, *, is_replay: bool) -> str:
    """What to type to go on with a run that is unfinished."""
    return f"engine dlq replay {pipeline}" if is_replay else f"engine run {path}"


def _equation(report: Report) -> str:
    ends = [
        f"{grouped(report.accepted)} accepted",
        f"{grouped(report.rejected)} rejected",
        f"{grouped(report.dead)} dead-lettered",
        f"{grouped(report.filtered)} filtered",
    ]
    if report.open:
        ends.append(f"{grouped(report.open)} open")
    # Open rows of a stopped run are in the ledger: that is no imbalance.
    is_balanced = report.outcome != "unbalanced" and (
        not report.open or report.outcome in ("interrupted", "over_budget")
    )
    verdict = "balanced" if is_balanced else "NOT balanced"
    return f"{grouped(report.read)} rows in = {' + '.join(ends)}      {verdict}"


def _traffic(report: Report) -> str:
    jobs = f"{grouped(report.jobs)} job{'' if report.jobs == 1 else 's'}"
    if report.replays:
        jobs += f" ({grouped(report.replays)} create repeated, same job returned)"
    parts = [jobs, f"{grouped(report.requests)} requests", f"{report.polls_per_job:.1f} polls/job"]
    if report.callbacks:
        parts.insert(2, f"{grouped(report.callbacks)} callbacks")
    if report.peak_mib:
        parts.append(f"peak {report.peak_mib:.0f} MiB")
    return "   ".join(parts)


def _next(report: Report, path: str, paint: Paint) -> list[str]:
    lines = []
    if report.manifest:
        lines.append(f"  {report.manifest} ({grouped(report.parts)} part{'' if report.parts == 1 else 's'})")
    runs = f"engine runs show {report.run_id}" if report.run_id else f"engine runs ls {report.pipeline}"
    commands = [runs, f"engine jobs ls {report.pipeline}"]
    if report.rejected or report.dead:
        commands.insert(0, f"engine dlq ls {report.pipeline}")
    if report.outcome in ("interrupted", "failed") or report.jobs_open:
        commands.insert(0, command_of(path, report.pipeline, is_replay=report.is_replay))
    elif report.outcome == "nothing_new":
        commands.insert(0, f"engine run {path} --fresh")
    suffix = f"      (exit {report.exit_code})" if report.exit_code else ""
    return [*lines, f"  {paint.dim('next')}  {'   '.join(commands)}{suffix}"]
