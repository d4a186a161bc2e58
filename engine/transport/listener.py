"""Listener: the one door for requests that come in: where it is, how many may be inside, and who is overdue.

Guards what must not reach a handler: heads that never end, bodies over the cap, more connections than the
cap. Routes nothing, knows no contract, keeps no log. Loopback unless told otherwise.
"""

from __future__ import annotations

import asyncio
from typing import cast

from engine.errors import ConfigError
from engine.transport.incoming import Handle, Refuse, plain_refusal
from engine.transport.serving import Connection

MIB = 1024 * 1024
_CLOSE_S = 2.0


class _Full(asyncio.Protocol):
    """What a connection over the cap meets: an answer that says so, and the end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not at once: uvloop throws away what is written and closed while it still sets the connection up.
        # A cast, because its transports are asyncio's in deed but not by descent.
        asyncio.get_running_loop().call_soon(_turn_away, cast(asyncio.Transport, transport))


def _turn_away(transport: asyncio.Transport) -> None:
    transport.write(
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    )
    transport.close()


class Listener:
    """A listening socket whose every request goes to `handle`.

    `body_max` in bytes (over it: 413). A connection whose head is not complete `header_timeout_s` after its
    first byte, or after connecting, is closed; so is one whose body takes three times as long (408).
    `refuse` words the refusals of the door itself and may be replaced before `start`.
    """

    def __init__(
        self,
        handle: Handle,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        body_max: int = MIB,
        header_timeout_s: float = 10.0,
        connections_max: int = 1000,
    ) -> None:
        self.handle = handle
        # A name can stand for two addresses, which would get two ports.
        self._host = "127.0.0.1" if host == "localhost" else host
        self._port = port
        self.body_max = body_max
        self._header_timeout_s = header_timeout_s
        self._connections_max = connections_max
        self._server: asyncio.Server | None = None
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self.refuse: Refuse = plain_refusal
        self.origin = ""

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open)

    async def start(self) -> int:
        """Bind and listen; the port, also when 0 was asked for.

        Raises:
            ConfigError: the address is taken, or not of this machine.
        """
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                self._accept, self._host, self._port, backlog=512, reuse_address=True
            )
        except OSError as exc:
            raise ConfigError(
                f"cannot listen on {self._host} port {self._port}: {exc.strerror or exc}",
                hint="use port 0 for a free one",
            ) from exc
        port: int = self._server.sockets[0].getsockname()[1]
        shown = f"[{self._host}]" if ":" in self._host else self._host
        self.origin = f"http://{shown}:{port}"
        self._sweep()
        return port

    async def aclose(self) -> None:
        """Stop listening, let running handlers finish for a moment, close every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._open:
            await asyncio.gather(*(connection.aclose(_CLOSE_S) for connection in [*self._open]))

    def _accept(self) -> asyncio.Protocol:
        if len(self._open) >= self._connections_max:
            return _Full()
        connection = Connection(self, self._open.discard)
        self._open.add(connection)
        return connection

    def _sweep(self) -> None:
        """Close connections that are overdue; one timer for all of them."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in [*self._open]:
            connection.sweep(now, self._header_timeout_s)
        self._sweeper = loop.call_later(min(1.0, self._header_timeout_s / 4), self._sweep)
