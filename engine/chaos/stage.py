"""Stage: one pipeline of a round, killed as planned, resumed until it ends, then audited.

Every start is the same command, with no flag that says what happened before: that is what resuming by itself means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine.chaos.audit import Audited, Finding, audit_pipeline
from engine.chaos.mischief import Mischief
from engine.chaos.plan import Kill, Stage
from engine.chaos.rows import Reference
from engine.chaos.scratch import Disk, Pipeline, Scratch
from engine.chaos.targets import Target, count_source, target_of, told
from engine.chaos.victims import Ended, Platform, command, run
from engine.settings import ObjectsSettings

# Mischief may be more than one run has patience for; the next one goes on where it stopped.
_TRIES = 25
# A run that meets a full disk either ends or waits for room; after this long it is taken to wait.
_FULL_S = 8.0


class Outcome(msgspec.Struct, kw_only=True):
    """What became of a stage: the kills that happened, how often the command ran, and what the auditor found."""

    pipeline: str
    kills: list[Kill]
    starts: int = 0
    full_disks: int = 0
    exit_codes: list[int] = msgspec.field(default_factory=list)
    audited: Audited | None = None
    findings: list[Finding] = msgspec.field(default_factory=list)


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Where a stage plays."""

    scratch: Scratch
    platform: Platform
    overrides: Mapping[str, str]
    mischief: tuple[Mischief, ...] = ()
    disk: Disk | None = None
    objects: ObjectsSettings = ObjectsSettings()


async def play(pipeline: Pipeline, stage: Stage, setting: Setting, reference: Reference | None) -> Outcome:
    """Kill, resume, audit."""
    outcome = Outcome(pipeline=pipeline.name, kills=[])
    scratch = setting.scratch
    target = target_of(pipeline, scratch, setting.objects)
    await asyncio.to_thread(target.prepare)
    try:
        words = command(
            pipeline, {**setting.overrides, **target.overrides}, url=setting.platform.url, state=scratch.state
        )
        await _run_among_kills(words, stage, setting, outcome, (scratch.ledger(pipeline), target.directory))
        outcome.audited = await asyncio.to_thread(_audit, pipeline, target, setting, reference, may_die=stage.may_die)
        outcome.findings += outcome.audited.findings
    finally:
        if not outcome.findings:
            await asyncio.to_thread(target.remove)
    return outcome


def _audit(
    pipeline: Pipeline, target: Target, setting: Setting, reference: Reference | None, *, may_die: bool
) -> Audited:
    in_input = count_source(pipeline.spec.source, setting.scratch.root, setting.objects)
    return audit_pipeline(target, setting.scratch.ledger(pipeline), in_input, reference, may_die=may_die)


async def _run_among_kills(
    words: list[str], stage: Stage, setting: Setting, outcome: Outcome, files: tuple[Path | None, ...]
) -> None:
    ended = await _fill_the_disk(words, files, setting, outcome)
    for kill in stage.kills:
        if ended is not None and ended.code == 0:
            break
        ended = await _start(words, setting, outcome, kill)
        if ended.was_killed:
            outcome.kills.append(kill)
            ended = None
            if any(m.rotates for m in setting.mischief):
                await setting.platform.rotate_keys()
    while (ended is None or ended.code) and outcome.starts < len(stage.kills) + _TRIES:
        ended = await _start(words, setting, outcome, None)
        if ended.hung:
            break
    if ended is None or ended.code:
        code, said = (ended.code, ended.err.strip()) if ended else (0, "")
        text = f"{outcome.pipeline} never ended with 0 (last: {code}) {said}"
        outcome.findings.append(Finding("unbalanced", 1, text))


async def _start(words: list[str], setting: Setting, outcome: Outcome, kill: Kill | None) -> Ended:
    ended = await run(words, cwd=setting.scratch.root, kill=kill, extra=told(setting.objects))
    outcome.starts += 1
    outcome.exit_codes.append(ended.code)
    return ended


async def _fill_the_disk(
    words: list[str], files: tuple[Path | None, ...], setting: Setting, outcome: Outcome
) -> Ended | None:
    """Let one start meet a disk without room, and give the room back; None when it did not end well."""
    if setting.disk is None or not any(path is not None and path.is_relative_to(setting.disk.path) for path in files):
        return None
    setting.disk.fill()
    try:
        ended = await run(words, cwd=setting.scratch.root, limit_s=_FULL_S, extra=told(setting.objects))
    finally:
        setting.disk.free()
    outcome.starts += 1
    outcome.exit_codes.append(ended.code)
    # Ended with an error, or still waiting for room when we stopped it: either way it met the wall.
    outcome.full_disks += ended.code != 0
    return ended if ended.code == 0 else None
