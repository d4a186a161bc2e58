"""`engine chaos`: runs pipelines among kills and faults on an emulator of its own, and prints what was survived.

Thin: what chaos is, is in `engine.chaos`. stdout gets the table (or one JSON object), stderr a line per round.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import click
import msgspec

from engine.chaos.harness import Harness, Order
from engine.chaos.matrix import load
from engine.chaos.mischief import choose
from engine.chaos.scratch import Pipeline, check
from engine.chaos.tally import Tally
from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import emit, emit_json, tell
from engine.cli.run import on_loop
from engine.errors import Exit


@click.command(epilog="Example:  engine chaos --table")
@click.argument("files", nargs=-1, metavar="FILE…")
@click.option("--kills", type=click.IntRange(min=1), default=100, show_default=True, help="Kills that must happen.")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws kills, instants and faults.")
@click.option("--parallel", type=click.IntRange(1, 64), help="Rounds at once.  [default: one per core]")
@click.option("--only", metavar="NAME", multiple=True, help="Only this mischief beside the kills; may be repeated.")
@click.option("--calm", is_flag=True, help="Kills only, no mischief.")
@click.option("--keep", is_flag=True, help="Leave the scratch directory, and say where it is.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--table", is_flag=True, help="Print the fault matrix with its results, and run nothing.")
@pass_invocation
def chaos(  # noqa: PLR0917 - click passes by name
    invocation: Invocation,
    files: tuple[str, ...],
    kills: int,
    seed: int,
    parallel: int | None,
    only: tuple[str, ...],
    calm: bool,  # noqa: FBT001 - click passes by name
    keep: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
    table: bool,  # noqa: FBT001
) -> int:
    """Kill pipelines at every ledger transition and at random instants, resume them, compare with undisturbed runs.

    Several FILEs are a chain: each may read what an earlier one writes. Everything happens in a scratch directory,
    on an emulator. Exit 0 when no row was lost, doubled or changed, no job made twice, and every run balances.
    """
    if table:
        _matrix(as_json=as_json)
        return Exit.DONE
    if not files:
        raise click.UsageError("name the pipelines to run, or ask for --table")
    pipelines = tuple(Pipeline(path=Path(file).resolve(), spec=invocation.pipeline(file)) for file in files)
    check(pipelines)
    directory = Path(tempfile.mkdtemp(prefix="engine-chaos-"))
    order = Order(
        pipelines=pipelines,
        directory=directory,
        inputs=Path.cwd(),
        kills=kills,
        seed=seed,
        mischief=() if calm else choose(only),
        overrides={name: text for name, text in invocation.pairs.items() if not name.startswith("platform.")},
        parallel=parallel or os.cpu_count() or 1,
        keep=keep,
        objects=invocation.settings().objects,
    )
    tally = on_loop(lambda: Harness(order, tell=tell).run())
    if keep:
        tell(f"kept: {directory}")
    if as_json:
        emit_json(_fields(tally, seed))
    else:
        emit("\n".join(_lines(tally, seed)))
    return Exit.DONE if tally.is_clean else Exit.UNBALANCED


def _fields(tally: Tally, seed: int) -> dict[str, Any]:
    return {
        "seed": seed,
        "rounds": tally.rounds,
        "starts": tally.starts,
        "kills": tally.kills,
        "rows": tally.rows,
        "faults": msgspec.to_builtins(sorted(tally.lines.values(), key=lambda line: line.fault)),
        "skipped": tally.skipped,
        "totals": tally.totals,
        "findings": [{"round": number, **msgspec.to_builtins(finding)} for number, finding in tally.findings],
    }


def _lines(tally: Tally, seed: int) -> list[str]:
    rows = sorted(tally.lines.values(), key=lambda line: line.fault)
    width = max([len(line.fault) for line in rows] + [len("fault")])
    lines = [f"{'fault':<{width}}  {'matrix':<8}  {'injected':>8}  {'survived':>8}"]
    lines += [
        f"{line.fault:<{width}}  {' '.join(line.faults):<8}  {line.injected:>8}  {line.survived:>8}" for line in rows
    ]
    lines += [f"skipped: {name} ({why})" for name, why in tally.skipped.items()]
    totals = "   ".join(f"{count} {name}" for name, count in tally.totals.items())
    lines.append(
        f"{tally.kills} kills in {tally.rounds} rounds, {tally.starts} starts, {tally.rows} rows landed, seed {seed}"
    )
    lines.append(f"{'✓' if tally.is_clean else '✗'} {totals}")
    lines += [f"  round {number}: {finding.text}" for number, finding in tally.findings]
    return lines


def _matrix(*, as_json: bool) -> None:
    rows = load()
    if as_json:
        emit_json(msgspec.to_builtins(rows))
        return
    emit(f"{'':<4} {'result':<9} {'tests':>5}  fault")
    for row in rows:
        emit(f"{row.id:<4} {row.result:<9} {len(row.tests):>5}  {row.fault}")
        if row.reason:
            emit(f"{'':<21}{row.reason}")
    counts = {
        result: sum(1 for row in rows if row.result == result) for result in ("survived", "partly", "open", "not here")
    }
    emit(", ".join(f"{count} {result}" for result, count in counts.items()))
