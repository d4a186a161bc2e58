"""The command line in process and as a process, in a folder of its own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from engine.cli.main import cli

ROOT = Path(__file__).resolve().parents[2]

PIPELINE = """\
version = 1
name = "people"

[source]
type = "ndjson"
paths = ["people.ndjson"]
key = "external_id"

[job]
kind = "import.bulk"
batch = { rows = 10 }

[sink]
type = "ndjson"
path = "out"
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the test, with one good pipeline and its rows."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "ENGINE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "people.toml").write_text(PIPELINE)
    rows = [f'{{"external_id": "p{number}", "name": "Person {number}"}}\n' for number in range(25)]
    (tmp_path / "people.ndjson").write_text("".join(rows))
    return tmp_path


@pytest.fixture
def engine() -> Callable[..., Result]:
    """Run a command line in this process; answers exit code, stdout and stderr."""

    def run(*words: str, **more) -> Result:
        return CliRunner().invoke(cli, list(words), **more)

    return run


@pytest.fixture
def spawn():
    """Start a command line as a process; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "engine", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
