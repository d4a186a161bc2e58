"""F20: a name that does not resolve and a host that cannot prove itself, in whole runs that are processes."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.emulator.server import Emulator
from engine.emulator.state import Options
from engine.transport.incoming import Incoming, Outgoing
from tests.faults.front import ADDRESS, Front, Names
from tests.faults.injectors import command, needs, needs_root, write_pipeline, write_rows
from tests.faults.rewriting import rewrite
from tests.runtime.process import environment, report_of, rows_in

pytestmark = pytest.mark.anyio

_ROWS = 200
_JOBS = 20
_AT_ONCE = 34  # Requests that may meet a bad certificate together; none of them comes back.
_DNS = ("NXDOMAIN", "SERVFAIL", "silent")
_TLS = ("expired", "another's name", "unknown authority")
_UNRESOLVED = "name could not be resolved"
_UNPROVEN = "certificate or TLS was not accepted"


class _Road:
    """An emulator behind a TLS front, under a name that only a name server of ours knows."""

    def __init__(self, emulator: Emulator, names: Names, front: Front, directory: Path) -> None:
        self.emulator, self.names, self.front, self.directory = emulator, names, front, directory
        emulator.base_url = emulator.state.base_url = emulator._listeners[0].origin = front.url
        (directory / "resolv.conf").write_text(f"nameserver {ADDRESS}\noptions timeout:1 attempts:1\n")
        write_rows(directory, _ROWS)
        self.pipeline = write_pipeline(directory, "named")

    async def start(self, **extra: str) -> asyncio.subprocess.Process:
        """A run that asks our name server and trusts our authority."""
        script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        words = [needs("unshare", "util-linux"), "-m", "sh", "-c", script, str(self.directory / "resolv.conf")]
        ours = {
            **environment(),
            "ENGINE__PLATFORM__EMULATOR__URL": self.front.url,
            "SSL_CERT_FILE": str(self.front.authority),
            **extra,
        }
        return await asyncio.create_subprocess_exec(
            *words, sys.executable, "-m", "engine", "run", self.pipeline, "--json",
            cwd=self.directory, env=ours, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    async def run(self, **extra: str) -> tuple[int | None, str, str]:
        """A run to its end: exit code, stdout, stderr."""
        return await _end(await self.start(**extra))

    async def make_ill(self, mood: str) -> None:
        """From now on: a name server, or a front, of this mood."""
        if mood in _DNS:
            self.names.mood, self.names.asked = mood, 0
        await self.front.show("gone" if mood in _DNS else mood)

    async def repair(self) -> None:
        """All is well again."""
        self.names.mood = "good"
        await self.front.show("good")

    def creates(self) -> int:
        """How many jobs the platform ever made."""
        return int(self.emulator.state.db.execute("SELECT count(*) FROM jobs").fetchone()[0])

    def fall_ill_after(self, creates: int, mood: str) -> asyncio.Event:
        """Be of this mood as soon as so many jobs were made; set when it is."""
        is_ill = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        async def fall() -> None:
            await self.make_ill(mood)
            is_ill.set()

        def look(incoming: Incoming, outgoing: Outgoing) -> None:
            if not tasks and self.creates() >= creates:
                tasks.append(asyncio.get_running_loop().create_task(fall()))

        rewrite(self.emulator, look)
        return is_ill

    def check(self, code: int | None, out: str, err: str) -> None:
        """All rows once, each job once."""
        assert code == 0, err
        report = report_of(out)
        assert (report["outcome"], report["accepted"], report["dead"], report["open"]) == ("done", _ROWS, 0, 0)
        keys = [row["external_id"] for row in rows_in(self.directory / "out")]
        assert len(keys) == len(set(keys)) == _ROWS
        assert self.creates() == _JOBS


async def _end(process: asyncio.subprocess.Process) -> tuple[int | None, str, str]:
    out, err = await asyncio.wait_for(process.communicate(), 90)
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
def may_mount() -> None:
    """Skip where the resolver's file of one process cannot be replaced."""
    needs_root()
    done = command(
        needs("unshare", "util-linux"), "-m", "mount", "--bind", "/dev/null", "/etc/resolv.conf", check=False
    )
    if done.returncode:
        pytest.skip(f"needs mount namespaces: {done.stderr.strip()}")


@pytest.fixture
async def road(may_mount: None, tmp_path: Path, anyio_backend: Any) -> AsyncIterator[_Road]:
    """All is well at first."""
    loop = asyncio.get_running_loop()
    transport, names = await loop.create_datagram_endpoint(Names, local_addr=(ADDRESS, 53))
    async with Emulator(Options(latency_s=0.5, seed=1)) as emulator:
        front = Front(tmp_path, int(emulator.base_url.rpartition(":")[2]))
        await front.show("good")
        yield _Road(emulator, names, front, tmp_path)
        await front.aclose()
    transport.close()


@pytest.mark.parametrize("mood", _DNS)
async def test_f20_a_name_that_does_not_resolve_is_said_at_the_start(road: _Road, mood: str) -> None:
    """Unknown, refused or unanswered: asked a few times, exit 7 in words about the name; repaired, all goes through."""
    await road.make_ill(mood)
    code, _, err = await road.run()
    assert code == 7, err
    assert _UNRESOLVED in err
    assert road.names.asked >= 3
    assert road.creates() == 0
    await road.repair()
    road.check(*await road.run())


@pytest.mark.parametrize("mood", _TLS)
async def test_f20_a_host_that_cannot_prove_itself_is_asked_once(road: _Road, mood: str) -> None:
    """Expired, another's, unknown: one handshake, no second; exit 7 in words about the certificate, then as before."""
    await road.make_ill(mood)
    code, _, err = await road.run()
    assert code == 7, err
    assert _UNPROVEN in err
    assert "SSL_CERT_FILE" in err
    assert road.front.met == 1
    assert road.creates() == 0
    await road.repair()
    road.check(*await road.run())


async def test_f20_a_handshake_that_is_dropped_is_tried_again(road: _Road) -> None:
    """A reset within the handshake says nothing about the host: a few tries, exit 7, then as before."""
    await road.make_ill("dropped")
    code, _, err = await road.run()
    assert code == 7, err
    assert _UNPROVEN not in err
    assert road.front.met >= 3
    await road.repair()
    road.check(*await road.run())


@pytest.mark.parametrize("mood", [*_DNS, *_TLS, "dropped"])
async def test_f20_a_run_that_loses_its_way_is_taken_up_again(road: _Road, mood: str) -> None:
    """The name or the certificate goes bad while jobs are under way: exit 7, nothing lost, and the next run ends it."""
    is_ill = road.fall_ill_after(3, mood)
    code, out, err = await road.run(ENGINE__PLATFORM__PATIENCE="1s")
    assert is_ill.is_set()
    assert code == 7, err
    assert json.loads(out.splitlines()[-1])["dead"] == 0
    assert road.creates() <= _JOBS
    assert mood not in _TLS or 1 <= road.front.met <= _AT_ONCE
    await road.repair()
    road.check(*await road.run())


async def test_f20_a_name_that_resolves_again_is_waited_for(road: _Road) -> None:
    """The name server loses the name in the middle of a run and finds it again: the same run ends, with everything."""
    is_ill = road.fall_ill_after(3, "NXDOMAIN")
    process = await road.start()
    await asyncio.wait_for(is_ill.wait(), 30)
    await asyncio.wait_for(road.names.persisted.wait(), 60)
    assert process.returncode is None
    await road.repair()
    road.check(*await _end(process))
