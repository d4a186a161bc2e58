"""`engine test`: the `[[test]]` blocks of pipeline files, played in this process and in a time of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import Paint, clock_text, emit, emit_json, plural
from engine.cli.rehearsal import Played, rehearse
from engine.errors import Exit, NothingSuch, PlanError
from engine.pipeline.spec import PipelineSpec

# More than the rows of a test take, with ledger and output.
_ROOM_BYTES = 512 * 1024 * 1024


@click.command(epilog="Example:  engine test people.toml")
@click.argument("files", nargs=-1, required=True, metavar="FILE…")
@click.option("--only", metavar="TEXT", default="", help="Only tests whose name contains this.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per test.")
@pass_invocation
def test(invocation: Invocation, files: tuple[str, ...], only: str, as_json: bool) -> int:  # noqa: FBT001
    """Play the [[test]] blocks of pipelines and compare what comes out.

    Each has an emulator, a ledger, an output and a time of its own: a job of a day takes a moment, nothing of yours
    is touched, no account is needed.
    Exit 0 when all is as expected, 1 when something is not.
    """
    played: list[Played] = []
    for path, spec in _specs(invocation, files):
        chosen = [scenario for scenario in spec.test if only in scenario.name]
        if chosen and not as_json:
            emit(path)
        for scenario in chosen:
            with tempfile.TemporaryDirectory(prefix="engine-test-", dir=_memory()) as folder:
                done = rehearse(spec, path, scenario, Path(folder))
            played.append(done)
            _tell(invocation.paint_out(), path, done, as_json=as_json)
    if not played:
        raise NothingSuch(
            f"no [[test]] in {', '.join(files)}" + (f" has {only!r} in its name" if only else ""),
            hint="engine init NAME writes a pipeline with one",
        )
    failed = sum(not done.is_good for done in played)
    if not as_json:
        emit(f"{plural(len(played), 'test')}, {failed} failed" if failed else f"{plural(len(played), 'test')} passed")
    return Exit.FAILED if failed else Exit.DONE


def _specs(invocation: Invocation, files: tuple[str, ...]) -> list[tuple[str, PipelineSpec]]:
    """All files, checked before the first test is played."""
    findings, specs = [], []
    for path in files:
        try:
            specs.append((path, invocation.pipeline(path)))
        except PlanError as exc:
            findings += exc.findings
    if findings:
        raise PlanError(findings)
    return specs


def _memory() -> str | None:
    """A directory that lives in memory, where there is one: nothing of a test must outlive it, and disks are slow."""
    place = Path("/dev/shm")  # noqa: S108 - only the place; the directory in it is made anew, for us alone
    try:
        has_room = shutil.disk_usage(place).free >= _ROOM_BYTES
    except OSError:
        return None
    return str(place) if has_room and os.access(place, os.W_OK | os.X_OK) else None


def _tell(paint: Paint, path: str, done: Played, *, as_json: bool) -> None:
    if as_json:
        emit_json(_plain(path, done))
        return
    sign = paint.good("✓") if done.is_good else paint.bad("✗")
    emit(f"  {sign} {done.name}  {paint.dim(clock_text(done.seconds))}")
    for difference in done.differences:
        emit(f"      {difference}")


def _plain(path: str, done: Played) -> dict[str, Any]:
    return {
        "file": path,
        "test": done.name,
        "is_good": done.is_good,
        "outcome": done.outcome,
        "seconds": done.seconds,
        "differences": done.differences,
    }
