"""What is slow is named: a disk that commits slowly under the ledger, and one under the sink."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.injectors import needs, write_pipeline, write_rows
from tests.runtime.process import environment, report_of


@pytest.mark.parametrize(
    ("call", "delay_us", "part", "stage"),
    [("fdatasync", 250_000, 1000, "ledger"), ("fsync", 200_000, 20, "sink")],
)
def test_a_disk_that_is_slow_is_named(
    platform: dict[str, Any], tmp_path: Path, call: str, delay_us: int, part: int, stage: str
) -> None:
    """The ledger makes its commits durable by one call, the sink its parts by another; each is delayed by itself."""
    strace = needs("strace", "strace")
    write_rows(tmp_path, 300)
    pipeline = write_pipeline(tmp_path, f"pace-{stage}", part=part)
    words = [
        strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:delay_enter={delay_us}",
        sys.executable, "-m", "engine", "run", pipeline, "--json",
    ]  # fmt: skip
    extra = {"ENGINE__PLATFORM__EMULATOR__URL": platform["url"]}
    done = subprocess.run(
        words, cwd=tmp_path, env={**environment(), **extra}, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    report = report_of(done.stdout)
    assert (report["accepted"], report["open"]) == (300, 0)
    assert report["limit"]["stage"] == stage
    assert report["limit"]["remedy"]
