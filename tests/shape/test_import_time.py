"""Import time: a verb that needs no network must not pay for the libraries that do.

Counted in modules, not in milliseconds: the same on every machine.
"""

import subprocess
import sys
from pathlib import Path

import pytest

DOOR_LIBRARIES = {"aiohttp", "cryptography", "joserfc", "opentelemetry", "orjson", "sqlite3", "uvloop"}
REPORT = "import sys; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
# `--help` ends in SystemExit, so the report is made on the way out.
HELP = f"""
import contextlib, io, runpy, sys
sys.argv = ["engine", "--help"]
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    runpy.run_module("engine", run_name="__main__", alter_sys=True)
{REPORT}
"""


def _loaded(program: str, root: Path) -> set[str]:
    """Run a program in a fresh interpreter and say which top-level modules it ended with."""
    answer = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    return set(answer.stdout.split())


def test_importing_engine_loads_no_door_library(root: Path) -> None:
    """`import engine` costs what the standard library and msgspec cost, and no more."""
    loaded = _loaded(f"import engine; {REPORT}", root)

    assert "engine" in loaded
    assert not loaded & DOOR_LIBRARIES


def test_help_loads_neither_network_nor_telemetry(root: Path) -> None:
    """`engine --help` answers without loading aiohttp or OpenTelemetry."""
    if not (root / "engine" / "cli" / "main.py").exists() or not (root / "engine" / "__main__.py").exists():
        pytest.skip("help: engine/cli or engine/__main__.py not found")

    loaded = _loaded(HELP, root)

    assert "click" in loaded
    assert not loaded & {"aiohttp", "opentelemetry"}
