"""Sharing: what one process of several takes of a pipeline and of the account, and the one report of them all.

Pure: values in, values out. Which records are whose is `record.Share`'s, what is on disk `store.shares`'; starting
processes is the command line's work.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.errors import ConfigError, Exit
from engine.pipeline.callback import host_and_port
from engine.pipeline.objects import is_object
from engine.pipeline.spec import PipelineSpec
from engine.record import Share
from engine.runtime.report import Outcome, Report, exit_of
from engine.settings import PerSecond, Settings

# Creating, polling and fetching each need a connection.
_CONCURRENCY_MIN = 3
_SUMS = (
    "read", "accepted", "rejected", "dead", "filtered", "open", "jobs", "requests", "parts", "polls", "callbacks",
    "replays", "resumed", "remote_open", "jobs_open",
)  # fmt: skip
_BOOKS = ("read", "accepted", "rejected", "dead", "filtered", "open")


class Ending(msgspec.Struct, kw_only=True):
    """How a share's process ended: with a report, or with none and a message; `code` is its exit code."""

    tag: str
    code: int
    report: Report | None = None
    message: str = ""


def refuse_indivisible(spec: PipelineSpec, *, can_reread: bool) -> None:
    """Refuse what only one process can read or hear.

    Raises:
        ConfigError: pages of a route, a pipe, or a receiver of callbacks at a fixed address.
    """
    if spec.source.type == "platform":
        raise ConfigError(
            "a listing of the platform cannot be divided: its pages follow each other",
            hint="leave --processes out, or list into a file and run that in several processes",
        )
    if spec.source.type in ("json", "parquet"):
        raise ConfigError(
            f"rows of {spec.source.type} have no place in bytes by which they could be divided",
            hint="leave --processes out, or turn the files into ndjson first",
        )
    if spec.sink.type == "stdout" or is_object(spec.sink.path):
        what = "standard output" if spec.sink.type == "stdout" else "an object store"
        raise ConfigError(f"only one process can write to {what}", hint="leave --processes out, or use a directory")
    if spec.source.type in ("postgres", "plugin"):
        raise ConfigError(
            f"a {spec.source.type} source is one stream of rows, which one process reads",
            hint="leave --processes out, or land it in files and run those in several processes",
        )
    if not can_reread:
        raise ConfigError(
            "stdin and pipes can be read by one process only",
            hint="leave --processes out, or read from files",
        )
    callback = spec.callback
    if callback is not None and (callback.public_url is not None or host_and_port(callback.listen)[1]):
        raise ConfigError(
            "[callback] listens at one fixed address, where only one process can hear",
            hint="leave --processes out, or leave [callback] out: jobs are then polled",
        )


def spec_of(spec: PipelineSpec, share: Share) -> PipelineSpec:
    """The pipeline as one share runs it: under a name of its own, with its part of the jobs in flight."""
    job = spec.job
    if job is not None and job.jobs_in_flight is not None:
        job = msgspec.structs.replace(job, jobs_in_flight=max(1, job.jobs_in_flight // share.of))
    return msgspec.structs.replace(spec, name=share.named(spec.name), job=job)


def unjudged(spec: PipelineSpec) -> PipelineSpec:
    """The pipeline without what is judged over all shares; one that takes too many bad rows stops all the same."""
    dead_letters = msgspec.structs.replace(spec.dead_letters, max=1.0)
    return msgspec.structs.replace(
        spec, dead_letters=dead_letters, expect=msgspec.structs.replace(spec.expect, min_rows=0)
    )


def settings_of(settings: Settings, share: Share) -> Settings:
    """The settings with a share of the account's budget: rates and counts divided, so that all together keep to it."""
    platform = settings.platform
    limits = msgspec.structs.replace(
        platform.limits,
        requests=_part(platform.limits.requests, share),
        jobs_in_flight=max(1, platform.limits.jobs_in_flight // share.of),
        concurrency=max(_CONCURRENCY_MIN, platform.limits.concurrency // share.of),
    )
    emulator = msgspec.structs.replace(platform.emulator, requests=_part(platform.emulator.requests, share))
    return msgspec.structs.replace(
        settings, platform=msgspec.structs.replace(platform, limits=limits, emulator=emulator)
    )


def limit_of(limit: int | None, share: Share) -> int | None:
    """A share of the most rows to read: the first shares take one more where they do not divide."""
    return None if limit is None else limit // share.of + (share.number <= limit % share.of)


def join(spec: PipelineSpec, endings: Sequence[Ending], *, seconds: float) -> Report:
    """One report of all shares. Counts are added up; what is judged is judged over the sums.

    It has no `run_id`: each share has a run of its own. Peaks are added up, for the processes stood side by side.
    """
    reports = [ending.report for ending in endings if ending.report is not None]
    # A share that found nothing reports the books of its run before, which are no part of a run that found something.
    is_news = any(report.outcome != "nothing_new" for report in reports) or len(reports) < len(endings)
    counts: dict[str, Any] = {
        name: sum(
            getattr(report, name)
            for report in reports
            if not (is_news and name in _BOOKS and report.outcome == "nothing_new")
        )
        for name in _SUMS
    }
    joint = Report(
        run_id="",
        pipeline=spec.name,
        outcome="done",
        seconds=round(seconds, 3),
        epoch=max((report.epoch for report in reports), default=0),
        peak_mib=round(sum(report.peak_mib for report in reports), 1),
        limit=max(reports, key=lambda report: report.seconds).limit if reports else None,
        **counts,
    )
    joint.outcome = _judge(spec, endings, joint)
    joint.exit_code = _exit(endings, joint.outcome)
    joint.lines = [f"{ending.tag}: {line}" for ending in endings for line in _lines(ending)]
    return joint


def _lines(ending: Ending) -> list[str]:
    lines = list(ending.report.lines) if ending.report is not None else []
    return [*lines, ending.message] if ending.message else lines


def _judge(spec: PipelineSpec, endings: Sequence[Ending], joint: Report) -> Outcome:
    found = {"failed" if ending.report is None else ending.report.outcome for ending in endings}
    # Of a share, `over_budget` says that it took no more input: it was not to judge its end.
    for outcome in ("failed", "unbalanced", "interrupted", "over_budget"):
        if outcome in found:
            return outcome
    if found == {"nothing_new"}:
        return "nothing_new"
    if joint.open:
        return "unbalanced"
    failed, budget = joint.rejected + joint.dead, spec.dead_letters.max
    if failed and (not joint.accepted if budget is None else failed > budget * joint.read):
        return "over_budget"
    return "too_few_rows" if joint.read < spec.expect.min_rows else "done"


def _exit(endings: Sequence[Ending], outcome: Outcome) -> int:
    """The worst: of the shares that failed, the highest code."""
    if outcome != "failed":
        return exit_of(outcome)
    failed = [ending.code for ending in endings if ending.report is None or ending.report.outcome == "failed"]
    return max([code for code in failed if code], default=Exit.FAILED)


def _part(rate: PerSecond | None, share: Share) -> PerSecond | None:
    return None if rate is None else rate / share.of
