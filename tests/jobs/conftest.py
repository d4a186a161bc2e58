"""A misbehaving store, a platform that points at it, and a client of both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from engine.client.client import Access, Client
from engine.clock import SystemClock
from engine.settings import Secret
from engine.transport.guard import Guard
from engine.transport.pooled import PooledTransport
from engine.trust.keyring import Keyring
from tests.client.conftest import JWKS, Platform
from tests.jobs.storage import Storage


class Hurried(SystemClock):
    """The machine's clock, but nobody really waits; how long they would have is written down."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await checkpoint()


@pytest.fixture
def hurried() -> Hurried:
    return Hurried()


@pytest.fixture
async def storage(anyio_backend: Any) -> AsyncIterator[Storage]:
    async with Storage() as storage:
        yield storage


@pytest.fixture
async def platform(anyio_backend: Any) -> AsyncIterator[Platform]:
    platform = Platform()
    await platform.start()
    yield platform
    await platform.aclose()


@pytest.fixture
async def client(platform: Platform, storage: Storage, hurried: Hurried) -> AsyncIterator[Client]:
    """A client of the platform; of all hosts that are not public, it may fetch from the store alone."""
    platform.now_s = lambda: hurried.now_ns() / 1e9
    transport = PooledTransport()
    downloads = PooledTransport(guard=Guard(allowed_hosts=frozenset((storage.host,))))
    access = Access(
        auth_url=platform.url, api_url=platform.url, issuer=platform.url, client_id="app", client_secret=Secret("s"),
        scopes=("argus:jobs:read",),
    )  # fmt: skip
    keyring = Keyring(platform.url + JWKS, transport, hurried)
    yield Client(transport, access, clock=hurried, keyring=keyring, downloads=downloads)
    await transport.aclose()
    await downloads.aclose()
