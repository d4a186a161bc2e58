"""`engine run` as its users start it: a process, an emulator of its own, signals, the JSON line."""

import asyncio
import json
import os
import signal

import pytest

from engine.cli.run import listen
from engine.errors import Exit
from engine.runtime.drain import StopFlag

COUNTS = ("read", "accepted", "rejected", "dead", "filtered", "open")


def _last(text: str) -> dict:
    return json.loads(text.splitlines()[-1])


def test_a_run_ends_with_its_books_as_json(spawn, folder) -> None:
    """With --json stdout is one object that balances; a second run says plainly that nothing is new."""
    out, told = spawn("run", "people.toml", "--json").communicate(timeout=100)
    again, _ = spawn("run", "people.toml", "--json", "--quiet").communicate(timeout=100)

    first, second = json.loads(out), json.loads(again)
    assert [first[name] for name in COUNTS] == [25, 25, 0, 0, 0, 0]
    assert (first["pipeline"], first["outcome"], first["jobs"], first["parts"]) == ("people", "done", 3, 1)
    assert {"run_id", "requests", "seconds"} <= set(first)
    assert "platform  emulator, http://127.0.0.1:" in told
    assert second["outcome"] == "nothing_new"


def test_the_report_is_for_humans_on_stdout(spawn) -> None:
    """Without --json the report says the equation, the traffic, the manifest and what to type next."""
    process = spawn("run", "people.toml", "--limit", "5")
    out, _ = process.communicate(timeout=100)

    assert process.returncode == 0
    assert "5 rows in = 5 accepted + 0 rejected + 0 dead-lettered + 0 filtered      balanced" in out
    assert "1 job " in out
    assert "_manifest.json (1 part)" in out
    assert "engine runs show " in out


def test_one_signal_stops_cleanly(spawn, folder) -> None:
    """SIGINT once: the run says so, exits 75, and its open rows are in the JSON line."""
    process = spawn("--set", "platform.emulator.latency=10m", "run", "people.toml", "--json")
    for line in process.stderr:
        if "resume" in line:
            break
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=60)

    ended = _last(out)
    assert process.returncode == Exit.INTERRUPTED
    assert "stopping" in told
    assert ended["outcome"] == "interrupted"
    assert ended["read"] == sum(ended[name] for name in COUNTS[1:])


def test_the_first_failure_ends_a_sequence(spawn, folder) -> None:
    """Several files run in order; one that fails is named, and the next is not started."""
    (folder / "b.toml").write_text(
        (folder / "people.toml").read_text().replace("people.ndjson", "absent.ndjson").replace('"people"', '"b"')
    )
    process = spawn("run", "b.toml", "people.toml", "--json")
    out, told = process.communicate(timeout=100)

    assert process.returncode == Exit.INPUT
    assert "not run: people.toml" in told
    assert [json.loads(line)["pipeline"] for line in out.splitlines()] == ["b"]
    assert _last(out)["error"]["code"] == "input.unreadable"


@pytest.mark.anyio
async def test_two_signals_cancel() -> None:
    """The first signal only asks; the second cancels the run's task, wherever it stands."""
    stop = StopFlag()

    async def run() -> None:
        restore = listen(stop, None)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await stop.wait()
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            restore()

    task = asyncio.create_task(run())
    with pytest.raises(asyncio.CancelledError):
        await task

    assert stop.is_set
    assert task.cancelled()
