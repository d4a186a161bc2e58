"""What the shape tests look at: the repository's files, and the modules of `engine`, parsed once.

Nothing here imports `engine`: its shape must be testable while it does not even import.
"""

import ast
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Module:
    """One Python file: its path from the root with forward slashes, its lines, its syntax tree."""

    path: str
    lines: list[str]
    tree: ast.Module


def _parse(folder: str) -> list[Module]:
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = path.relative_to(ROOT).as_posix()
        found.append(Module(name, text.splitlines(), ast.parse(text, filename=name)))
    return found


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def engine_modules() -> list[Module]:
    """Every module of `engine`, parsed."""
    return _parse("engine")


@pytest.fixture(scope="session")
def test_modules() -> list[Module]:
    """Every module under `tests`, parsed."""
    return _parse("tests")


@pytest.fixture(scope="session")
def repository_files() -> list[Path]:
    """Every file that a commit of the working tree would hold: tracked, or new and not ignored."""
    # A checkout may belong to another user than the one who tests it (a container's root, say); git
    # refuses to read such a tree unless it is told, for this one command, that it may.
    listing = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    try:
        answer = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("repository files: not a git checkout")
    names = answer.stdout.decode("utf-8").split("\0")
    return [path for name in names if name and (path := ROOT / name).is_file()]
