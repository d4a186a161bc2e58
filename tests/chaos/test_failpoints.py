"""Failpoints: off they are nothing; on they strike once, at the n-th pass of their place and side."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import failpoints
from engine.failpoints import Failpoint, arm, read, resolve

ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = """
from engine.failpoints import reach
for _ in range(5):
    for side in ("before", "after"):
        reach("sink:rename", side)
        print(side, flush=True)
"""


def test_a_failpoint_strikes_once_at_the_nth_pass() -> None:
    """Of five passes on both sides, only the third `before` of the named place strikes."""
    seen: list[str] = []
    reach = arm(read("sink:fsync:3"), die=lambda: seen.append("struck"))
    for turn in range(1, 6):
        seen.append(str(turn))
        reach("sink:rename", "before")
        reach("sink:fsync", "after")
        reach("sink:fsync", "before")
    assert seen == ["1", "2", "3", "struck", "4", "5"]


def test_the_process_is_killed_where_it_says() -> None:
    """A process with the variable dies by SIGKILL after the second rename, and has said what came before it."""
    answer = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=ROOT,
        env={"ENGINE_FAILPOINT": "sink:rename:after:2", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == -signal.SIGKILL
    assert answer.stdout.split() == ["before", "after", "before"]


def test_without_the_variable_nothing_is_there() -> None:
    """Absent or empty: one function that does nothing, shared by all places, and no count is kept."""
    assert not failpoints.IS_ON
    assert resolve({}) is resolve({"ENGINE_FAILPOINT": ""}) is failpoints.reach
    assert failpoints.reach("sink:fsync", "before") is None


@pytest.mark.parametrize("text", ["sink", "sink:fsync", "sink:fsync:0", "sink:fsync:between:1", "sink:fsync:1 "])
def test_a_failpoint_that_could_never_fire_is_refused(text: str) -> None:
    """A typing error must not look like a crash that was survived."""
    with pytest.raises(ValueError, match="PLACE:POINT"):
        read(text)


def test_a_failpoint_reads_back() -> None:
    """What is written for a child is what the child reads; `before` is the default side."""
    failpoint = Failpoint("ledger:submitted", "after", 12)
    assert read(failpoint.text) == failpoint
    assert read("ledger:planned:1") == Failpoint("ledger:planned", "before", 1)
