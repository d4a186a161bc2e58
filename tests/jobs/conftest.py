"""A receiver on loopback and who calls it; a store that misbehaves, a platform that points at it, a client of both."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from anyio.lowlevel import checkpoint

from engine.client.client import Access, Client
from engine.clock import ManualClock, SystemClock
from engine.contract.exchange import Request, Response
from engine.events import CallbackReceived, Event
from engine.jobs.callback import Receiver, ReceiverDoor
from engine.settings import Secret
from engine.store.notices import Notice
from engine.transport.guard import Guard
from engine.transport.pooled import PooledTransport
from engine.trust.keyring import Keyring
from engine.trust.webhook import sign
from tests.client.conftest import JWKS, Platform
from tests.jobs.storage import Storage

JOB = "01HFXY0000000000000000000A"
TRACE = "0af7651916cd43dd8448eb211c80319c"
BODY = (
    f'{{"id":"{JOB}","kind":"intelligence.enrich.bulk","result_ref":"r2://argus-jobs/results/{JOB}.json",'
    f'"status":"succeeded","trace_id":"{TRACE}"}}'
).encode()
SECRET = Secret("test-partner-secret")


def signed(body: bytes = BODY, secret: Secret = SECRET, **more: str) -> dict[str, str]:
    """The headers of a callback that is signed as the contract says; `more` with underscores for dashes."""
    extra = {name.replace("_", "-"): value for name, value in more.items()}
    return {"X-Argus-Signature": sign(body, secret), "X-Argus-Job-ID": JOB, **extra}


def webhook(
    id: str, at_s: float, body: bytes = BODY, *, family: str = "webhook", key: bytes = b"test-partner-secret"
) -> dict[str, str]:
    """Standard Webhooks headers."""
    mac = hmac.digest(key, f"{id}.{at_s:.0f}.".encode() + body, hashlib.sha256)
    return {
        f"{family}-id": id,
        f"{family}-timestamp": f"{at_s:.0f}",
        f"{family}-signature": f"v1,{base64.b64encode(mac).decode()}",
    }


class Rung:
    """A receiver that is listening: what it was told, what it told, and a way to call it."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.path = path
        self.clock = clock
        self.told: list[Notice] = []
        self.events: list[Event] = []
        self.receiver: Any = None
        self._transport = PooledTransport()

    def notice(self, event: Event) -> None:
        """Be its observer."""
        self.events.append(event)

    @asynccontextmanager
    async def open(self, *secrets: Secret, **door: Any) -> AsyncIterator[Receiver]:
        """Start a receiver on the same file as before, as a restart would."""
        receiver = Receiver(
            secrets or (SECRET,),
            self.path,
            self.told.append,
            door=ReceiverDoor(**door),
            clock=self.clock,
            observer=self,
        )
        async with receiver:
            self.receiver = receiver
            yield receiver

    async def call(
        self,
        headers: Mapping[str, str],
        body: bytes | None = BODY,
        *,
        method: str = "POST",
        path: str = "/callbacks",
    ) -> Response:
        """Send one request to it."""
        origin = self.receiver.url.rpartition("/")[0]
        return await self._transport.send(Request(method, origin + path, dict(headers), body))

    def verdicts(self) -> list[str]:
        """What became of each call, in order."""
        return [event.verdict for event in self.events if isinstance(event, CallbackReceived)]

    async def aclose(self) -> None:
        await self._transport.aclose()


@pytest.fixture
async def rung(tmp_path: Path, anyio_backend: Any) -> AsyncIterator[Rung]:
    """A receiver's surroundings; open it as often as needed."""
    made = Rung(tmp_path / "notices.sqlite", ManualClock())
    yield made
    await made.aclose()


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
