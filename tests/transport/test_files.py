"""F11: no file descriptor left for a connection; time heals that, so it is waited for like any outage."""

from __future__ import annotations

import resource

import anyio
import pytest

from engine.clock import ManualClock
from engine.contract.exchange import Request
from engine.errors import ConnectFailed
from engine.transport.patience import Patience
from engine.transport.retrying import RetryingTransport, Waiting

pytestmark = pytest.mark.anyio


class HealingClock(ManualClock):
    """At the fourth nap somebody has closed some files."""

    def __init__(self) -> None:
        super().__init__()
        self.naps = 0
        self.limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def exhaust(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, self.limits[1]))

    def heal(self) -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, self.limits)

    async def sleep(self, seconds: float) -> None:
        self.naps += 1
        if self.naps == 4:
            self.heal()
        self.advance(seconds)
        await anyio.lowlevel.checkpoint()


async def test_f11_too_many_open_files_is_waited_out(server, open_wire) -> None:
    """A request that finds no descriptor is tried again, in growing pauses, until there is one; even a bare POST."""
    clock = HealingClock()
    wire = open_wire()
    waiting = Waiting(Patience(clock, 600), lambda route: route == "patient")
    retrying = RetryingTransport(wire, clock, waiting=waiting, seed=1)
    clock.exhaust()
    try:
        with pytest.raises(ConnectFailed):
            await wire.send(Request("GET", server.url, {}))
        response = await retrying.send(Request("POST", server.url, {}, b"{}", route="patient"))
    finally:
        clock.heal()
        await wire.aclose()
    assert (response.body, len(server.seen)) == (b"ok", 1)
    assert clock.naps == 4
    assert clock.monotonic() > 0
