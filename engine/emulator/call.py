"""What a handler of the emulator gets and gives: one call, decoded and admitted; one answer.

The server decodes, the gate admits, a handler decides. Handlers never see sockets.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from engine.contract.exchange import Trace
from engine.contract.route import Host, Route
from engine.emulator.refusal import Refusal


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls, as the verified token says."""

    tenant_id: str
    organization_id: str
    client_id: str
    scopes: frozenset[str]
    is_sandbox: bool = False
    scenarios: tuple[str, ...] = ()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One admitted request. `ask` is the route's decoded question; `caller` is None on public routes.

    `trace` is this request's server span (its span id is what the answer's headers name); `parent_span_id` the
    caller's. `base_url` is the origin the request came to, without a trailing slash; `host` which of the platform's
    hosts that origin plays. Header names are lower-case.
    """

    route: Route[Any, Any]
    ask: Any
    caller: Caller | None
    host: Host
    base_url: str
    trace: Trace
    parent_span_id: str | None
    headers: Mapping[str, str]
    body: bytes

    @property
    def known(self) -> Caller:
        """Who calls, on a route that needs a token: the gate has seen to it.

        Raises:
            Refusal: 401: nobody, after all.
        """
        if self.caller is None:
            raise Refusal(401, "unauthorized", "This route needs a bearer token.", {"WWW-Authenticate": "Bearer"})
        return self.caller


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """What a handler answers: a Struct (encoded as JSON), ready bytes, or nothing."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = {}
    content_type: str = "application/json"


Handler = Callable[[Call], Reply | Awaitable[Reply]]
