"""Command: measures the rows that were asked for, prints the table, and writes the JSON and the chart.

A row that fails is told as such and the others go on; the exit code is then 1. A goal that is not met is no failure: it
stands in the table with its figure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.chart import render
from benchmarks.rounds import FULL, QUICK, Failed, Size, cores
from benchmarks.row import Readings, Row, told
from benchmarks.table import lines_of

Measure = Callable[[Size], Mapping[str, Readings]]

# Row -> the program that measures it.
PROGRAMS = {
    "P1": "create_lane",
    "P2": "decode_lines",
    "P3": "decode_array",
    "P4": "verify_token",
    "P5": "traced_run",
    "P6": "transitions",
    "P7": "end_to_end",
    "P8": "peak_memory",
    "P9": "polls",
    "P10": "start_up",
    "P11": "emulator_core",
    "P12": "two_processes",
}


def program(row_id: str) -> tuple[Row, Measure]:
    """The row of this id, and what measures it."""
    module = import_module(f"benchmarks.{PROGRAMS[row_id]}")
    return module.ROW, module.measure


def one(row: Row, measure: Measure, size: Size) -> dict[str, Any]:
    """Measure a row; its object for `--json`."""
    began = time.monotonic()
    answer = told(row, measure(size))
    return answer | {"seconds": round(time.monotonic() - began, 1)}


def alone(row: Row, measure: Measure) -> None:
    """The command line of one row's program."""
    asked = _parser(f"{row.id}: {row.title}").parse_args()
    _finish([one(row, measure, _size(asked))], asked)


def all_rows(ids: Sequence[str], size: Size, tell: Callable[[str], None]) -> tuple[list[dict[str, Any]], list[str]]:
    """The objects of these rows, and what failed."""
    found, failures = [], []
    for row_id in ids:
        row, measure = program(row_id)
        try:
            answer = one(row, measure, size)
        except Failed as exc:
            failures.append(f"{row_id} failed: {exc}")
            tell(failures[-1])
            continue
        found.append(answer)
        for line in lines_of(answer):
            tell(line)
    return found, failures


def main() -> None:
    """`python -m benchmarks`."""
    parser = _parser("every row of the goals, against peers and physical limits")
    parser.add_argument("--only", help="rows by their ids, as in P1,P7")
    asked = parser.parse_args()
    ids = [name.strip().upper() for name in asked.only.split(",")] if asked.only else list(PROGRAMS)
    if unknown := [name for name in ids if name not in PROGRAMS]:
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(PROGRAMS)}")
    found, failures = all_rows(ids, _size(asked), lambda line: print(line, flush=True))
    _finish(found, asked, is_told=True)
    if failures:
        sys.exit(1)


def _parser(about: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="little work and one round: whether it runs, not how fast")
    parser.add_argument("--rounds", type=int, help="how many rounds (default: 5, with --quick 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write one object for each row")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the ratios")
    return parser


def _size(asked: argparse.Namespace) -> Size:
    size = QUICK if asked.quick else FULL
    return size._replace(rounds=asked.rounds) if asked.rounds else size


def _finish(found: list[dict[str, Any]], asked: argparse.Namespace, *, is_told: bool = False) -> None:
    if not is_told:
        for answer in found:
            for line in lines_of(answer):
                print(line)
    document = {"machine": machine(), "is_quick": asked.quick, "rows": found}
    if asked.json:
        asked.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if asked.svg:
        asked.svg.write_text(render(document))


def machine() -> dict[str, Any]:
    """Where this was measured."""
    client, servers = cores()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "client_core": client,
        "server_core": servers,
    }
