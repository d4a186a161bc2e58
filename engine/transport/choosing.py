"""Choosing: which transport carries what. Straight ways are our own; what needs a proxy is the library's.

The one place that knows both. Decided once for each origin.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Literal
from urllib.parse import urlsplit

from engine.contract.exchange import Request, Response
from engine.ports import BodyStream, Transport
from engine.transport.direct import DirectTransport
from engine.transport.guard import Guard
from engine.transport.proxies import Proxies

_ORIGINS_MAX = 1024

Kind = Literal["direct", "aiohttp"]


class ChoosingTransport:
    """`direct`, or `proxied` for origins that `proxies` name a proxy for. Each has a pool of its own."""

    def __init__(self, direct: Transport, proxied: Transport, proxies: Proxies) -> None:
        self._direct = direct
        self._proxied = proxied
        self._proxies = proxies
        self._ways: dict[str, Transport] = {}

    async def send(self, request: Request) -> Response:
        """As the chosen transport."""
        return await self._way_of(request.url).send(request)

    def stream(self, request: Request) -> AbstractAsyncContextManager[BodyStream]:
        """As the chosen transport."""
        return self._way_of(request.url).stream(request)

    async def aclose(self) -> None:
        """Close both."""
        try:
            await self._direct.aclose()
        finally:
            await self._proxied.aclose()

    def _way_of(self, url: str) -> Transport:
        origin = "/".join(url.split("/", 3)[:3])
        way = self._ways.get(origin)
        if way is None:
            if len(self._ways) >= _ORIGINS_MAX:
                self._ways.clear()
            way = self._ways[origin] = self._proxied if self._is_proxied(origin) else self._direct
        return way

    def _is_proxied(self, origin: str) -> bool:
        try:
            parts = urlsplit(origin)
            return self._proxies.way_to(parts.scheme, parts.hostname or "") is not None
        except ValueError:
            return False  # No URL: for the transport to say.


def open_transport(kind: Kind, *, concurrency: int, guard: Guard | None = None) -> Transport:
    """The transport that the settings ask for, under `concurrency` connections; opened on first use."""
    proxies = Proxies()
    if kind == "direct" and proxies.is_empty:
        return DirectTransport(concurrency=concurrency, guard=guard)
    # Imported when used: it costs a quarter of a second, and most machines have no proxy.
    from engine.transport.pooled import PooledTransport

    pooled = PooledTransport(concurrency=concurrency, guard=guard)
    if kind == "aiohttp":
        return pooled
    return ChoosingTransport(DirectTransport(concurrency=concurrency, guard=guard), pooled, proxies)
