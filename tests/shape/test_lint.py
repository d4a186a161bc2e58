"""Lint and format: ruff over the whole repository, with the rules that pyproject.toml argues for."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("verb", [("check",), ("format", "--check")], ids=["check", "format"])
def test_ruff_has_nothing_to_say(verb: tuple[str, ...], root: Path) -> None:
    """Ruff finds no rule broken and no line that it would write differently."""
    answer = subprocess.run(
        [sys.executable, "-m", "ruff", *verb, "."], cwd=root, capture_output=True, text=True, check=False
    )

    assert answer.returncode == 0, answer.stdout + answer.stderr
