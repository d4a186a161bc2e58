"""Types: mypy, strict, over `engine`."""

import subprocess
import sys
from pathlib import Path

import pytest


# A cold cache reads the stubs of every library once, and two cores may be busy with other tests.
@pytest.mark.timeout(600)
def test_mypy_strict_has_nothing_to_say(root: Path) -> None:
    """Every module of `engine` is fully typed, and its types agree."""
    answer = subprocess.run([sys.executable, "-m", "mypy"], cwd=root, capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stdout + answer.stderr
