"""F09 and F10: a disk that is full, or takes no writes, pauses the run, which goes on later with no torn file."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engine.components.sinks.parts import FilePart, PartsDirectory
from engine.errors import DiskFull, Exit, OutputError, RunFailed
from engine.events import Event, JobSubmitted, Waited
from engine.runtime.drain import StopFlag
from engine.store.room import lacks_room
from tests.faults.conftest import Ears
from tests.faults.injectors import command, fill, image, needs, small_disk, write_pipeline, write_rows
from tests.runtime.conftest import Rig
from tests.runtime.process import ask, environment, finish, manifest_in, report_of, rows_in, start

pytestmark = pytest.mark.anyio
_SINKS = {
    "ndjson": 'type   = "ndjson"',
    "gzip": 'type   = "ndjson"\ncompression = "gzip"',
    "csv": 'type   = "csv"',
    "parquet": 'type   = "parquet"',
}


class _Trouble(Ears):
    """Breaks something at the first submitted job, and mends it when the run says that it waits."""

    def __init__(self, harm: Callable[[], object], mend: Callable[[], object]) -> None:
        super().__init__()
        self._harm, self._mend = harm, mend
        self.harmed = 0

    def notice(self, event: Event) -> None:
        super().notice(event)
        if isinstance(event, JobSubmitted) and not self.harmed:
            self.harmed += 1
            self._harm()
        if getattr(event, "code", "") == "disk.full":
            self._mend()


def _whole(out: Path) -> bool:
    """Whether every file in a sink's directory is a part as the manifest has it, and nothing else is there."""
    parts = {part["name"]: part["sha256"] for part in manifest_in(out)["parts"]}
    files = {path.name: path for path in out.iterdir() if path.name not in ("_manifest.json", "hog")}
    return parts == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}


def _all_once(report: Any, rig: Rig, rows: int) -> None:
    assert (report.outcome, report.accepted, report.open) == ("done", rows, 0)
    assert rig.creates() == rows // 10


async def test_f09_a_full_state_disk_pauses_the_run(rig: Rig) -> None:
    """The ledger's disk fills up: the run says so, waits, and ends as if nothing had been once there is space."""
    rig.write(200)
    state = rig.directory / "state"
    state.mkdir()
    with small_disk(state) as disk:
        trouble = _Trouble(lambda: fill(disk), (disk / "hog").unlink)
        report = await rig.run(observer=trouble)
        assert trouble.harmed
        _all_once(report, rig, 200)
        assert trouble.codes() == ["disk.full", "disk.room"]
        assert "ledger.sqlite" in trouble.said("disk.full")[0]
        assert any(isinstance(event, Waited) and event.reason == "disk" for event in trouble.events)
        assert rig.keys() == sorted(f"r{n}" for n in range(200))


@pytest.mark.parametrize("sink", _SINKS)
async def test_f09_a_full_sink_disk_pauses_the_run(rig: Rig, sink: str) -> None:
    """The sink's disk fills up in the middle of parts: no torn file, no row lost, none twice, in every format."""
    rig.write(200)
    rig.replace('type   = "ndjson"\npath   = "', f'{_SINKS[sink]}\nrotate = {{ rows = 40 }}\npath   = "')
    rig.out.mkdir()
    with small_disk(rig.out) as disk:
        trouble = _Trouble(lambda: fill(disk), (disk / "hog").unlink)
        report = await rig.run(observer=trouble)
        assert trouble.harmed
        _all_once(report, rig, 200)
        assert trouble.codes()[0] == "disk.full"
        assert trouble.codes()[-1] == "disk.room"
        assert report.parts == 5
        assert _whole(disk)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_f09_a_part_goes_on_where_the_disk_was_full(folder: Path, tmp_path: Path, compression: Any) -> None:
    """Refused in the middle of a buffer, a part keeps the rest: its file is the one an empty disk would have got."""
    rows = random.Random(9)
    chunks = [json.dumps({"n": n, "x": rows.randbytes(600).hex()}).encode() + b"\n" for n in range(2500)]
    whole = _written(tmp_path / "whole", chunks, compression, mend=None)
    with small_disk(folder, "6m") as disk:
        hog = fill(disk, leave=700_000)
        assert _written(disk, chunks, compression, mend=hog.unlink) == whole


