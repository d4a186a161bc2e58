"""Server: one emulator, put together: state, keys, gate, groups, two listeners, and the worker that runs jobs.

Plays the auth, api and docs hosts on the live origin and sandbox-api on the sandbox origin. Paths under
`/__emulator/` are ours and not the vendor's: books, fault tally, key rotation, provenance keys, events and their
replay, for tests and the crash harness; they need no token and exist only while the emulator listens on loopback.
Decides nothing about requests itself.
"""

from __future__ import annotations

import asyncio
from functools import partial
from types import TracebackType
from typing import Any, Self

import msgspec

from engine.clock import SystemClock
from engine.codec.payload import decode, encode, loads
from engine.contract.catalog import EXAMPLES, ROUTES
from engine.contract.exchange import Trace
from engine.contract.profile import PROFILE, Profile
from engine.contract.provenance import HMAC
from engine.emulator import (
    devices,
    discovery,
    epcr,
    graphql,
    identity,
    inventory,
    jobs,
    keys,
    life,
    oauth,
    provenance,
    reference,
    results,
    sandbox,
    subscriptions,
    tracing,
    webhooks,
)
from engine.emulator.call import Handler
from engine.emulator.dispatch import Dispatch, RawRoute
from engine.emulator.faults import Faults
from engine.emulator.gate import Gate
from engine.emulator.state import Options, State
from engine.emulator.tokens import Tokens
from engine.errors import ConfigError, RecordError
from engine.loopback import is_loopback
from engine.ports import Clock
from engine.transport.incoming import Incoming, Outgoing
from engine.transport.listener import Listener

_CONTROL = "/__emulator/"


