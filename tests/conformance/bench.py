"""Bench: a platform under test, asked through the typed client and through plain HTTP.

`Bench` is one place to ask (live or sandbox) as one tenant. It knows no route: what a question needs to exist first is
`setups`, and what has to hold is the tests'.
"""

import os
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from engine.client.client import Access, Client
from engine.clock import SystemClock
from engine.contract.catalog import EXAMPLES, ROUTES
from engine.contract.exchange import Trace
from engine.contract.route import Host, Route, Wire, lay_out
from engine.contract.sandbox import MINT
from engine.emulator.server import Emulator
from engine.emulator.state import Options
from engine.settings import Secret
from engine.transport.pooled import PooledTransport
from engine.trust.keyring import Keyring
from tests.conformance.setups import SETUPS

PREFIX = "ENGINE_CONFORMANCE_"
JWKS = "/.well-known/jwks.json"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where the platform is, and the apps that ask it: one with every scope, and one of another tenant."""

    auth_url: str
    api_url: str
    client_id: str
    client_secret: str
    sandbox_url: str | None = None
    docs_url: str | None = None
    issuer: str | None = None
    redirect_uri: str = "http://127.0.0.1/callback"
    other_client_id: str | None = None
    other_client_secret: str | None = None


class Unfit(Exception):
    """The target is not described well enough to be tested; the message says what to set."""


def target_of(environment: Mapping[str, str]) -> Target | None:
    """The target that the environment names, None when it names none.

    Raises:
        Unfit: a variable is missing, or is none of ours.
    """
    given = {name.removeprefix(PREFIX).lower(): text for name, text in environment.items() if name.startswith(PREFIX)}
    if not given:
        return None
    fields = msgspec.structs.fields(Target)
    if strange := sorted(set(given) - {field.name for field in fields}):
        raise Unfit(f"no such variable: {', '.join(PREFIX + name.upper() for name in strange)}")
    if missing := [field.name for field in fields if field.required and not given.get(field.name)]:
        raise Unfit(f"set {', '.join(PREFIX + name.upper() for name in missing)} too")
    return Target(**given)


@asynccontextmanager
async def opened_target():
    """The platform of the environment, or an emulator that lives as long as the block."""
    if (named := target_of(os.environ)) is not None:
        yield named
        return
    async with Emulator(Options(latency_s=0.01)) as emulator:
        yield Target(
            auth_url=emulator.base_url, api_url=emulator.base_url, sandbox_url=emulator.sandbox_url,
            docs_url=emulator.base_url, issuer=emulator.base_url, client_id=emulator.client_id,
            client_secret=emulator.client_secret, other_client_id="app_other",
            other_client_secret=emulator.client_secret,
        )  # fmt: skip


class Answer(msgspec.Struct, frozen=True):
    """One whole answer; header names in any case."""

    status: int
    headers: Any
    body: bytes


class Bench:
    """One tenant at one host of the target. `client` is the typed client there; `host` what a route is asked at."""

    def __init__(self, target: Target, transport: PooledTransport, session: aiohttp.ClientSession, host: Host) -> None:
        self.target = target
        self.host = host
        self._session = session
        access = Access(
            auth_url=target.auth_url, docs_url=target.docs_url, client_id=target.client_id,
            client_secret=Secret(target.client_secret), is_sandbox=host is Host.SANDBOX,
            api_url=(target.sandbox_url or "") if host is Host.SANDBOX else target.api_url,
            sandbox_url=target.sandbox_url, **({"issuer": target.issuer} if target.issuer else {}),
        )  # fmt: skip
        clock = SystemClock()
        self.client = Client(transport, access, clock=clock, keyring=Keyring(target.auth_url + JWKS, transport, clock))

    async def ask_of(self, route: Route[Any, Any]) -> Any:
        """The route's example, with the members that its set-up made.

        Raises:
            Unfit: the path has members, and nothing says how to make what they name.
        """
        setup = SETUPS.get(route.name)
        if setup is None and "{" in route.path:
            raise Unfit(
                f"{route.name} has {route.path} and no set-up: add to tests/conformance/setups.py, in SETUPS, "
                f'"{route.name}": a function that makes what the path names and returns these members'
            )
        made = await setup(self) if setup else {}
        return msgspec.structs.replace(EXAMPLES[route.name], **made)

    async def token(self, scope: str | None = None) -> str:
        """A token for this host, of this scope or of all; the sandbox has its four only."""
        form = {
            "grant_type": "client_credentials", "client_id": self.target.client_id,
            "client_secret": self.target.client_secret, **({"scope": scope} if scope else {}),
        }  # fmt: skip
        members = await self._members(ROUTES["oauth.token"], form, Host.AUTH)
        if self.host is not Host.SANDBOX:
            return members["access_token"]
        live = members["access_token"]
        return (await self._members(MINT, {"client_id": self.target.client_id}, Host.AUTH, live))["token"]

    async def plain(
        self, route: Route[Any, Any], ask: Any, *, token: str | None = None, trace: Trace | None = None
    ) -> Answer:
        """Ask over plain HTTP, with this token or none. Follows no redirect."""
        return await self.send(route.method, self.host, lay_out(route, ask), token=token, trace=trace)

    async def send(
        self, method: str, host: Host, wire: Wire, *, token: str | None = None, trace: Trace | None = None
    ) -> Answer:
        """Any request to one of the target's hosts."""
        headers = dict(wire.headers)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if trace:
            headers["traceparent"] = trace.traceparent
        url = f"{self._origin(host)}{wire.target}"
        async with self._session.request(method, url, headers=headers, data=wire.body, allow_redirects=False) as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    def _origin(self, host: Host) -> str:
        target = self.target
        origins = {Host.AUTH: target.auth_url, Host.API: target.api_url, Host.SANDBOX: target.sandbox_url}
        origin = origins.get(host, target.docs_url)
        if not origin:
            raise Unfit(f"the target has no {host.value} host: set {PREFIX}{host.value.upper()}_URL")
        return origin

    async def _members(self, route, members, host, token=None) -> dict[str, Any]:
        wire = lay_out(route, msgspec.convert(members, route.ask))
        answer = await self.send(route.method, host, wire, token=token)
        if answer.status not in route.status:
            raise Unfit(f"the app under test gets no token: {route.name} answered {answer.status}")
        return msgspec.json.decode(answer.body)