def _written(directory: Path, chunks: list[bytes], compression: Any, *, mend: Callable[[], object] | None) -> Any:
    refusals = 0
    part = FilePart(PartsDirectory(str(directory), pipeline="p"), "part-0001-000001.ndjson", compression=compression)
    for position, chunk in enumerate(chunks, start=1):
        try:
            part.append(chunk, 1)
        except OutputError as exc:
            refusals += lacks_room(exc)
            if mend is not None and position == len(chunks):
                mend()
    if mend is not None:
        assert refusals > 1
        with suppress(FileNotFoundError):
            mend()
    record = part.finish()
    assert record.sha256 == hashlib.sha256((directory / record.name).read_bytes()).hexdigest()
    return record


@pytest.mark.parametrize("place", ["state", "out"])
async def test_f09_a_stop_ends_the_waiting(rig: Rig, place: str) -> None:
    """Asked to stop while it waits for room, the run ends at once with exit 75, and the next one loses nothing."""
    rig.write(200)
    directory = rig.directory / place
    directory.mkdir()
    stop = StopFlag()
    with small_disk(directory) as disk:
        trouble = _Trouble(lambda: fill(disk), stop.request)
        with pytest.raises(RunFailed) as caught:
            await rig.run(observer=trouble, stop=stop)
        assert trouble.harmed
        assert caught.value.exit == Exit.INTERRUPTED
        assert isinstance(caught.value.causes[0], DiskFull)
        assert "free space" in caught.value.causes[0].hint
        (disk / "hog").unlink()
        _all_once(await rig.run(), rig, 200)
        assert rig.keys() == sorted(f"r{n}" for n in range(200))


def test_f09_a_process_on_a_full_disk_waits_quietly_and_heeds_sigterm(
    platform: dict[str, Any], tmp_path: Path, folder: Path
) -> None:
    """The process says what it waits for, burns no CPU, leaves on SIGTERM with 75, and goes on later."""
    write_rows(tmp_path, 300)
    arguments = ["run", write_pipeline(tmp_path, "full-process"), "--json"]
    extra = {"ENGINE__PLATFORM__EMULATOR__URL": platform["url"], "ENGINE__STATE_DIR": str(folder)}
    before = ask(f"{platform['url']}/__emulator/books")["creates"]
    with small_disk(folder, "200k") as disk:
        victim = start(arguments, cwd=tmp_path, **extra)
        assert victim.stderr is not None
        line = next(line for line in victim.stderr if "disk.full" in line or victim.poll() is not None)
        assert "disk.full" in line
        started = time.monotonic()
        victim.send_signal(signal.SIGTERM)
        code, out, _ = finish(victim)
        assert (code, report_of(out)["exit_code"]) == (Exit.INTERRUPTED, Exit.INTERRUPTED)
        assert time.monotonic() - started < 5
        command("mount", "-o", "remount,size=8m", str(disk))
        code, out, err = finish(start(arguments, cwd=tmp_path, **extra))
        assert code == 0, err
        assert report_of(out)["accepted"] == 300
    assert len({row["external_id"] for row in rows_in(tmp_path / "out")}) == len(rows_in(tmp_path / "out")) == 300
    assert ask(f"{platform['url']}/__emulator/books")["creates"] - before == 30


