"""A real emulator with a client on it, and a scripted platform for what no honest one would answer."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from engine.client.client import Access, Client
from engine.clock import ManualClock, SystemClock
from engine.codec.payload import encode
from engine.contract.keys import KeySet
from engine.emulator.server import Emulator
from engine.emulator.state import Options
from engine.settings import Secret
from engine.transport.ageing import AgeingTransport
from engine.transport.incoming import Incoming, Outgoing
from engine.transport.listener import Listener
from engine.transport.pooled import PooledTransport
from engine.trust.keyring import Keyring
from engine.trust.minting import SigningKey

NOW_S = 1_778_241_600
JWKS = "/.well-known/jwks.json"


class Platform:
    """Signs tokens and answers by a table of `METHOD path` → answers in turn; the last one stays."""

    def __init__(self) -> None:
        self.seen: list[Incoming] = []
        self.script: dict[str, Any] = {}
        self.key = SigningKey.generate("k1")
        self.keys = [self.key]
        self.ttl_s: Any = 3600
        self.said_ttl: Any = 3600
        self.minted = 0
        self.now_s: Callable[[], float] = lambda: NOW_S

    async def _handle(self, incoming: Incoming) -> Outgoing:
        self.seen.append(incoming)
        what = f"{incoming.method} {incoming.path}"
        if what in self.script:
            answer = self.script[what]
            if isinstance(answer, list):
                answer = answer.pop(0) if len(answer) > 1 else answer[0]
            return answer(incoming) if callable(answer) else answer
        if what == f"GET {JWKS}":
            return as_json(encode(KeySet([key.public_jwk() for key in self.keys])))
        if what == "POST /v1/oauth/token":
            return self.token_answer()
        return Outgoing(status=404)

    def token(self, **claims: Any) -> str:
        self.minted += 1
        now = self.now_s()
        good = {
            "iss": self.url, "aud": "https://api.knogin.com", "sub": "app_1", "iat": now, "exp": now + self.ttl_s,
            "jti": str(self.minted),
        }  # fmt: skip
        return self.key.sign(good | claims, typ="at+jwt")

    def token_answer(self, **claims: Any) -> Outgoing:
        answer = {"access_token": self.token(**claims), "token_type": "Bearer", "expires_in": self.said_ttl}
        return as_json(answer)

    def asked(self, what: str) -> list[Incoming]:
        return [seen for seen in self.seen if f"{seen.method} {seen.path}" == what]

    async def start(self) -> None:
        self._listener = Listener(self._handle)
        await self._listener.start()
        self.url = self._listener.origin

    async def aclose(self) -> None:
        await self._listener.aclose()


def as_json(value: Any, status: int = 200, **headers: str) -> Outgoing:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Outgoing(status=status, headers={"Content-Type": "application/json"} | headers, body=body)


@pytest.fixture
def answer_json():
    return as_json


async def _running(server):
    await server.start()
    return server


@pytest.fixture
async def platform():
    platform = await _running(Platform())
    yield platform
    await platform.aclose()


@pytest.fixture
async def elsewhere():
    platform = await _running(Platform())
    yield platform
    await platform.aclose()


@pytest.fixture
def clock():
    return ManualClock(now_ns=NOW_S * 10**9)


@pytest.fixture
async def transport():
    transport = PooledTransport()
    yield transport
    await transport.aclose()


@pytest.fixture
def scripted(platform, transport, clock):
    """A client of the scripted platform."""
    access = Access(
        auth_url=platform.url, api_url=platform.url, docs_url=platform.url, issuer=platform.url, client_id="app_1",
        client_secret=Secret("s3cr3t"), scopes=("argus:jobs:read",),
    )  # fmt: skip
    keyring = Keyring(platform.url + JWKS, transport, clock)
    return Client(transport, access, clock=clock, keyring=keyring)


@pytest.fixture
async def emulator(anyio_backend):
    async with Emulator(Options(latency_s=0.01)) as emulator:
        yield emulator


@pytest.fixture
def client_of(transport):
    """A client of an emulator, as the assembly would make it."""

    def make(emulator, *, observer=None, **more):
        clock = SystemClock()
        access = Access(
            **{
                "auth_url": emulator.base_url, "api_url": emulator.base_url, "sandbox_url": emulator.sandbox_url,
                "docs_url": emulator.base_url, "issuer": emulator.base_url, "client_id": emulator.client_id,
                "client_secret": Secret(emulator.client_secret),
            }
            | more
        )  # fmt: skip
        keyring = Keyring(emulator.base_url + JWKS, transport, clock)
        line = transport if observer is None else AgeingTransport(transport, observer, clock)
        return Client(line, access, clock=clock, keyring=keyring)

    return make
