"""A real emulator on free loopback ports, in this process, and a caller that speaks plain HTTP to it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from engine.emulator.server import Emulator
from engine.transport.incoming import Incoming, Outgoing
from engine.transport.listener import Listener


class Answer:
    """One whole answer. Header names in any case."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Caller:
    """Asks an emulator over real connections. `sandbox=True` asks the sandbox origin."""

    def __init__(self, emulator: Emulator, session: aiohttp.ClientSession) -> None:
        self._emulator = emulator
        self._session = session

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        sandbox: bool = False,
        headers: dict[str, str] | None = None,
        **body: Any,
    ) -> Answer:
        """`json=`, `data=` or `params=` as aiohttp takes them. Follows no redirect."""
        origin = self._emulator.sandbox_url if sandbox else self._emulator.base_url
        sent = {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})}
        async with self._session.request(method, origin + path, headers=sent, allow_redirects=False, **body) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def token(self, client_id: str = "app_local", secret: str = "emulator-secret", **members: str) -> str:
        """An access token by client credentials."""
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret, **members}
        answer = await self.send("POST", "/v1/oauth/token", data=form)
        assert answer.status == 200, answer.body
        return answer.json["access_token"]

    async def sandbox_token(self, *scenarios: str, client_id: str = "app_local") -> str:
        """A sandbox token with these scenarios pinned."""
        wish = {"scenarios": list(scenarios)} if scenarios else {}
        path = f"/v1/platform/apps/{client_id}/sandbox-token"
        answer = await self.send("POST", path, token=await self.token(client_id), json=wish)
        assert answer.status == 200, answer.body
        return answer.json["token"]


@pytest.fixture
async def start(anyio_backend: Any) -> AsyncIterator[Callable[..., Any]]:
    """Begin an emulator with arguments of one's own; what comes back is it and its caller."""
    async with AsyncExitStack() as stack:

        async def begin(*args: Any, **kwargs: Any) -> tuple[Emulator, Caller]:
            emulator = await stack.enter_async_context(Emulator(*args, **kwargs))
            session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
            return emulator, Caller(emulator, session)

        yield begin


@pytest.fixture
async def emulator(anyio_backend: Any) -> AsyncIterator[Emulator]:
    """An emulator in memory; `base_url`, `sandbox_url`, `state`, `client_id`, `client_secret`."""
    async with Emulator() as running:
        yield running


@pytest.fixture
async def api(emulator: Emulator) -> AsyncIterator[Caller]:
    """A caller of `emulator`."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        yield Caller(emulator, session)


class Receiver:
    """An integrator's endpoint: keeps what comes, answers what it is told to, 204 when it is told nothing."""

    def __init__(self) -> None:
        self.got: asyncio.Queue[Incoming] = asyncio.Queue()
        self.answers: list[Outgoing] = []
        self._listener = Listener(self._take)
        self.url = ""

    async def start(self) -> None:
        await self._listener.start()
        self.url = f"{self._listener.origin}/hook"

    async def aclose(self) -> None:
        await self._listener.aclose()

    async def next(self) -> Incoming:
        return await asyncio.wait_for(self.got.get(), 20)

    async def _take(self, incoming: Incoming) -> Outgoing:
        self.got.put_nowait(incoming)
        return self.answers.pop(0) if self.answers else Outgoing(status=204)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on loopback."""
    made = Receiver()
    await made.start()
    yield made
    await made.aclose()
