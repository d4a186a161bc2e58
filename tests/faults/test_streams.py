"""F46: a log that cannot be written and a reader that is gone or asleep cost lines, never rows."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.cli.output import PIPE_CLOSED
from engine.cli.spout import Spout
from engine.errors import Exit
from tests.faults.injectors import fill, small_disk, write_pipeline, write_rows
from tests.runtime.process import engine, environment, rows_in

_ROWS = 50


def _begin(arguments: list[str], cwd: Path, platform: dict[str, Any], **streams: Any) -> subprocess.Popen[bytes]:
    env = {**environment(), "ENGINE__PLATFORM__EMULATOR__URL": platform["url"]}
    words = [sys.executable, "-m", "engine", *arguments]
    return subprocess.Popen(words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, **streams)


def _prepare(directory: Path, name: str) -> list[str]:
    write_rows(directory, _ROWS)
    return ["run", write_pipeline(directory, name)]


def _is_done(directory: Path, name: str) -> bool:
    code, out, err = engine(["runs", "ls", name, "--json"], cwd=directory)
    assert code == 0, err
    return [json.loads(line)["outcome"] for line in out.splitlines()] == ["done"] and len(
        rows_in(directory / "out")
    ) == _ROWS


@contextmanager
def _stuffed_pipe() -> Iterator[tuple[int, int]]:
    """A pipe that takes no byte more, as when its reader sleeps."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for piece in (b"x" * 4096, b"x"):
        try:
            while True:
                os.write(writer, piece)
        except BlockingIOError:
            continue
    os.set_blocking(writer, True)
    try:
        yield reader, writer
    finally:
        os.close(reader)


def test_f46_a_full_log_disk_costs_lines_only(platform: dict[str, Any], tmp_path: Path, folder: Path) -> None:
    """Standard error goes to a disk without room: the run ends with 0 and all rows, its report is whole."""
    with small_disk(folder) as disk, (disk / "log").open("wb") as log:
        fill(disk)
        process = _begin([*_prepare(tmp_path, "log"), "--json"], tmp_path, platform, stdout=subprocess.PIPE, stderr=log)
        out, _ = process.communicate(timeout=60)
        assert (disk / "log").stat().st_size == 0
    assert process.returncode == 0
    assert json.loads(out)["accepted"] == _ROWS
    assert _is_done(tmp_path, "log")


def test_f46_a_log_that_takes_lines_again_says_how_many_are_missing(folder: Path) -> None:
    """Lines that met a full disk are dropped and counted; the first one after says how many."""
    with small_disk(folder) as disk, (disk / "log").open("w") as log:
        spout = Spout(log)
        assert spout.write("first\n")
        hog = fill(disk)
        spout.write("x" * 8192 + "\n")
        assert [spout.write("second\n"), spout.write("third\n")] == [False, False]
        hog.unlink()
        assert spout.write("fourth\n")
        assert spout.dropped == 3
        lines = (disk / "log").read_text().splitlines()
    assert lines[0] == "first"
    assert lines[-2:] == ["… 3 lines were lost here: the stream took none", "fourth"]


def test_f46_a_closed_pipe_ends_the_words_and_not_the_run(platform: dict[str, Any], tmp_path: Path) -> None:
    """Whoever read standard output is gone, as after `| head -1`: everything is committed, the code is the shell's."""
    reader, writer = os.pipe()
    os.close(reader)
    process = _begin(_prepare(tmp_path, "epipe"), tmp_path, platform, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, err = process.communicate(timeout=60)
    assert process.returncode == PIPE_CLOSED
    assert b"Traceback" not in err
    assert _is_done(tmp_path, "epipe")


def test_f46_through_head_the_run_is_whole(platform: dict[str, Any], tmp_path: Path) -> None:
    """`engine run … | head -1`, by a shell, with standard error closed as well."""
    arguments = _prepare(tmp_path, "head")
    shell = f"'{sys.executable}' -m engine {' '.join(arguments)} 2>&- | head -1"
    env = {**environment(), "ENGINE__PLATFORM__EMULATOR__URL": platform["url"]}
    done = subprocess.run(["bash", "-c", shell], cwd=tmp_path, env=env, capture_output=True, timeout=60, check=False)
    assert done.stdout.count(b"\n") == 1
    assert _is_done(tmp_path, "head")


def test_f46_a_full_disk_under_standard_output_is_said(platform: dict[str, Any], tmp_path: Path) -> None:
    """The report cannot be written: exit 73 with the reason on standard error, and the run itself is done."""
    with Path("/dev/full").open("wb") as full:
        process = _begin(_prepare(tmp_path, "full"), tmp_path, platform, stdout=full, stderr=subprocess.PIPE)
        _, err = process.communicate(timeout=60)
    assert process.returncode == Exit.OUTPUT
    assert b"standard output: No space left on device" in err
    assert _is_done(tmp_path, "full")


def test_f46_a_blocked_log_holds_nobody_up(platform: dict[str, Any], tmp_path: Path) -> None:
    """Nobody reads standard error and its pipe is full: the run ends all the same, its lines dropped."""
    with _stuffed_pipe() as (_, writer):
        arguments = [*_prepare(tmp_path, "blocked"), "--json"]
        process = _begin(arguments, tmp_path, platform, stdout=subprocess.PIPE, stderr=writer)
        os.close(writer)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert json.loads(out)["accepted"] == _ROWS
    assert _is_done(tmp_path, "blocked")


def test_f46_a_blocked_standard_output_waits_with_the_report_only(platform: dict[str, Any], tmp_path: Path) -> None:
    """Its reader sleeps: the rows are committed before the report waits, and reading it lets the process go."""
    with _stuffed_pipe() as (reader, writer):
        process = _begin([*_prepare(tmp_path, "asleep"), "--json"], tmp_path, platform, stdout=writer, stderr=-1)
        os.close(writer)
        heard = b""
        while b'"outcome"' not in heard:
            heard = heard[-64:] + os.read(reader, 65536)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert _is_done(tmp_path, "asleep")


def test_f46_streams_without_a_descriptor_and_closed_ones(tmp_path: Path) -> None:
    """A stream in memory is written to as it is; one that was closed drops and counts, and never raises."""
    memory = io.StringIO()
    assert Spout(memory).write("line\n")
    assert memory.getvalue() == "line\n"
    with (tmp_path / "log").open("w") as log:
        spout = Spout(log)
    assert not spout.write("late\n")
    assert spout.dropped == 1


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENGINE__TELEMETRY__LOG_FORMAT", raising=False)
