"""F07: power is lost: what the disk had by then is a state to go on from, and holds all that was acknowledged."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

from tests.faults.injectors import command, image, mounted, write_pipeline, write_rows
from tests.runtime.process import ask, finish, manifest_in, report_of, rows_in, start

_INSTANTS = 20
_PARTS = 20
_ROWS = 800
_JOBS = 80


def _acknowledged(state: Path, name: str) -> dict[str, str]:
    """The parts a reader of the ledger would be told of, with their digests."""
    path = state / name / "ledger.sqlite"
    if not path.exists():
        return {}
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return dict(db.execute("SELECT name, sha256 FROM parts"))
    except sqlite3.OperationalError:
        return {}  # No table yet.
    finally:
        db.close()


def _photograph(process: subprocess.Popen[str], disk: Path, copy: Path) -> None:
    """What the disk holds at this instant; the process stands still meanwhile, so that it is one instant."""
    process.send_signal(signal.SIGSTOP)
    try:
        shutil.copyfile(disk, copy)
    finally:
        process.send_signal(signal.SIGCONT)


def test_f07_power_is_lost_at_random_instants(platform: dict[str, Any], tmp_path: Path, folder: Path) -> None:
    """Twenty photographs of the disk of one run, each gone on from: all rows once, nothing acknowledged is missing."""
    books = f"{platform['url']}/__emulator/books"
    before = ask(books)["creates"]
    write_rows(tmp_path, _ROWS)
    arguments = ["run", write_pipeline(tmp_path, "power", out=folder / "out", part=_ROWS // _PARTS), "--json"]
    extra = {"ENGINE__PLATFORM__EMULATOR__URL": platform["url"], "ENGINE__STATE_DIR": str(folder / "state")}
    photographs: list[tuple[Path, dict[str, str]]] = []
    # Progress is counted in jobs made and parts acknowledged, so the instants lie in every phase of the run.
    instants = sorted(random.Random(7).sample(range(_JOBS + 4 * _PARTS), _INSTANTS))
    with image(tmp_path, folder) as disk:
        victim = start(arguments, cwd=tmp_path, **extra)
        while instants and victim.poll() is None:
            said = _acknowledged(folder / "state", "power")
            if (ask(books)["creates"] - before) + 4 * len(said) < instants[0]:
                continue
            instants.pop(0)
            copy = tmp_path / f"photograph-{len(photographs)}.img"
            _photograph(victim, disk, copy)
            photographs.append((copy, said))
        code, out, err = finish(victim)
        assert code == 0, err
        assert report_of(out)["accepted"] == _ROWS
    kept = {len(said) for _, said in photographs}
    assert len(photographs) >= _INSTANTS // 2
    for copy, said in photographs:
        with mounted(folder, "-o", "loop", str(copy)):
            _go_on(arguments, tmp_path, folder, said, extra)
        copy.unlink()
    assert ask(books)["creates"] - before == _JOBS
    assert len(kept) > 1


def _go_on(arguments: list[str], cwd: Path, folder: Path, said: dict[str, str], extra: dict[str, str]) -> None:
    # Every part that the ledger told of before the power went is there, whole and under its name.
    for name, sha256 in said.items():
        assert hashlib.sha256((folder / "out" / name).read_bytes()).hexdigest() == sha256
    assert said.items() <= _acknowledged(folder / "state", "power").items()
    code, out, err = finish(start(arguments, cwd=cwd, **extra))
    assert code == 0, err
    assert report_of(out)["open"] == 0
    keys = [row["external_id"] for row in rows_in(folder / "out")]
    assert len(keys) == len(set(keys)) == _ROWS
    manifest = manifest_in(folder / "out")
    assert manifest["rows"] == _ROWS
    parts = {part["name"]: part["sha256"] for part in manifest["parts"]}
    files = {path.name: path for path in (folder / "out").glob("part-*")}
    assert parts == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    command("sync", "-f", str(folder))
