"""P10: what the command line costs before it does anything.

    python -m benchmarks.start_up [--quick]

CPU time of whole processes, the interpreter included, as the kernel counted it: `engine --help`, and `engine check` of
100 pipeline files. The limit is a Python that does nothing. Peers are asked for their help too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.command import alone
from benchmarks.engine_run import PIPELINE, TYPED
from benchmarks.rounds import EXTRA, Failed, Size, cores, environment, pin
from benchmarks.row import Goal, Missing, Reading, Readings, Row

FILES = 100
HELP, CHECK, LIMIT = "engine --help", "engine check, 100 files", "python -c pass"

ROW = Row(
    id="P10",
    title="start of the command line",
    unit="CPU ms",
    goals=(
        Goal("engine --help at most 150 ms", 150.0, ours=HELP),
        Goal("engine check of 100 files at most 1 s", 1000.0, ours=CHECK),
    ),
    peer="dlt --help",
    limit=LIMIT,
)


def cpu_ms(words: list[str], here: Path) -> Reading:
    """What a command took."""
    core = cores()[0]
    process = subprocess.Popen(
        words,
        cwd=here,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: pin(core),
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Failed(f"{' '.join(words[:4])} ended with {process.returncode}")
    return Reading((usage.ru_utime + usage.ru_stime) * 1e3)


def measure(size: Size) -> dict[str, Readings]:
    """Each command once in each round, after one that warms the caches of the disk."""
    python = [sys.executable, "-m"]
    peers = {"dlt --help": "dlt", "airbyte-cdk --help": "airbyte-cdk"}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        here = Path(folder)
        files = [_file(here, number) for number in range(3 if size.is_tiny else FILES)]
        commands = {
            LIMIT: [sys.executable, "-c", "pass"],
            HELP: [*python, "engine", "--help"],
            CHECK: [*python, "engine", "check", *files],
        }
        beside = Path(sys.executable).parent
        found = {name: shutil.which(program, path=str(beside)) for name, program in peers.items()}
        commands |= {name: [path, "--help"] for name, path in found.items() if path}
        series: dict[str, Readings] = {
            name: Missing(f"{peers[name]}: {EXTRA}") for name, path in found.items() if not path
        }
        for name, words in commands.items():
            if size.share == 1 or name not in peers:
                cpu_ms(words, here)
            series[name] = []
        for _ in range(size.rounds):
            for name, words in commands.items():
                readings = series[name]
                if isinstance(readings, list):
                    readings.append(cpu_ms(words, here))
    return series


def _file(here: Path, number: int) -> str:
    text = PIPELINE.format(
        name=f"p{number}", source="in.ndjson", batch=100, first="1s", longest="30s", in_flight=50, results=TYPED
    ).replace('path = "out"', f'path = "out/{number}"')
    (here / f"p{number}.toml").write_text(text)
    return f"p{number}.toml"


if __name__ == "__main__":
    alone(ROW, measure)
