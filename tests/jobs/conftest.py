"""A receiver on loopback, and a platform that calls it: well, badly, or not at all like one."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.clock import ManualClock
from engine.contract.exchange import Request, Response
from engine.events import CallbackReceived, Event
from engine.jobs.callback import Receiver, ReceiverDoor
from engine.settings import Secret
from engine.store.notices import Notice
from engine.transport.pooled import PooledTransport
from engine.trust.webhook import sign

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
