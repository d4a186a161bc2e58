"""Poison: functions of the user's that raise, multiply or hang, and downloads that break or are cut short by death."""

from __future__ import annotations

import gzip
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Exit, RunFailed
from engine.pipeline.memory import BASELINE, MIB
from tests.runtime.conftest import Rig
from tests.runtime.process import ask, engine, finish, manifest_in, report_of, rows_in, standing_emulator, start

_FUNCTIONS = """
import threading
released = threading.Event()

def poisoned(rows):
    out = []
    for row in rows:
        if row["name"] == "raises":
            raise RuntimeError("no such city")
        if row["name"] == "many":
            out.extend([row] * 1_000_000)
        elif row["name"] == "unwritable":
            out.append({**row, "x": object()})
        elif row["name"] == "huge":
            out.append({**row, "x": "x" * 2_000_000})
        else:
            out.append(row)
    return out

def waits(rows):
    released.wait(60)
    return rows

def spins(rows):
    while True:
        pass
"""


@pytest.fixture
def functions(rig: Rig) -> Iterator[None]:
    """A module beside the pipeline, with functions nobody should write."""
    (rig.directory / "poison.py").write_text(_FUNCTIONS)
    yield
    import sys

    module = sys.modules.pop("poison", None)
    if module is not None:
        module.released.set()
    sys.path[:] = [folder for folder in sys.path if folder != str(rig.directory)]


def _write(rig: Rig, names: list[str]) -> None:
    lines = [f'{{"id":"r{n}","name":"{name}"}}\n' for n, name in enumerate(names)]
    (rig.directory / "in.ndjson").write_text("".join(lines))


@pytest.mark.anyio
async def test_f31_a_poison_record_is_a_letter_and_the_others_go_on(rig: Rig, functions: None) -> None:
    """Raising, a million records of one, what no JSON holds, what fits no job: each costs its record alone."""
    _write(rig, ["a", "raises", "b", "many", "c", "unwritable", "d", "huge", "e"])
    rig.text += '[[transform]]\ntype = "python"\ncall = "poison:poisoned"\n'
    report = await rig.run()
    assert (report.accepted, report.dead, report.open) == (5, 4, 0)
    letters = rig.ledger("SELECT line, code, reason FROM dead_letters ORDER BY line")
    assert [(line, code) for line, code, _ in letters] == [
        (2, "record.transform"), (4, "record.transform"), (6, "record.transform"), (8, "record.too_large"),
    ]  # fmt: skip
    said = [reason for _, _, reason in letters]
    assert said[0] == "poison:poisoned: RuntimeError: no such city"
    assert "made 1000000 records of 1" in said[1]
    assert "JSON" in said[2]


@pytest.mark.anyio
async def test_f31_a_function_that_hangs_ends_the_run_by_name(rig: Rig, functions: None) -> None:
    """After `timeout` the run says which function did not come back; nothing was sent, and the next run goes on."""
    rig.write(20)
    rig.text += '[[transform]]\ntype = "python"\ncall = "poison:waits"\ntimeout = "200ms"\n'
    with pytest.raises(RunFailed) as caught:
        await rig.run()
    assert caught.value.exit == Exit.CONFIGURATION
    assert "`poison:waits` has not come back" in caught.value.message
    assert rig.creates() == 0
    rig.text = rig.text.partition("[[transform]]")[0]
    report = await rig.run(fresh=True)
    assert (report.outcome, report.accepted) == ("done", 20)
    assert [thread.name for thread in threading.enumerate() if thread.name == "source" and not thread.daemon] == []


def test_f31_a_process_ends_although_its_function_never_does(tmp_path: Path) -> None:
    """A busy loop cannot be stopped, but it is left behind: the process says so and is gone."""
    (tmp_path / "poison.py").write_text(_FUNCTIONS)
    (tmp_path / "in.ndjson").write_text('{"id":"a","name":"b"}\n')
    (tmp_path / "p.toml").write_text(
        'version = 1\nname = "hang"\n[source]\ntype = "ndjson"\npaths = ["in.ndjson"]\nkey = "id"\n'
        '[[transform]]\ntype = "python"\ncall = "poison:spins"\ntimeout = "500ms"\n'
        '[job]\nkind = "intelligence.enrich.bulk"\n[sink]\ntype = "ndjson"\npath = "out"\n'
    )
    started = time.monotonic()
    code, _, err = engine(["run", "p.toml", "--quiet"], cwd=tmp_path)
    assert code == Exit.CONFIGURATION
    assert "poison:spins" in err
    assert "Traceback" not in err
    assert time.monotonic() - started < 30


