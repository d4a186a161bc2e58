"""Loopback servers: one that speaks HTTP, others that send the bytes they are told. And both transports, as one."""

import asyncio
import socket
from collections.abc import Callable

import pytest
from aiohttp.abc import AbstractResolver

from engine.clock import ManualClock
from engine.transport.direct import DirectTransport
from engine.transport.incoming import Incoming, Outgoing
from engine.transport.listener import Listener
from engine.transport.pooled import PooledTransport


class Server:
    """Answers what `answer` says, in turn when it is a list, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[Incoming] = []
        self.answer: Callable[[Incoming], Outgoing] | list[Outgoing] = lambda _: Outgoing(body=b"ok")

    async def _handle(self, incoming: Incoming) -> Outgoing:
        self.seen.append(incoming)
        if isinstance(self.answer, list):
            return self.answer[min(len(self.seen), len(self.answer)) - 1]
        return self.answer(incoming)

    async def start(self) -> None:
        self._listener = Listener(self._handle)
        await self._listener.start()
        self.url = self._listener.origin

    async def aclose(self) -> None:
        await self._listener.aclose()

    @property
    def connections(self) -> int:
        return self._listener.connections


class RawServer:
    """Reads one request head per connection, writes `reply` byte for byte, and closes (or holds on)."""

    def __init__(self) -> None:
        self.reply = b""
        self.hold = False
        self.heads: list[bytes] = []
        self._held: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.reply)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        if self.hold:
            self._held.append(writer)
        else:
            writer.close()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def aclose(self) -> None:
        for writer in self._held:
            writer.close()
        self._server.close()
        await self._server.wait_closed()


class DrippingServer:
    """Answers each connection with `head`, then gives `drips` one after the other, `every_s` apart, and stays open."""

    def __init__(self) -> None:
        self.head = b""
        self.drips: list[bytes] = []
        self.every_s = 0.02
        self.dripped = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.head)
        self._drip(writer, list(self.drips))

    def _drip(self, writer: asyncio.StreamWriter, left: list[bytes]) -> None:
        if not left or writer.is_closing():
            return
        writer.write(left.pop(0))
        self.dripped += 1
        asyncio.get_running_loop().call_later(self.every_s, self._drip, writer, left)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def aclose(self) -> None:
        for writer in self._writers:
            writer.close()
        self._server.close()
        await self._server.wait_closed()


class Recorder:
    def __init__(self) -> None:
        self.events = []

    def notice(self, event) -> None:
        self.events.append(event)


class _NamesOfAiohttp(AbstractResolver):
    def __init__(self, names: Callable[[str], list[str]]) -> None:
        self._names = names

    async def resolve(self, host, port=0, family=socket.AF_INET):
        common = {"hostname": host, "port": port, "proto": 0, "flags": 0, "family": socket.AF_INET}
        return [common | {"host": address} for address in self._names(host)]

    async def close(self) -> None:
        pass


def open_pooled(*, names=None, **options):
    """The transport over aiohttp; `names` says the addresses of a host."""
    return PooledTransport(resolver=names and _NamesOfAiohttp(names), **options)


def open_direct(*, names=None, **options):
    """The transport of our own; `names` says the addresses of a host."""
    if names is not None:

        async def resolve(host, port):
            return [(socket.AF_INET, (address, port)) for address in names(host)]

        options["resolve"] = resolve
    return DirectTransport(**options)


@pytest.fixture(params=[open_direct, open_pooled], ids=["direct", "pooled"])
def open_wire(request):
    """Opens a transport: each test that asks for it is run with both."""
    return request.param


async def _running(server):
    await server.start()
    return server


@pytest.fixture
async def server():
    server = await _running(Server())
    yield server
    await server.aclose()


@pytest.fixture
async def elsewhere():
    server = await _running(Server())
    yield server
    await server.aclose()


@pytest.fixture
async def raw():
    server = await _running(RawServer())
    yield server
    await server.aclose()


@pytest.fixture
async def dripping():
    server = await _running(DrippingServer())
    yield server
    await server.aclose()


@pytest.fixture
def clock():
    return ManualClock(now_ns=1_778_241_600_000_000_000)


@pytest.fixture
def recorder():
    return Recorder()
