"""The fault matrix: every fault has its row, and a row that claims a test names one that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from engine.chaos.matrix import Row, load

ROOT = Path(__file__).resolve().parents[2]
FAULTS = [f"F{number:02}" for number in range(1, 47)]


def _tests_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_fault_has_one_row() -> None:
    """F01 to F46 are all there, once each, in order."""
    assert [row.id for row in load()] == FAULTS


def test_every_row_is_in_order() -> None:
    """What is survived names a test; what is not says why."""
    assert [row.flaw for row in load() if row.flaw] == []


def test_a_row_without_its_duty_is_seen() -> None:
    """A claim without a test, and an open row without a reason, are both flaws."""
    claim = Row(id="F01", fault="f", injector="i", result="survived")
    silent = Row(id="F02", fault="f", injector="i", result="not here")
    assert claim.flaw == "F01 says `survived` and names no test"
    assert silent.flaw == "F02 says `not here` and does not say why"


def test_every_named_test_exists() -> None:
    """Each `path::name` of the matrix is a test function of this repository."""
    missing = []
    for row in load():
        for test in row.tests:
            path, _, name = test.partition("::")
            file = ROOT / path
            if not file.is_file() or name.partition("[")[0] not in _tests_in(file):
                missing.append(f"{row.id}: {test}")
    assert missing == []


def test_every_test_of_a_fault_stands_in_its_row() -> None:
    """A test that carries the id of a fault is named by that fault's row, so the table shows all there is."""
    named = {(row.id, test.partition("[")[0]) for row in load() for test in row.tests}
    missing = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in sorted(_tests_in(path)):
            if match := re.match(r"test_f(\d\d)_", name):
                wanted = f"F{match[1]}", f"{path.relative_to(ROOT).as_posix()}::{name}"
                missing += [wanted] if wanted not in named else []
    assert missing == []