class Bind(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen; port 0 is any free one. `advertise` is the host name in the URLs it gives out.

    An emulator for other machines needs `allow_remote`, and `advertise` where `host` is a wildcard.
    """

    host: str = "127.0.0.1"
    port: int = 0
    sandbox_port: int = 0
    allow_remote: bool = False
    advertise: str | None = None


class Emulator:
    """A running emulator: `async with Emulator() as emulator: … emulator.base_url …`.

    In memory unless `options.state_path` names a file.
    """

    def __init__(
        self,
        options: Options | None = None,
        *,
        bind: Bind | None = None,
        faults: Faults | None = None,
        clock: Clock | None = None,
        profile: Profile = PROFILE,
    ) -> None:
        self._options = options or Options()
        self._bind = bind or Bind()
        self._faults = faults
        self._clock = clock or SystemClock()
        self._profile = profile
        self._listeners: list[Listener] = []
        self._work: asyncio.Task[None] | None = None
        self.client_id = identity.FIRST_APPS[0][0]
        self.client_secret = identity.FIRST_SECRET
        self.base_url = ""
        self.sandbox_url = ""

    async def start(self) -> None:
        """Open the state, listen, and start to work.

        Raises:
            ConfigError: an address that is taken, or not loopback without `allow_remote`.
            LedgerBusy, LedgerBroken: the state file cannot be used.
        """
        _check_host(self._bind)
        self.state = State.open(self._options, clock=self._clock, faults=self._faults, profile=self._profile)
        try:
            self._compose()
            live, alternate = self._listen(is_sandbox=False), self._listen(is_sandbox=True)
            self._listeners = [live, alternate]
            for listener in self._listeners:
                port = await listener.start()
                if self._bind.advertise is not None:
                    listener.origin = f"http://{self._bind.advertise}:{port}"
        except BaseException:
            await self.aclose()
            raise
        self.base_url = self.state.base_url = live.origin
        self.sandbox_url = self.state.sandbox_url = alternate.origin
        self._work = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """Stop listening, stop the work, write what is unwritten, close the state.

        Raises what broke the work, if anything did: an emulator that stopped working must not look well.
        """
        for listener in self._listeners:
            await listener.aclose()
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            await asyncio.wait([work])
        if self.state.is_open:
            tracing.flush(self.state)
            self.state.close()
        if work is not None and not work.cancelled() and (error := work.exception()):
            raise error

    async def failed(self) -> None:
        """Wait until the work breaks, which it never should, and raise what broke it."""
        if self._work is not None:
            await asyncio.shield(self._work)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _compose(self) -> None:
        state = self.state
        state.apply_schema(tracing.SCHEMA)
        state.apply_schema(jobs.SCHEMA)
        self.keys = keys.Keys(state)
        gate = Gate(state, self.keys)
        apps = identity.Apps(state)
        gate.app_ceilings = apps.ceilings
        tokens = Tokens(state, self.keys, gate)
        handlers: dict[str, Handler] = {
            **identity.handlers(state, apps),
            **oauth.handlers(state, apps, tokens),
            **keys.handlers(state, self.keys),
            **tracing.handlers(state),
            **webhooks.handlers(state),
            **graphql.handlers(state),
            **epcr.handlers(state),
            **devices.handlers(state),
            **jobs.handlers(state),
            **sandbox.handlers(state, apps, tokens),
            **discovery.handlers(state, ROUTES, EXAMPLES),
            **reference.handlers(state, ROUTES, EXAMPLES),
            **provenance.handlers(state),
        }
        if state.options.inventory:
            inventory.stock(state)
        self._worker = life.Worker(state)
        self._dispatch = Dispatch(state, gate, ROUTES, handlers, [*results.raw_routes(state), *self._own_routes()])

    def _listen(self, *, is_sandbox: bool) -> Listener:
        listener = Listener(
            partial(self._dispatch.answer, is_sandbox=is_sandbox),
            host=self._bind.host,
            port=self._bind.sandbox_port if is_sandbox else self._bind.port,
            body_max=self._profile.body_max,
        )
        listener.refuse = self._dispatch.refuse
        return listener

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._worker.run())
            tasks.create_task(tracing.write_spans(self.state))

    def _own_routes(self) -> list[RawRoute]:
        at = self.state.profile.oauth_metadata_path
        routes: list[RawRoute] = [] if at is None else [("GET", at, self._metadata)]
        if is_loopback(self._bind.host):
            routes += [
                ("GET", _CONTROL + "books", self._books),
                ("GET", _CONTROL + "faults", self._tally),
                ("POST", _CONTROL + "rotate-keys", self._rotate),
                ("GET", _CONTROL + "provenance-key", self._provenance_key),
                ("POST", _CONTROL + "events", self._emit),
                ("POST", _CONTROL + "replay", self._replay),
            ]
        return routes

    async def _metadata(self, incoming: Incoming) -> Outgoing:
        return _json(oauth.metadata(self.base_url))

    async def _books(self, incoming: Incoming) -> Outgoing:
        """What was asked and what was done: requests by route, statuses, and the books of the jobs."""
        statuses = {str(status): count for status, count in sorted(self._dispatch.statuses.items())}
        return _json({"requests": self._dispatch.requests, "statuses": statuses, **jobs.books(self.state)})

    async def _tally(self, incoming: Incoming) -> Outgoing:
        return _json({"faults": self.state.faults.tally()})

    async def _provenance_key(self, incoming: Incoming) -> Outgoing:
        """A tenant's HMAC key, which partners get by ways of their own (Q86)."""
        key = provenance.tenant_key(self.state, incoming.query.get("tenant_id", ""))
        return _json({"algorithm": HMAC, "key": key.hex()})

    async def _rotate(self, incoming: Incoming) -> Outgoing:
        """`{"overlap": false}` makes it a rotation that nobody announced."""
        try:
            wish = loads(incoming.body) if incoming.body else {}
        except RecordError:
            return Outgoing(status=400)
        with_overlap = not isinstance(wish, dict) or wish.get("overlap") is not False
        return _json({"kid": self.keys.rotate(with_overlap=with_overlap)})

    async def _emit(self, incoming: Incoming) -> Outgoing:
        """`{"tenant_id": …, "type": …, "data": …}` happens: whoever subscribed to it is told."""
        try:
            said = decode(incoming.body, _Happening)
        except RecordError:
            return Outgoing(status=400)
        with self.state.transaction():
            told = subscriptions.emit(self.state, said.tenant_id, said.type, said.data, Trace.new())
        return _json({"delivery_ids": told})

    async def _replay(self, incoming: Incoming) -> Outgoing:
        """`{"delivery_id": …}` is sent again, under the same id; 409 when it cannot be."""
        try:
            said = decode(incoming.body, _Replay)
        except RecordError:
            return Outgoing(status=400)
        with self.state.transaction():
            return Outgoing(status=202 if subscriptions.replay(self.state, said.delivery_id) else 409)


class _Happening(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a test has happen."""

    tenant_id: str
    type: str
    data: Any = None


class _Replay(msgspec.Struct, frozen=True):
    """A delivery that is to be sent again."""

    delivery_id: str


def _json(value: Any) -> Outgoing:
    return Outgoing(headers={"Content-Type": "application/json"}, body=encode(value))


def _check_host(bind: Bind) -> None:
    if not bind.allow_remote and not is_loopback(bind.host):
        raise ConfigError(
            f"the emulator listens on this machine only, and {bind.host} is not loopback",
            hint="anyone who can reach it can use it: say so with --allow-remote if that is meant",
        )
