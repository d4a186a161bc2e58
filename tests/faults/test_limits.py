"""F11 and F12: too few file descriptors, and the kernel's out-of-memory kill."""

from __future__ import annotations

import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from engine.clock import ManualClock
from engine.contract.exchange import Request
from engine.errors import ConnectFailed, Exit
from engine.transport.descriptors import connections_that_fit
from engine.transport.incoming import Incoming, Outgoing
from engine.transport.listener import Listener
from engine.transport.pooled import PooledTransport
from engine.transport.retrying import RetryingTransport
from tests.faults.injectors import needs_root, write_pipeline, write_rows
from tests.runtime.process import ask, environment, finish, report_of, rows_in, start

pytestmark = pytest.mark.anyio


@contextmanager
def _no_file_left() -> Iterator[None]:
    """Lower the soft limit to what is open already."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The lowest free descriptor is the one the next socket would get.
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Mending(ManualClock):
    """A clock whose waits are counted; the second one gives descriptors back."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0
        self.soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    async def sleep(self, seconds: float) -> None:
        self.waits += 1
        if self.waits == 2:
            resource.setrlimit(resource.RLIMIT_NOFILE, (self.soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@pytest.mark.parametrize("limit", [34, 64])
def test_f11_a_run_fits_into_few_descriptors(platform: dict[str, Any], tmp_path: Path, limit: int) -> None:
    """Under a low `ulimit -n` the run uses fewer connections, says so, and meets no refusal."""
    write_rows(tmp_path, 300)
    arguments = ["run", write_pipeline(tmp_path, f"few-{limit}"), "--json"]
    words = " ".join(map(shlex.quote, [sys.executable, "-m", "engine", *arguments]))
    before = ask(f"{platform['url']}/__emulator/books")["creates"]
    done = subprocess.run(
        ["bash", "-c", f"ulimit -n {limit}; exec {words}"],
        cwd=tmp_path,
        env={**environment(), "ENGINE__PLATFORM__EMULATOR__URL": platform["url"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "system.files" in done.stderr
    assert "ulimit -n" in done.stderr
    report = report_of(done.stdout)
    assert (report["accepted"], report["replays"]) == (300, 0)
    assert ask(f"{platform['url']}/__emulator/books")["creates"] - before == 30


def test_f11_with_no_descriptor_to_start_with_it_says_what_to_do(tmp_path: Path) -> None:
    """Too few even for a run's own files: one clear message, and the exit code of something that can be repeated."""
    write_rows(tmp_path, 10)
    arguments = ["run", write_pipeline(tmp_path, "none"), "--json"]
    words = " ".join(map(shlex.quote, [sys.executable, "-m", "engine", *arguments]))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -n 8; exec {words}"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == Exit.INTERRUPTED, done.stderr
    assert "no more files" in done.stderr
    assert "ulimit -n" in done.stderr


async def test_f11_a_request_that_gets_no_socket_backs_off_and_is_sent_in_the_end() -> None:
    """EMFILE in the middle of a run is no connection, named as what it is: waited out, not spun on."""

    async def answer(_: Incoming) -> Outgoing:
        return Outgoing(body=b"ok")

    listener, pool, clock = Listener(answer), PooledTransport(), _Mending()
    await listener.start()
    request = Request("GET", listener.origin, {}, route="jobs.get")
    try:
        with _no_file_left():
            with pytest.raises(ConnectFailed, match="too many open files") as caught:
                await pool.send(request)
            assert "ulimit -n" in caught.value.hint
            answered = await RetryingTransport(pool, clock).send(request)
        assert (answered.body, clock.waits) == (b"ok", 2)
    finally:
        await pool.aclose()
        await listener.aclose()


def test_f11_connections_are_counted_against_the_limit() -> None:
    """A generous limit changes nothing; a low one leaves room for everything else that is opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_now = sum(1 for _ in Path("/proc/self/fd").iterdir())
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        assert connections_that_fit(96) == 96
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 40, hard))
        assert 2 <= connections_that_fit(96) <= 28
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 2, hard))
        assert connections_that_fit(96) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class _Cage:
    """A memory control group, of whichever version is mounted."""

    def __init__(self, path: Path, *, is_v2: bool) -> None:
        self.path = path
        self._limit = path / ("memory.max" if is_v2 else "memory.limit_in_bytes")
        self._used = path / ("memory.current" if is_v2 else "memory.usage_in_bytes")

    def limit(self, limit_bytes: int) -> None:
        self._limit.write_text(str(limit_bytes))

    def used(self) -> int:
        return int(self._used.read_text())

    def take(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))


@pytest.fixture
def cage() -> Iterator[_Cage]:
    """A group of our own; skips where none can be made."""
    needs_root()
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    is_v2 = not v1.is_dir()
    path = (v2 if is_v2 else v1) / f"engine-test-{os.getpid()}"
    try:
        path.mkdir()
        cage = _Cage(path, is_v2=is_v2)
        cage.limit(1 << 40)
    except OSError as exc:
        with suppress(OSError):
            path.rmdir()
        pytest.skip(f"needs a writable memory control group: {exc}")
    try:
        yield cage
    finally:
        path.rmdir()


def test_f12_an_out_of_memory_kill_is_a_kill_9(platform: dict[str, Any], tmp_path: Path, cage: _Cage) -> None:
    """The kernel kills the run where it stands: the next one ends it, no row lost, no job created twice."""
    rows = 20_000
    write_rows(tmp_path, rows, padding=400)
    arguments = ["run", write_pipeline(tmp_path, "oom", batch=500, part=5000), "--json"]
    extra = {"ENGINE__PLATFORM__EMULATOR__URL": platform["url"]}
    before = ask(f"{platform['url']}/__emulator/books")["creates"]
    victim = start(arguments, cwd=tmp_path, **extra)
    assert victim.stderr is not None
    # Charged from here on: what it has is not counted, what it takes from now on is.
    cage.take(victim.pid)
    next(line for line in victim.stderr if "platform" in line)
    cage.limit(cage.used() + (256 << 10))
    code, _, _ = finish(victim)
    assert code == -signal.SIGKILL

    code, out, err = finish(start(arguments, cwd=tmp_path, **extra))
    assert code == 0, err
    report = report_of(out)
    assert (report["read"], report["accepted"], report["open"]) == (rows, rows, 0)
    keys = [row["external_id"] for row in rows_in(tmp_path / "out")]
    assert len(keys) == len(set(keys)) == rows
    assert ask(f"{platform['url']}/__emulator/books")["creates"] - before == rows // 500


def test_f12_a_run_fits_into_150_mib(platform: dict[str, Any], tmp_path: Path, cage: _Cage) -> None:
    """Fenced in at 150 MiB from its first instruction, the same run needs no killing."""
    rows = 20_000
    write_rows(tmp_path, rows, padding=400)
    arguments = ["run", write_pipeline(tmp_path, "fenced", batch=500, part=5000), "--json"]
    cage.limit(150 << 20)
    fence = f"echo $$ > {cage.path}/cgroup.procs; exec "
    words = " ".join(map(shlex.quote, [sys.executable, "-m", "engine", *arguments]))
    done = subprocess.run(
        ["bash", "-c", fence + words],
        cwd=tmp_path,
        env={**environment(), "ENGINE__PLATFORM__EMULATOR__URL": platform["url"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert report_of(done.stdout)["accepted"] == rows
