"""The floors: imports inside `engine` go down only, as the contracts in pyproject.toml say."""

import subprocess
import sys
from pathlib import Path

LINT = """
import sys
from importlinter.cli import lint_imports
sys.exit(lint_imports(no_cache=True, no_logo=True))
"""


def test_imports_go_down_only(root: Path) -> None:
    """No module of `engine` imports from a floor above its own, or from a stranger beside it."""
    answer = subprocess.run([sys.executable, "-c", LINT], cwd=root, capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stdout + answer.stderr
