"""Client: every route of the contract as one typed method, by group, and any route by its name.

Puts line, sessions and groups together over a transport that somebody else made. Signed URLs have a way of
their own (`fetch`) that never carries a credential.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec

from engine.client.call import AGENT, Answered, Caller, Line, Origins
from engine.client.devices import Devices
from engine.client.discovery import Discovery
from engine.client.epcr import Epcr
from engine.client.graphql import Graphql
from engine.client.identity import Identity
from engine.client.jobs import Jobs
from engine.client.keys import Keys
from engine.client.oauth import OAuth
from engine.client.provenance import Provenance
from engine.client.reference import Reference
from engine.client.sandbox import Sandbox
from engine.client.session import Proof, Session, by_client_credentials, by_hand, by_sandbox_mint
from engine.client.tracing import Tracing
from engine.client.webhooks import Webhooks
from engine.codec.payload import to_wire
from engine.contract.catalog import ask_of, route_of
from engine.contract.exchange import Request, Trace
from engine.contract.problem import retry_after_s
from engine.contract.profile import PROFILE
from engine.contract.route import Route
from engine.contract.rows import as_text, text_of
from engine.contract.sandbox import MINT
from engine.errors import Missing, PlatformError, Throttled, TrustError, Unavailable
from engine.loopback import is_loopback
from engine.ports import BodyStream, Clock, Transport
from engine.settings import Secret
from engine.transport.patience import Patience
from engine.trust.keyring import Keyring

SIGNED_TEMPLATE = "{signed_url}"


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """Where, and as whom.

    `is_sandbox`: `api_url` is the sandbox's, and its token is `sandbox_token` or one that the app's own
    credentials mint. `login_token` is a person's, used where it is given.
    `sandbox_url` lets a live client ask the sandbox's own routes too; `docs_url` is where the
    documents are. With `patience`, an outage of the token's issuer is waited out.
    """

    auth_url: str = "https://auth.knogin.com"
    api_url: str = "https://api.knogin.com"
    sandbox_url: str | None = None
    docs_url: str | None = None
    client_id: str | None = None
    client_secret: Secret | None = None
    scopes: tuple[str, ...] = ()
    issuer: str = PROFILE.issuer
    audience: str = PROFILE.audience
    sandbox_token: Secret | None = None
    login_token: Secret | None = None
    is_sandbox: bool = False
    timeout_s: float = 30.0
    patience: Patience | None = None


class Client:
    """The platform, typed. `downloads` is the transport for signed URLs: guarded, and without credentials.

    Nothing is sent before the first call. Closing the transports is up to whoever made them.
    """

    def __init__(
        self,
        transport: Transport,
        access: Access,
        *,
        clock: Clock,
        keyring: Keyring,
        downloads: Transport | None = None,
    ) -> None:
        self._clock = clock
        self._downloads = downloads or transport
        self._timeout_s = access.timeout_s
        caller = _caller(transport, access, clock, keyring)
        self._caller = caller
        self.identity = Identity(caller)
        self.oauth = OAuth(caller)
        self.keys = Keys(caller)
        self.tracing = Tracing(caller)
        self.graphql = Graphql(caller)
        self.epcr = Epcr(caller)
        self.devices = Devices(caller)
        self.webhooks = Webhooks(caller)
        self.jobs = Jobs(caller)
        self.sandbox = Sandbox(caller)
        self.discovery = Discovery(caller)
        self.reference = Reference(caller)
        self.provenance = Provenance(caller)

    async def ask(self, name: str, members: Mapping[str, Any], *, trace: Trace | None = None) -> Any:
        """Ask any route by its name (`jobs.get`), with plain members; answers plain data.

        Raises:
            RecordError: no such route, no such member, or a member of the wrong type.
            Else as `Caller.call`.
        """
        answered = await self.answered(name, members, trace=trace)
        return to_wire(answered.answer)

    async def answered(self, name: str, members: Mapping[str, Any], *, trace: Trace | None = None) -> Answered[Any]:
        """As `ask`, with status, headers and trace id, and the answer typed."""
        route = route_of(name)
        return await self._caller.call(route, ask_of(route, members), trace=trace)

    async def exchange(self, route: Route[Any, Any], ask: Any, *, trace: Trace | None = None) -> bytes:
        """Ask a route by a question of its own; answers the JSON text as it came, proven to be of the route's type.

        Raises:
            BrokenAnswer: the answer is none of the route's. Else as `Caller.call`.
        """
        answered = await self._caller.call(as_text(route), ask, trace=trace)
        return text_of(route, answered.answer)

    @asynccontextmanager
    async def fetch(
        self,
        url: str,
        *,
        range_from: int | None = None,
        if_range: str | None = None,
        trace: Trace | None = None,
    ) -> AsyncIterator[BodyStream]:
        """Open a signed URL (contract 9.4), from byte `range_from` on if its `if_range` (an ETag) still holds.

        The body is as stored; look at `content-encoding`. Status 206 is the rest, 200 the whole, from its
        start. No bearer token is sent, and no redirect followed.

        Raises:
            Missing: the lease is over (401, 403, 404, 410): ask for a new one.
            Throttled, Unavailable, PlatformError: any other refusal. TrustError: not a URL to follow.
            TransportError: no answer.
        """
        request = _signed_request(url, _range_headers(range_from, if_range), self._timeout_s, trace)
        async with self._downloads.stream(request) as body:
            if body.status not in (200, 206):
                raise self._refused_lease(body)
            yield body

    def _refused_lease(self, body: BodyStream) -> PlatformError:
        status = body.status
        said = f"the signed URL answered {status}"
        wait_s = retry_after_s(body.headers, now_s=self._clock.now_ns() / 1e9)
        # A store says 403 of an expired signature: that is the lease's end, not a matter of our credentials.
        if status in (401, 403, 404, 410):
            return Missing(said, status=status, hint="ask jobs.result for a new URL")
        kind = Throttled if status == 429 else Unavailable if status >= 500 or status == 408 else PlatformError
        return kind(said, status=status, retry_after_s=wait_s, content_range=body.headers.get("content-range", ""))


def _caller(transport: Transport, access: Access, clock: Clock, keyring: Keyring) -> Caller:
    sandbox_url = access.api_url if access.is_sandbox else access.sandbox_url
    origins = Origins(
        auth=access.auth_url.rstrip("/"),
        api=access.api_url.rstrip("/"),
        sandbox=sandbox_url.rstrip("/") if sandbox_url else None,
        docs=access.docs_url.rstrip("/") if access.docs_url else None,
    )
    line = Line(transport, origins, clock, timeout_s=access.timeout_s)
    live_proof = Proof(keyring=keyring, issuer=access.issuer, audience=access.audience)
    sandbox_proof = Proof(keyring=keyring, issuer=access.issuer, audience=PROFILE.sandbox_audience)
    live = sandbox = None
    if access.client_id and access.client_secret:
        app = (line, access.client_id, access.client_secret)
        live = Session(by_client_credentials(*app, access.scopes), live_proof, clock, patience=access.patience)
        admin = Session(by_client_credentials(*app, MINT.scopes), live_proof, clock, patience=access.patience)
        sandbox = Session(
            by_sandbox_mint(line, access.client_id, admin), sandbox_proof, clock, patience=access.patience
        )
    if access.login_token is not None:
        live = Session(by_hand(access.login_token), live_proof, clock, patience=access.patience)
    if access.sandbox_token is not None:
        sandbox = Session(by_hand(access.sandbox_token), sandbox_proof, clock, patience=access.patience)
    return Caller(line, live=live, sandbox=sandbox, is_sandbox=access.is_sandbox)


def _range_headers(range_from: int | None, if_range: str | None) -> dict[str, str]:
    if not range_from:
        return {}
    return {"Range": f"bytes={range_from}-"} | ({"If-Range": if_range} if if_range else {})


def _signed_request(url: str, extra: dict[str, str], timeout_s: float, trace: Trace | None) -> Request:
    try:
        parts = urlsplit(url)
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    except ValueError:
        is_safe = False
    if not is_safe:
        raise TrustError("a signed URL is https, or http on loopback; this one is neither", hint="nothing was sent")
    headers = {
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "User-Agent": AGENT,
        "traceparent": (trace.child() if trace else Trace.new()).traceparent,
        **extra,
    }
    return Request(
        "GET", url, headers, route="jobs.fetch", template=SIGNED_TEMPLATE, timeout_s=timeout_s,
        parent_span_id=trace.span_id if trace else None,
    )  # fmt: skip
