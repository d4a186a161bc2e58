"""F13 and F14: the issuer's key set is away, or is replaced, while a client and a run are at work."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.client.client import Client
from engine.emulator.faults import Faults
from engine.emulator.server import Emulator
from engine.emulator.state import Options
from engine.events import Event, JobSubmitted
from engine.platform import open_platform
from engine.settings import EmulatorSettings, Platform, Settings
from tests.faults.conftest import Ears, Stepped
from tests.runtime.conftest import Rig

pytestmark = pytest.mark.anyio

_OUTAGES: dict[str, dict[str, Any]] = {
    "503": {"status": 503},
    "closed": {"drop": True},
    "hang": {"delay": "30s"},
    "garbage": {"garbage": True},
}


@asynccontextmanager
async def _client(clock: Stepped, ears: Ears, tmp_path: Path, *faults: dict[str, Any]) -> AsyncIterator[Any]:
    """An emulator and a client that live by the same clock."""
    async with Emulator(Options(seed=1), faults=Faults(faults, seed=1), clock=clock) as emulator:
        settings = Settings(
            state_dir=str(tmp_path), platform=Platform(emulator=EmulatorSettings(url=emulator.base_url))
        )
        async with open_platform(settings, observer=ears, clock=clock) as platform:
            yield emulator, platform.client


async def _ask(client: Client) -> None:
    assert (await client.jobs.list(limit=1)).answer.jobs == []


@pytest.mark.parametrize("outage", _OUTAGES)
async def test_f13_the_last_good_keys_serve_through_an_outage(
    ears: Ears, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outage: str
) -> None:
    """Ten minutes and more without a key set: new tokens are still verified with the last good one, and it is said."""
    monkeypatch.setattr("engine.trust.keyring.TIMEOUT_S", 0.3)
    clock = Stepped()
    fault = {"at": "jwks", "after": 2, **_OUTAGES[outage]}
    async with _client(clock, ears, tmp_path, fault) as (emulator, client):
        await _ask(client)
        tokens = emulator._dispatch.requests["oauth.token"]
        for _ in range(2):
            clock.skip(3590)
            await _ask(client)
        # A connection that was closed under a GET is tried once more by the HTTP library itself.
        assert emulator.state.faults.tally()[0]["struck"] in (2, 3, 4)
        assert emulator._dispatch.requests["oauth.token"] == tokens + 2
        assert ears.codes() == ["trust.stale_keys"] * 2
        assert "last good one serves on" in ears.said("trust.stale_keys")[0]
        emulator.state.faults._at.clear()
        clock.skip(3590)
        await _ask(client)
        assert len(ears.codes()) == 2
        assert emulator._dispatch.statuses.get(401) is None


async def test_f14_a_rotation_with_overlap_is_not_noticed(ears: Ears, tmp_path: Path) -> None:
    """The next key was published before it signed: no refusal, no warning, at most one more fetch."""
    clock = Stepped()
    async with _client(clock, ears, tmp_path) as (emulator, client):
        await _ask(client)
        first, fetched = emulator.keys.signer.kid, emulator._dispatch.requests["keys.well_known"]
        emulator.keys.rotate()
        await _ask(client)
        clock.skip(3000)
        await _ask(client)
        assert emulator.keys.signer.kid != first
        assert emulator._dispatch.requests["oauth.token"] == 2
        assert emulator._dispatch.requests["keys.well_known"] <= fetched + 1
        assert emulator._dispatch.statuses.get(401) is None
        assert ears.codes() == []


async def test_f14_a_rotation_nobody_announced_costs_one_fetch(ears: Ears, tmp_path: Path) -> None:
    """All keys are replaced at once: the old token is refused once, the new key is found by one fetch."""
    async with _client(Stepped(), ears, tmp_path) as (emulator, client):
        await _ask(client)
        fetched = emulator._dispatch.requests["keys.well_known"]
        emulator.keys.rotate(with_overlap=False)
        await _ask(client)
        await _ask(client)
        assert emulator._dispatch.statuses[401] == 1
        assert emulator._dispatch.requests["oauth.token"] == 2
        assert emulator._dispatch.requests["keys.well_known"] == fetched + 1


class _Rotate:
    """Rotates the platform's keys at the third submitted job, so that tokens are in use."""

    def __init__(self, rig: Rig, *, with_overlap: bool) -> None:
        self._rig, self._with_overlap = rig, with_overlap
        self._left = 3
        self.rotations = 0

    def notice(self, event: Event) -> None:
        if isinstance(event, JobSubmitted):
            self._left -= 1
            if self._left == 0:
                self._rig.emulator.keys.rotate(with_overlap=self._with_overlap)
                self.rotations += 1


@pytest.mark.parametrize("with_overlap", [True, False])
async def test_f14_keys_are_rotated_in_the_middle_of_a_run(rig: Rig, with_overlap: bool) -> None:
    """The run ends as without it; without overlap each request under way is refused once at most, by one new token."""
    emulator = await rig.emulate(latency_s=0.3)
    rig.write(200)
    rotate = _Rotate(rig, with_overlap=with_overlap)
    report = await rig.run(observer=rotate)
    assert rotate.rotations == 1
    assert (report.outcome, report.accepted) == ("done", 200)
    assert rig.creates() == 20
    refused = emulator._dispatch.statuses.get(401, 0)
    assert (refused == 0) if with_overlap else (1 <= refused <= 32)
    assert emulator._dispatch.requests["oauth.token"] == (1 if with_overlap else 2)
    assert emulator._dispatch.requests["keys.well_known"] == (2 if with_overlap else 3)
