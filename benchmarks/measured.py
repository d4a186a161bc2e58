"""One run of the command line on an emulator of its own, and what it reported; for the programs beside this file.

Peaks are of the engine's process alone, as the operating system counted them.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PIPELINE = """
version = 1
name    = "measured"
memory  = "{memory}"
[source]
type  = "ndjson"
paths = ["in.ndjson"]
key   = "id"
[job]
kind  = "{kind}"
batch = {{ rows = {rows} }}
poll  = {{ first = "50ms", max = "500ms" }}
{job}
[sink]
type = "ndjson"
path = "out"
"""
_IMPORT = '[job.payload]\nentity_type = "location"\nmapping = { id = "external_id", name = "label" }'


def rows_of(count: int, size: int) -> Callable[[Path], None]:
    """Writes an input of `count` rows of about `size` bytes."""

    def write(path: Path) -> None:
        filler = "x" * max(0, size - 40)
        with path.open("w") as file:
            file.writelines(f'{{"id":"r{n}","name":"Row","x":"{filler}"}}\n' for n in range(count))

    return write


def run(
    here: Path, write: Callable[[Path], None], *, kind: str, memory: str, rows: int = 1000, pad: int = 0
) -> dict[str, Any]:
    """Run once in an empty folder; the report, as the command line prints it with `--json`."""
    here.mkdir()
    write(here / "in.ndjson")
    job = _IMPORT if kind == "import.bulk" else ""
    (here / "p.toml").write_text(_PIPELINE.format(kind=kind, memory=memory, rows=rows, job=job))
    config = '[platform]\nprofile = "emulator"\n[platform.emulator]\nlatency = "20ms"\n'
    if pad:
        (here / "faults.toml").write_text(f'[[fault]]\nat = "result.rows"\npad = {pad}\n')
        config += 'faults = "faults.toml"\n'
    (here / "config.toml").write_text(config)
    done = subprocess.run(
        [sys.executable, "-m", "engine", "run", "p.toml", "--json", "--quiet"],
        cwd=here,
        check=False,
        capture_output=True,
        text=True,
    )
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report
