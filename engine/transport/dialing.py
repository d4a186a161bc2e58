"""Dialing: from an origin to a connection: names resolved, addresses judged, the fastest one taken, TLS proven.

The guard judges every address that a name leads to, and the socket is connected to one of these very addresses:
nothing is looked up a second time. One deadline for all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address
from itertools import chain, zip_longest
from typing import Any

from engine.contract.exchange import Request
from engine.transport import failures, pace
from engine.transport.connection import Connection
from engine.transport.guard import Guard
from engine.transport.heads import Origin

# RFC 8305 section 5: how long an address may take before the next one is tried beside it.
_STAGGER_S = 0.25
_ADDRESSES_MAX = 16

# A family, and what `socket.connect` takes for it; the address itself comes first in that.
Address = tuple[int, tuple[Any, ...]]
Resolve = Callable[[str, int], Awaitable[list[Address]]]


async def look_up(host: str, port: int) -> list[Address]:
    """All addresses of a name, as the system orders them (RFC 6724); on a thread."""
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_ADDRCONFIG
    )
    return [(family, place) for family, _, _, _, place in found]


class Dialer:
    """Opens connections; `guard` None admits every address. `resolve` is for tests."""

    def __init__(self, *, guard: Guard | None = None, resolve: Resolve = look_up) -> None:
        self._guard = guard
        self._resolve = resolve
        self._context: ssl.SSLContext | None = None

    async def dial(
        self, origin: Origin, request: Request, make: Callable[[], Connection], *, within_s: float
    ) -> Connection:
        """A connection to the origin, made by `make`; `request` is whom it is for.

        Raises:
            ConnectFailed, CertificateRefused: there is none. AddressRefused: the guard refused an address.
        """
        try:
            async with asyncio.timeout(min(pace.CONNECT_TIMEOUT_S, within_s)):
                addresses = await self._addresses(origin, request)
                return await self._attach(await _first(addresses), origin, make)
        except ssl.SSLError as exc:
            raise failures.certificate_refused(request) from exc
        except TimeoutError as exc:
            # The system's own time-out of a connect is one too, and says so by its number.
            if exc.errno is not None:
                raise failures.not_connected(request, exc) from exc
            raise failures.no_connection_in_time(request) from exc
        except OSError as exc:
            raise failures.not_connected(request, exc) from exc
        except UnicodeError as exc:
            # A name that TLS cannot ask for.
            raise failures.no_address(request) from exc

    async def _addresses(self, origin: Origin, request: Request) -> list[Address]:
        host, port = origin.host, origin.port
        found: list[Address]
        try:
            version = ip_address(host).version
        except ValueError:
            try:
                found = (await self._resolve(host, port))[:_ADDRESSES_MAX]
            except (OSError, UnicodeError) as exc:
                raise failures.no_address(request) from exc
        else:
            found = [(socket.AF_INET, (host, port)) if version == 4 else (socket.AF_INET6, (host, port, 0, 0))]
        if not found:
            raise failures.no_address(request)
        if self._guard is not None:
            # One bad address refuses the name: who mixes them is trying something.
            for _, place in found:
                self._guard.admit(host, port, place[0])
        return _alternating(found)

    async def _attach(self, sock: socket.socket, origin: Origin, make: Callable[[], Connection]) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if not origin.is_tls:
                return (await loop.create_connection(make, sock=sock))[1]
            made = await loop.create_connection(
                make,
                sock=sock,
                ssl=self._trust(),
                server_hostname=origin.host.rstrip("."),
                # A peer that does not answer the goodbye must not hold the socket for half a minute.
                ssl_shutdown_timeout=pace.GOODBYE_S,
            )
            return made[1]
        except BaseException:
            sock.close()
            raise

    def _trust(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.set_alpn_protocols(("http/1.1",))
        return self._context


def _alternating(addresses: Iterable[Address]) -> list[Address]:
    """The families in turn, so that one that leads nowhere delays by one address only."""
    addresses = list(addresses)
    first = addresses[0][0]
    one = [address for address in addresses if address[0] == first]
    other = [address for address in addresses if address[0] != first]
    return [address for address in chain.from_iterable(zip_longest(one, other)) if address is not None]


async def _first(addresses: list[Address]) -> socket.socket:
    """A socket connected to whichever address takes it first, in the order given, a little apart."""
    if len(addresses) == 1:
        return await _connected(addresses[0])
    left, last = deque(addresses), OSError("no address")
    running: set[asyncio.Task[socket.socket]] = set()
    won: socket.socket | None = None
    try:
        while won is None and (left or running):
            if left:
                running.add(asyncio.create_task(_connected(left.popleft())))
            done, running = await asyncio.wait(
                running, timeout=_STAGGER_S if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if isinstance(exc := task.exception(), OSError):
                    last = exc
                elif won is None:
                    won = task.result()
                else:
                    task.result().close()
    finally:
        for task in running:
            task.cancel()
        for late in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(late, socket.socket):
                late.close()
    if won is None:
        raise last
    return won


async def _connected(address: Address) -> socket.socket:
    family, place = address
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        with contextlib.suppress(OSError):
            sock.close()
        raise
    return sock
