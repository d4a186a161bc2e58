"""`engine tap`: rows of a run that works now, at one stage of their way, as another process sees them.

It asks at the Unix socket that the run opened beside its ledger. What to leave out is the run's decision; which of the
rows to show, and when to end, is decided here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import click
import msgspec

from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import emit, emit_json, grouped, tell
from engine.cli.run import on_loop
from engine.codec.payload import encode, loads
from engine.errors import NothingSuch, RecordError
from engine.expression.compiled import Expression
from engine.expression.values import Failed
from engine.jobs.tap import STAGES
from engine.runtime.tapping import NAME, address_of

# Of each batch; where rows are searched, more of it.
_SAMPLE_ROWS = 16
_SEARCH_ROWS = 1000
_LINE_BYTES = 4 * 1024 * 1024


class Wanted(msgspec.Struct, kw_only=True):
    """What is looked for: `limit` rows at a stage, none for all, of which `where` holds; `dropped` by pipeline."""

    stage: str
    limit: int
    where: Callable[[dict[str, Any]], Any] | None
    say: Callable[[dict[str, Any]], None]
    shown: int = 0
    answered: int = 0
    dropped: dict[str, int] = {}


def _expression(_: click.Context, __: click.Parameter, text: str | None) -> Expression | None:
    if text is None:
        return None
    try:
        return Expression(text)
    except RecordError as exc:
        raise click.BadParameter(exc.message) from exc


@click.command(epilog="Example:  engine tap planned --limit 3")
@click.argument("stage", type=click.Choice(STAGES))
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--limit", type=click.IntRange(0), default=10, show_default=True, metavar="N", help="Rows; 0 for all.")
@click.option("--where", callback=_expression, metavar="EXPR", help="Show rows for which an expression holds.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row, with where it was seen.")
@pass_invocation
def tap(
    invocation: Invocation,
    *,
    stage: str,
    names: tuple[str, ...],
    limit: int,
    where: Expression | None,
    as_json: bool,
) -> int:
    """Show rows of the runs that work now; NAME keeps those pipelines alone.

    STAGE is where they are seen: read (as they came from the input), planned (as they travel in a job), results (as
    the platform answered) or landed (as they enter the output). It is a sample, and a run never waits for its
    onlookers. Secrets are left out, and of what a mask covers nothing is shown.
    """
    state_dir = Path(invocation.settings().state_dir)
    paths = [path for path in sorted(state_dir.glob(f"*/{NAME}")) if _is_meant(path.parent.name, names)]
    wanted = Wanted(stage=stage, limit=limit, where=where, say=emit_json if as_json else _print)
    on_loop(lambda: _look(paths, wanted))
    if not wanted.answered:
        which = f"no run of {', '.join(names)}" if names else "no run"
        raise NothingSuch(f"{which} works under {state_dir}", hint="engine status says how the pipelines stand")
    if lost := sum(wanted.dropped.values()):
        tell(f"batches that came too fast to be shown: {grouped(lost)}")
    if not wanted.shown:
        tell("no such row came by before the run ended")
    return 0


def _is_meant(directory: str, names: tuple[str, ...]) -> bool:
    """A share of a pipeline is meant by the pipeline's name too."""
    return not names or directory in names or directory.rpartition(".")[0] in names


async def _look(paths: list[Path], wanted: Wanted) -> None:
    tasks = [asyncio.ensure_future(_look_at(path, wanted)) for path in paths]
    left: set[asyncio.Future[None]] = set(tasks)
    try:
        while left and not _has_enough(wanted):
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)


def _has_enough(wanted: Wanted) -> bool:
    return 0 < wanted.limit <= wanted.shown


async def _look_at(path: Path, wanted: Wanted) -> None:
    """Show rows of one run until there are enough, or it ends; nothing where nobody answers."""
    with contextlib.suppress(OSError):
        async with _asked(path, wanted) as reader:
            if not await reader.readline():
                return
            wanted.answered += 1
            tell(f"looking at {path.parent.name}")
            while line := await reader.readline():
                _take(loads(line), wanted)
                if _has_enough(wanted):
                    return


@asynccontextmanager
async def _asked(path: Path, wanted: Wanted) -> AsyncIterator[asyncio.StreamReader]:
    with address_of(path) as address:
        reader, writer = await asyncio.open_unix_connection(address, limit=_LINE_BYTES)
    try:
        rows = _SAMPLE_ROWS if wanted.where is None else _SEARCH_ROWS
        writer.write(encode({"stage": wanted.stage, "rows": rows}) + b"\n")
        yield reader
    finally:
        writer.close()


def _take(seen: dict[str, Any], wanted: Wanted) -> None:
    if dropped := seen.pop("dropped", 0):
        wanted.dropped[seen["pipeline"]] = dropped
    if wanted.where is not None and not _holds(wanted.where, seen["row"]):
        return
    wanted.shown += 1
    wanted.say(seen)


def _holds(where: Callable[[dict[str, Any]], Any], row: Any) -> bool:
    """As a filter would see it, but for rows that it cannot judge: those are not what was looked for."""
    try:
        return isinstance(row, dict) and where(row) is True
    except Failed:
        return False


def _print(seen: dict[str, Any]) -> None:
    place = f"{seen['input']}:{seen['line']}" if "input" in seen and "line" in seen else ""
    where = place or (f"job {seen['job']}" if "job" in seen else f"part {seen.get('part', '?')}")
    row = json.dumps(seen["row"], ensure_ascii=False)
    # Nothing that a row holds may move the cursor of whoever looks at it.
    text = "".join(mark if mark.isprintable() else f"\\u{ord(mark):04x}" for mark in row)
    emit(f"{seen['pipeline']}  {where}  {text}")
