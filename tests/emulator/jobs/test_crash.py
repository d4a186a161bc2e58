"""kill -9 at any moment: every job that was answered 201 is there afterwards, and is done exactly once."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from engine.emulator.state import Options

pytestmark = pytest.mark.anyio

PROGRAM = """
import sys
from engine.emulator.process import ServeOptions, serve
from engine.emulator.state import Options
serve(ServeOptions(options=Options(state_path=sys.argv[1], latency_s=0.05), stop_on_stdin_eof=True))
"""
IMPORT = "import.bulk"
JOB_ROWS = 2000


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Start an emulator process on the test's state file; it is killed by its id if it still runs."""
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "state.db")]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        started.append(process)
        return process, json.loads(process.stdout.readline())

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def import_of(number: int) -> dict[str, Any]:
    """One job of rows that no other job has."""
    inline = [{"external_id": f"j{number}-{row}"} for row in range(JOB_ROWS)]
    return {"kind": IMPORT, "payload": {"source": {"inline": inline}, "entity_type": "place"}}


@pytest.mark.parametrize("answered", [1, 3, 6])
async def test_what_was_answered_survives(launch, start, connect, tmp_path, answered) -> None:
    """After so many creates the process is killed, perhaps inside a job; the next one does all of them once."""
    process, ready = launch()
    ids = []
    async with aiohttp.ClientSession(ready["url"]) as session:
        form = {
            "grant_type": "client_credentials", "client_id": ready["client_id"],
            "client_secret": ready["client_secret"],
        }  # fmt: skip
        async with session.post("/v1/oauth/token", data=form) as answer:
            token = (await answer.json())["access_token"]
        for number in range(answered):
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"k{number}"}
            async with session.post("/v1/jobs", json=import_of(number), headers=headers) as answer:
                assert answer.status == 201
                ids.append((await answer.json())["id"])
        process.kill()
    process.wait()

    emulator, api = await start(Options(state_path=str(tmp_path / "state.db"), latency_s=0.01))
    client = await connect(api)
    ends = [await client.end(job_id) for job_id in ids]
    results = [await client.result(job_id) for job_id in ids]
    again = await client.ask("POST", "/v1/jobs", json=import_of(0), headers={"Idempotency-Key": f"k{answered - 1}"})
    while emulator.state.db.execute("SELECT 1 FROM redo").fetchone():
        # The last effects are certain already, and being written.
        await client.get(ids[-1])

    assert [job["status"] for job in ends] == ["succeeded"] * answered
    assert [result["summary"]["created"] for result in results] == [JOB_ROWS] * answered
    assert (again.status, again.json["id"]) == (200, ids[-1])
    assert emulator.state.db.execute("SELECT COUNT(*) FROM entities").fetchone() == (answered * JOB_ROWS,)
    assert (await client.ask("GET", "/__emulator/books")).json["creates"] == answered