# Downloads -----------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_t14_a_run_survives_connections_that_reset_every_hundred_kb(rig: Rig) -> None:
    """More breaks in one result than patience has tries: every row lands once, byte for byte."""
    emulator = await rig.emulate({"at": "result.rows", "pad": 10_000}, {"at": "result.body", "cut_after": 100_000})
    rig.replace("batch = { rows = 10 }", "batch = { rows = 300 }")
    rig.replace('status      = "str"\n', 'status      = "str"\npad         = "str"\n')
    rig.write(300)
    report = await rig.run()
    assert (report.outcome, report.accepted, report.parts) == ("done", 300, 1)
    assert len(rig.keys()) == len(set(rig.keys())) == 300
    assert {len(row["pad"]) for row in rig.rows()} == {10_000}
    _, bodies = emulator.state.faults.tally()
    assert bodies["struck"] > 20


@pytest.mark.anyio
async def test_f27_a_result_that_is_always_damaged_ends_in_letters_and_others_go_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read again and again, never taken for complete; then each of its rows is a letter that says why."""
    monkeypatch.setattr("engine.runtime.run._FETCH_TRIES", 3)
    emulator = await rig.emulate({"at": "result.body", "corrupt": True, "count": 3})
    rig.write(10)
    report = await rig.run()
    assert (report.accepted, report.dead, report.open) == (0, 10, 0)
    rig.write(30, first=10)
    assert (await rig.run()).accepted == 30
    assert emulator.state.faults.tally()[0]["struck"] == 3
    assert rig.ledger("SELECT DISTINCT stage, code FROM dead_letters") == [("result", "transport.broken")]


def test_f05_killed_in_the_middle_of_a_download_nothing_is_doubled(tmp_path: Path) -> None:
    """Killed while a large result is under way: what was written is swept, and the next run lands every row once."""
    faults = tmp_path / "faults.toml"
    faults.write_text('[[fault]]\nat = "result.rows"\npad = 20_000\n[[fault]]\nat = "result.body"\ndelay = "1ms"\n')
    with (tmp_path / "in.ndjson").open("w") as file:
        file.writelines(f'{{"id":"r{n}","name":"Row"}}\n' for n in range(5000))
    (tmp_path / "p.toml").write_text(
        'version = 1\nname = "large"\n[source]\ntype = "ndjson"\npaths = ["in.ndjson"]\nkey = "id"\n'
        '[job]\nkind = "import.bulk"\nbatch = { rows = 10_000 }\npoll = { first = "50ms", max = "500ms" }\n'
        '[job.payload]\nentity_type = "location"\nmapping = { id = "external_id", name = "label" }\n'
        '[sink]\ntype = "ndjson"\npath = "out"\n'
    )
    with standing_emulator("--faults", str(faults), "--latency", "20ms") as ready:
        (tmp_path / "config.toml").write_text(
            f'[platform]\nprofile = "emulator"\nclient_id = "{ready["client_id"]}"\n'
            f'[platform.emulator]\nurl = "{ready["url"]}"\n'
        )
        secret = {"ENGINE__PLATFORM__CLIENT_SECRET": ready["client_secret"]}
        process = start(["run", "p.toml", "--json", "--quiet"], cwd=tmp_path, **secret)
        out = tmp_path / "out"
        while not any(path.stat().st_size > 5 * MIB for path in out.glob(".part-*.tmp")):
            assert process.poll() is None, "it ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        finish(process)
        assert ask(ready["url"] + "/__emulator/faults")["faults"][1]["struck"] == 1
        assert not (out / "_manifest.json").exists()
        code, said, _ = engine(["run", "p.toml", "--json", "--quiet"], cwd=tmp_path, **secret)
    report = report_of(said)
    assert (code, report["read"], report["accepted"], report["open"]) == (0, 5000, 5000, 0)
    keys = [row["external_id"] for row in rows_in(out)]
    assert len(keys) == len(set(keys)) == 5000
    assert manifest_in(out)["rows"] == 5000
    assert list(out.glob(".*.tmp")) == []


def test_t13_an_input_that_is_a_bomb_is_a_line_too_long(tmp_path: Path) -> None:
    """300 MiB of one line out of 300 kB: one dead letter, and not a tenth of it in memory."""
    with gzip.open(tmp_path / "in.ndjson.gz", "wb", compresslevel=1) as file:
        file.write(b'{"id":"a","name":"N"}\n')
        for _ in range(300):
            file.write(bytes(MIB))
        file.write(b'\n{"id":"b","name":"N"}\n')
    (tmp_path / "p.toml").write_text(
        'version = 1\nname = "bomb"\n[source]\ntype = "ndjson"\npaths = ["in.ndjson.gz"]\nkey = "id"\n'
        'line_max = "16MiB"\n[job]\nkind = "import.bulk"\npoll = { first = "50ms", max = "500ms" }\n'
        '[job.payload]\nentity_type = "location"\nmapping = { id = "external_id", name = "label" }\n'
        '[sink]\ntype = "ndjson"\npath = "out"\n'
    )
    code, out, _ = engine(["run", "p.toml", "--json", "--quiet"], cwd=tmp_path)
    report: dict[str, Any] = report_of(out)
    assert (code, report["accepted"], report["dead"], report["open"]) == (0, 2, 1, 0)
    assert report["peak_mib"] < BASELINE / MIB + 40
