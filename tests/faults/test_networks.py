"""F40: packets lost, a thin line and a partition, in a network namespace of the test's own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.injectors import command, needs, needs_root, write_pipeline, write_rows
from tests.runtime.process import environment, report_of, rows_in

_ROWS = 200
_JOBS = 20


class _Net:
    """A namespace in which only a loopback lives."""

    def __init__(self, name: str, ip: str) -> None:
        self.name, self.ip = name, ip

    def words(self, *words: str) -> list[str]:
        return [self.ip, "netns", "exec", self.name, *words]

    def run(self, *words: str) -> str:
        return command(*self.words(*words)).stdout

    def start(self, *words: str, cwd: Path | None = None, **extra: str) -> subprocess.Popen[str]:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.words(*words), cwd=cwd, env={**environment(), **extra}, text=True, **pipes)


@pytest.fixture(scope="module")
def net() -> Iterator[_Net]:
    """A fresh namespace with its loopback up."""
    needs_root()
    ip, name = needs("ip", "iproute2"), f"engine-test-{os.getpid()}"
    done = command(ip, "netns", "add", name, check=False)
    if done.returncode:
        pytest.skip(f"needs network namespaces: {done.stderr.strip()}")
    try:
        command(ip, "-n", name, "link", "set", "lo", "up")
        yield _Net(name, ip)
    finally:
        command(ip, "netns", "del", name, check=False)


@pytest.fixture
def url(net: _Net) -> Iterator[str]:
    """A platform inside the namespace."""
    process = net.start(sys.executable, "-m", "engine", "emulator", "--latency", "0.3s", "--seed", "4")
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


@contextmanager
def _running(net: _Net, url: str, directory: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    write_rows(directory, _ROWS)
    process = net.start(
        sys.executable, "-m", "engine", "run", write_pipeline(directory, name), "--json",
        cwd=directory, ENGINE__PLATFORM__EMULATOR__URL=url,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _check(net: _Net, url: str, directory: Path, process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    report = report_of(out)
    assert (report["read"], report["accepted"], report["open"]) == (_ROWS, _ROWS, 0)
    keys = [row["external_id"] for row in rows_in(directory / "out")]
    assert len(keys) == len(set(keys)) == _ROWS
    assert _books(net, url)["creates"] == _JOBS


def _books(net: _Net, url: str) -> dict[str, Any]:
    program = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1], timeout=30).read().decode())"
    books: dict[str, Any] = json.loads(net.run(sys.executable, "-c", program, f"{url}/__emulator/books"))
    return books


def test_f40_ten_percent_of_all_packets_are_lost(net: _Net, url: str, tmp_path: Path) -> None:
    """A tenth of the packets never arrives: TCP and the retries carry every row through, no job is made twice."""
    nft = needs("nft", "nftables")
    net.run(nft, "add", "table", "inet", "loss")
    net.run(nft, "add", "chain", "inet", "loss", "in", "{ type filter hook input priority 0; }")
    net.run(nft, "add", "rule", "inet", "loss", "in", "numgen", "random", "mod", "100", "<", "10", "counter", "drop")
    try:
        with _running(net, url, tmp_path, "loss") as process:
            process.wait(timeout=90)
            counted = re.search(r"counter packets (\d+)", net.run(nft, "list", "table", "inet", "loss"))
            net.run(nft, "delete", "table", "inet", "loss")
            assert counted is not None
            assert int(counted[1]) > 10
            _check(net, url, tmp_path, process)
    finally:
        command(*net.words(nft, "delete", "table", "inet", "loss"), check=False)


def test_f40_a_line_of_one_megabit(net: _Net, url: str, tmp_path: Path) -> None:
    """Everything passes through 1 Mbit/s: slower, and the same."""
    tc = needs("tc", "iproute2")
    words = (tc, "qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1mbit", "burst", "70kb", "latency", "2s")
    done = command(*net.words(*words), check=False)
    if done.returncode:
        pytest.skip(f"needs the tbf queue discipline: {done.stderr.strip()}")
    try:
        with _running(net, url, tmp_path, "thin") as process:
            process.wait(timeout=90)
            counted = re.search(r"Sent (\d+) bytes.*overlimits (\d+)", net.run(tc, "-s", "qdisc", "show", "dev", "lo"))
            assert counted is not None
            assert int(counted[1]) > 100_000
            assert int(counted[2]) > 0
            _check(net, url, tmp_path, process)
    finally:
        command(*net.words(tc, "qdisc", "del", "dev", "lo", "root"), check=False)


def test_f40_a_partition_that_heals(net: _Net, url: str, tmp_path: Path) -> None:
    """The line is down for half a minute while jobs are under way: the run waits, and goes on when it is back."""
    with _running(net, url, tmp_path, "parted") as process:
        while _books(net, url)["creates"] < 1:
            assert process.poll() is None
        assert process.poll() is None
        net.run("sh", "-c", f"{net.ip} link set lo down && sleep 30 && {net.ip} link set lo up")
        assert process.poll() is None, process.communicate()
        _check(net, url, tmp_path, process)