async def test_f10_a_sink_that_turns_read_only_pauses_the_run(rig: Rig) -> None:
    """Remounted read-only mid-run: the run waits as for a full disk, and goes on when it may write again."""
    rig.write(200)
    rig.out.mkdir()
    with small_disk(rig.out) as disk:
        trouble = _Trouble(
            lambda: command("mount", "-o", "remount,ro", str(disk)),
            lambda: command("mount", "-o", "remount,rw", str(disk)),
        )
        report = await rig.run(observer=trouble)
        assert trouble.harmed
        _all_once(report, rig, 200)
        assert trouble.codes() == ["disk.full", "disk.room"]
        assert "Read-only file system" in trouble.said("disk.full")[0]
        assert _whole(disk)


async def test_f10_a_state_disk_that_fails_into_read_only_loses_nothing(rig: Rig) -> None:
    """ext4 finds an error and turns read-only under an open ledger: the run stops, and goes on once it is mended."""
    rig.write(200)
    state = rig.directory / "state"
    state.mkdir()
    stop = StopFlag()
    with image(rig.directory, state, options="loop,errors=remount-ro") as disk:
        device = Path(command("findmnt", "-no", "SOURCE", str(state)).stdout.strip()).name
        trigger = Path("/sys/fs/ext4") / device / "trigger_fs_error"
        if not trigger.exists():
            pytest.skip("needs ext4's trigger_fs_error, which this kernel does not have")
        trouble = _Trouble(lambda: trigger.write_text("1"), stop.request)
        with pytest.raises(RunFailed) as caught:
            await rig.run(observer=trouble, stop=stop)
        assert trouble.harmed
        assert "ro," in command("findmnt", "-no", "OPTIONS", str(state)).stdout
        assert caught.value.exit in (Exit.INTERRUPTED, Exit.OUTPUT)
        command("umount", str(state))
        command("e2fsck", "-fy", str(disk), check=False)
        command("mount", "-o", "loop", str(disk), str(state))
        _all_once(await rig.run(), rig, 200)
        assert rig.keys() == sorted(f"r{n}" for n in range(200))


def test_f09_a_failed_fsync_is_never_tried_again(platform: dict[str, Any], tmp_path: Path) -> None:
    """The disk fails to confirm a commit: nothing is written after it, the run ends with 73, the next one is whole."""
    strace = needs("strace", "strace")
    write_rows(tmp_path, 300)
    arguments = ["run", write_pipeline(tmp_path, "doubt"), "--json"]
    extra = {"ENGINE__PLATFORM__EMULATOR__URL": platform["url"]}
    before = ask(f"{platform['url']}/__emulator/books")["creates"]
    # The tables are made in peace: strace counts per thread, and it is the writer's commits that are meant.
    code, _, err = finish(start([*arguments, "--limit", "10"], cwd=tmp_path, **extra))
    assert code == 0, err
    trace = tmp_path / "trace"
    words = [
        strace, "-f", "-qq", "-o", str(trace), "-e", "trace=fdatasync,pwrite64",
        "-e", "inject=fdatasync:error=EIO:when=6", sys.executable, "-m", "engine", *arguments,
    ]  # fmt: skip
    done = subprocess.run(
        words, cwd=tmp_path, env={**environment(), **extra}, capture_output=True, text=True, timeout=100, check=False
    )
    calls = trace.read_text().splitlines()
    [failed] = [number for number, line in enumerate(calls) if "EIO" in line and "INJECTED" in line]
    writer = calls[failed].split()[0]
    assert done.returncode == Exit.OUTPUT, done.stderr
    assert "it is not known whether it holds" in done.stderr
    # By the thread that commits: no page more, and no second try at making the same ones durable.
    assert not [line for line in calls[failed + 1 :] if line.split()[0] == writer and "pwrite64" in line]
    code, out, err = finish(start(arguments, cwd=tmp_path, **extra))
    assert code == 0, err
    assert report_of(out)["open"] == 0
    assert len({row["external_id"] for row in rows_in(tmp_path / "out")}) == len(rows_in(tmp_path / "out")) == 300
    assert ask(f"{platform['url']}/__emulator/books")["creates"] - before == 30
