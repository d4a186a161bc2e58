"""Observing: one engine, its client against its emulator, and what both of them did, as one line of JSON.

A program of its own, so that it can be run on a copy of the package whose contract profile says something else. Its
argument is the port to listen on.
"""

import asyncio
import base64
import json
import sys

import engine
from engine.client.client import Access, Client
from engine.clock import SystemClock
from engine.contract.catalog import ROUTES
from engine.contract.oauth import AskToken
from engine.emulator.server import Bind, Emulator
from engine.errors import EngineError
from engine.settings import Platform, Secret
from engine.transport.pooled import PooledTransport
from engine.trust.keyring import Keyring

JOB = ("export.bulk", {})
ASKED_TTL_S = 50_000


class Watch:
    """What one emulator and clients of it do. Whatever the profile decides is left to it."""

    def __init__(self, emulator, transport):
        self._emulator = emulator
        self._transport = transport

    def client(self, **more):
        emulator, clock = self._emulator, SystemClock()
        members = {
            "auth_url": emulator.base_url, "api_url": emulator.base_url, "sandbox_url": emulator.sandbox_url,
            "issuer": emulator.base_url, "client_id": emulator.client_id,
            "client_secret": Secret(emulator.client_secret), **more,
        }  # fmt: skip
        keyring = Keyring(emulator.base_url + "/.well-known/jwks.json", self._transport, clock)
        members = {name: value for name, value in members.items() if value is not ...}
        return Client(self._transport, Access(**members), clock=clock, keyring=keyring)

    async def all(self):
        return {
            "where": engine.__file__,
            **await self.scopes(),
            **await self.tokens(),
            **await self.pages(),
            **await self.lives(),
        }

    async def scopes(self):
        """Which scope the client's route names, its description tells, and the emulator's gate wants."""
        document = await self.client().ask("discovery.openapi", {})
        catalogue = (await self.client().identity.scopes()).answer
        return {
            "client_route": ROUTES["jobs.list"].scopes,
            "client_asks": Platform().scopes,
            "described": document["paths"]["/v1/jobs"]["get"]["security"],
            "catalogued": [scope.name for scope in catalogue.scopes],
            "with_settings": await said(self.client(scopes=Platform().scopes).jobs.list()),
            "with_others": await said(self.client(scopes=("argus:profiles:read",)).jobs.list()),
        }

    async def tokens(self):
        """What the emulator's tokens say, and whether a client that expects what the profile says takes them."""
        emulator = self._emulator
        ask = AskToken(
            grant_type="client_credentials", client_id=emulator.client_id, client_secret=emulator.client_secret
        )
        live = claims_of((await self.client().oauth.token(ask)).answer.access_token)
        minted = (await self.client().sandbox.token(emulator.client_id)).answer
        sandboxed = self.client(api_url=emulator.sandbox_url, sandbox_url=None, is_sandbox=True)
        return {
            "aud": live["aud"],
            "sandbox_aud": claims_of(minted.token)["aud"],
            "expected_aud": await said(self.client().jobs.list()),
            "old_aud": await said(self.client(audience="https://api.knogin.com").jobs.list()),
            "sandbox": await said(sandboxed.jobs.list()),
            "expected_iss": await said(self.client(issuer=...).jobs.list()),
        }

    async def pages(self):
        """How long a page is that is asked to be long, and what the client that walks on finds."""
        client = self.client()
        for number in range(5):
            await client.jobs.create(*JOB, idempotency_key=f"key-{number}")
        page = (await client.jobs.list(limit=200)).answer
        return {"page": len(page.jobs), "walked": len([job async for job in client.jobs.every()])}

    async def lives(self):
        """The life of a token that is asked to be long, or short."""
        client, whose = self.client(), self._emulator.client_id
        long = (await client.oauth.service_token(whose, ttl_seconds=ASKED_TTL_S)).answer
        short = (await client.oauth.service_token(whose, ttl_seconds=1)).answer
        return {"long_s": long.expires_in, "short_s": short.expires_in}


async def said(call):
    """`ok`, or the code of the error and what to do about it."""
    try:
        await call
    except EngineError as error:
        return f"{error.code}: {error.message} {error.hint}"
    return "ok"


def claims_of(token):
    payload = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))


async def main(port):
    transport = PooledTransport()
    try:
        async with Emulator(bind=Bind(port=port)) as emulator:
            return await Watch(emulator, transport).all()
    finally:
        await transport.aclose()


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(int(sys.argv[1])))))
