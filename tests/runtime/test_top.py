"""`engine top`: a run tells how far it is while it works, and nothing once it is over."""

from __future__ import annotations

import json
from pathlib import Path

from engine.cli.beacon import NAME, beacons
from tests.faults.injectors import write_pipeline, write_rows
from tests.runtime.process import engine, finish, standing_emulator, start


def test_a_run_is_seen_from_another_process(tmp_path: Path) -> None:
    """Its books so far, its process, and what sets its pace; after its end there is nothing to see."""
    write_rows(tmp_path, 100)
    pipeline = write_pipeline(tmp_path, "seen")
    with standing_emulator("--latency", "4s") as ready:
        process = start(["--set", f"platform.emulator.url={ready['url']}", "run", pipeline], cwd=tmp_path)
        beacon = tmp_path / ".engine" / "seen" / NAME
        while not beacon.exists():
            assert process.poll() is None
        code, out, err = engine(["top", "--json"], cwd=tmp_path)
        assert code == 0, err
        told = json.loads(out)
        assert (told["pipeline"], told["pid"], told["read"]) == ("seen", process.pid, 100)
        code, out, err = engine(["top", "--once", "seen"], cwd=tmp_path)
        assert (code, out.split()[0]) == (0, "PIPELINE"), err
        assert str(process.pid) in out
        code, _, err = finish(process)
        assert code == 0, err
    assert not beacon.exists()
    code, out, err = engine(["top", "--once"], cwd=tmp_path)
    assert (code, out, err.strip()) == (0, "", "no run works under this state directory")


def test_what_is_no_beacon_is_passed_over(tmp_path: Path) -> None:
    """Half a file, another document, and one of a process that has gone."""
    for name, text in (("a", b"{"), ("b", b"[]"), ("c", b'{"at": 1, "pipeline": "c"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / NAME).write_bytes(text)
    assert list(beacons(tmp_path)) == []
