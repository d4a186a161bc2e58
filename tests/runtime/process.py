"""The command line as processes: an emulator that stands alone, and runs that can be killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ENGINE = [sys.executable, "-m", "engine"]
ROOT = Path(__file__).resolve().parents[2]
CITIES = ROOT / "pipelines" / "data" / "cities.csv"


def environment() -> dict[str, str]:
    """Our environment without what would change the engine's settings, and with the package in reach."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("ENGINE_", "OTEL_"))}
    return {**plain, "PYTHONPATH": str(ROOT)}


@contextmanager
def standing_emulator(*arguments: str) -> Iterator[dict[str, Any]]:
    """An emulator of its own; yields what it announced."""
    process = subprocess.Popen(
        [*_ENGINE, "emulator", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def start(arguments: Sequence[str], *, cwd: Path, stdin: Any = None, **extra: str) -> subprocess.Popen[str]:
    """Start `engine …` in a folder, reading from `stdin` if given; `extra` goes into its environment."""
    return subprocess.Popen(
        [*_ENGINE, *arguments],
        cwd=cwd,
        env={**environment(), **extra},
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a process: exit code, stdout, stderr."""
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def engine(arguments: Sequence[str], *, cwd: Path, **extra: str) -> tuple[int, str, str]:
    """Run `engine …` to its end."""
    return finish(start(arguments, cwd=cwd, **extra))


def report_of(out: str) -> dict[str, Any]:
    """The JSON object on the last line of a run's stdout."""
    document: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return document


def ask(url: str) -> Any:
    """GET a JSON document from a loopback server."""
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


def rows_in(directory: Path) -> list[dict[str, Any]]:
    """Every row of every part that stands in a sink's directory, whatever the manifest says."""
    rows: list[dict[str, Any]] = []
    for path in sorted(directory.glob("part-*")):
        if path.suffix == ".csv":
            with path.open(newline="") as file:
                rows += list(csv.DictReader(file))
        else:
            rows += [json.loads(line) for line in path.read_text().splitlines()]
    return rows


def manifest_in(directory: Path) -> dict[str, Any]:
    """A sink's manifest."""
    document: dict[str, Any] = json.loads((directory / "_manifest.json").read_text())
    return document
