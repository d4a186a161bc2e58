"""The platform, opened: transports nested, lanes, budget, keys and a client, for a run or for one question.

What is sent through it is for others to decide; where it is and as whom we speak there is `access`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from engine.access import as_person, open_access, person_login
from engine.client.client import Access, Client
from engine.client.person import current_login
from engine.clock import SystemClock
from engine.contract.catalog import route_of
from engine.contract.exchange import Request
from engine.contract.keys import WELL_KNOWN
from engine.errors import ConnectFailed
from engine.jobs.laned import LanedTransport
from engine.jobs.lanes import Lanes
from engine.pipeline.spec import PollSpec
from engine.ports import Clock, Observer, Transport
from engine.settings import Settings
from engine.telemetry.tee import Tee
from engine.transport.ageing import AgeingTransport
from engine.transport.choosing import open_transport
from engine.transport.descriptors import connections_that_fit
from engine.transport.guard import Guard
from engine.transport.limiting import Budget, LimitingTransport
from engine.transport.patience import Patience
from engine.transport.retry_budget import RetryBudget
from engine.transport.retrying import RetryingTransport, Waiting
from engine.transport.traced import TracedTransport
from engine.trust.keyring import Keyring

_REACH_TRIES = 3
_EMULATOR_POLL = PollSpec(first=0.1, max=5.0, factor=1.5)
_VENDOR_POLL = PollSpec()


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """A platform to talk to: a client, what a human calls it, how often it likes to be asked, and its lanes.

    `patience` is what an outage of it is waited out with.
    """

    client: Client
    description: str
    poll: PollSpec
    lanes: Lanes
    patience: Patience


@asynccontextmanager
async def open_platform(
    settings: Settings, *, observer: Observer, clock: Clock, patience_s: float = 0.0, person: Access | None = None
) -> AsyncIterator[Platform]:
    """The platform of the chosen profile; an emulator is started where none is named, and ends with the block.

    With `person`, that access instead. For single questions an outage is a failure after a few tries; a run waits it
    out for `patience_s`.

    Raises:
        ConfigError: the profile lacks something. StateError: the emulator did not start.
    """
    async with AsyncExitStack() as stack:
        access, description = (person, "as a person") if person else await open_access(settings, stack)
        is_emulator = settings.platform.profile == "emulator"
        concurrency, patience = settings.platform.limits.concurrency, Patience(clock, patience_s)
        opening = partial(open_transport, settings.platform.transport)
        access = msgspec.structs.replace(access, patience=patience)
        fitting = connections_that_fit(concurrency * 3, observer=observer)
        lanes = Lanes(concurrency=min(concurrency, fitting), clock=clock, patience=patience, observer=observer)
        # Two more than the lanes hold: for tokens and keys, which everything else waits for.
        pool = opening(concurrency=max(min(concurrency, fitting - fitting // 3), 3) + 2)
        budget = Budget(clock, requests=settings.platform.requests_per_s, observer=observer)
        aged = AgeingTransport(TracedTransport(pool, observer, clock), observer, clock)
        laned = LanedTransport(aged, lanes, budget)
        waiting = Waiting(patience, lambda route: patience_s > 0 and lanes.of(route) is not None)
        # After an outage each request that was under way is due once more: the floor has room for all of them.
        transport = RetryingTransport(laned, clock, waiting=waiting, budget=RetryBudget(floor=max(10, concurrency)))
        hosts = frozenset((urlsplit(access.api_url).netloc,)) if is_emulator else frozenset()
        store = opening(concurrency=min(concurrency, fitting // 3 or 1), guard=Guard(allowed_hosts=hosts))
        # Signed URLs lead to a store that has its own limits: nothing of the account's is spent there.
        traced = TracedTransport(store, observer, clock)
        downloads = LimitingTransport(traced, Budget(clock, observer=observer))
        stack.push_async_callback(transport.aclose)
        stack.push_async_callback(downloads.aclose)
        await _reach(access.auth_url + WELL_KNOWN.path, TracedTransport(pool, observer, clock), clock)
        keyring = Keyring(access.auth_url + WELL_KNOWN.path, transport, clock, observer=observer)
        client = Client(transport, access, clock=clock, keyring=keyring, downloads=downloads)
        poll = _EMULATOR_POLL if is_emulator else _VENDOR_POLL
        yield Platform(client=client, description=description, poll=poll, lanes=lanes, patience=patience)


async def _reach(url: str, transport: Transport, clock: Clock) -> None:
    """Say within seconds that a host cannot be reached: patience is for outages in the middle of a run.

    Raises:
        ConnectFailed: nothing answers there.
    """
    for tries in range(1, _REACH_TRIES + 1):
        try:
            await transport.send(Request("GET", url, {}, route=WELL_KNOWN.name, template=WELL_KNOWN.path))
        except ConnectFailed:
            if tries == _REACH_TRIES:
                raise
            await clock.sleep(0.2 * tries)
        else:
            return


async def call_route(
    settings: Settings, name: str, members: Mapping[str, Any], *, observer: Observer | None = None
) -> Any:
    """Ask one route by its name; members and answer are plain data. `observer` hears what happens on the way.

    Raises:
        EngineError: as `Client.ask`.
    """
    asked = msgspec.structs.replace(settings.platform, scopes=route_of(name).scopes or settings.platform.scopes)
    settings = msgspec.structs.replace(settings, platform=asked)
    clock, person = SystemClock(), None
    if found := person_login(settings):
        access, login = found
        person = as_person(access, await current_login(access, login, Path(settings.state_dir), clock))
    observers = () if observer is None else (observer,)
    async with open_platform(settings, observer=Tee(observers), clock=clock, person=person) as platform:
        return await platform.client.ask(name, members)
