"""`engine top`: runs that work now, whichever process they are in: how far, how fast, and what sets their pace."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import click

from engine.cli.beacon import EVERY_S, beacons
from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import clock_text, emit, emit_json, grouped, tell

_HEADS = ("PIPELINE", "PID", "TIME", "READ", "ACCEPTED", "REJECTED", "DEAD", "OPEN", "REQUESTS", "PACE SET BY")


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--once", is_flag=True, help="Say it once and end.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each run, once.")
@pass_invocation
def top(invocation: Invocation, *, names: tuple[str, ...], once: bool, as_json: bool) -> int:
    """Show the runs that work now, every second until Ctrl-C; NAME keeps those pipelines alone.

    Runs started with --quiet do not tell.

    Example: engine top --once
    """
    state_dir = Path(invocation.settings().state_dir)
    if as_json:
        for told in beacons(state_dir, names):
            emit_json(told)
        return 0
    is_live = sys.stdout.isatty() and not once
    pause, drawn = threading.Event(), 0
    while True:
        lines = _lines([*beacons(state_dir, names)])
        if not is_live:
            if len(lines) == 1:
                tell(lines[0])
            else:
                emit("\n".join(lines))
            return 0
        # One write: the terminal never shows half a table.
        emit((f"\x1b[{drawn}A\x1b[J" if drawn else "") + "\n".join(lines))
        drawn = len(lines)
        pause.wait(EVERY_S)


def _lines(told: list[dict[str, Any]]) -> list[str]:
    if not told:
        return ["no run works under this state directory"]
    rows = [_HEADS, *(_row(one) for one in told)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _row(told: dict[str, Any]) -> tuple[str, ...]:
    counts = [grouped(int(told.get(name, 0))) for name in ("read", "accepted", "rejected", "dead", "open", "requests")]
    pace = f"{told['limit']} {told['limit_share']:.0%}" if told.get("limit") else "-"
    return (str(told["pipeline"]), str(told["pid"]), clock_text(float(told["seconds"])), *counts, pace)
