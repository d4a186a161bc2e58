"""F39: servers that never fall silent and never get anywhere; each has a deadline all the same."""

from __future__ import annotations

import asyncio

import pytest

from engine.contract.exchange import Request
from engine.errors import TimedOut
from engine.ports import Transport
from engine.transport import pace
from engine.transport.incoming import Outgoing

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"


@pytest.fixture
async def transport(open_wire):
    transport = open_wire()
    yield transport
    await transport.aclose()


def get(url: str) -> Request:
    return Request("GET", url, {}, route="slow", timeout_s=0.3)


async def read(transport: Transport, request: Request) -> int:
    async with transport.stream(request) as body:
        return sum([len(chunk) async for chunk in body.chunks()])


async def test_f39_a_body_of_a_byte_now_and_then_is_given_up(dripping, transport) -> None:
    """The longest silence is never reached, but so little in that time is as good as nothing."""
    dripping.head, dripping.drips = HEAD, [b"x"] * 1000
    with pytest.raises(TimedOut, match=r"only \d+ bytes came"):
        await read(transport, get(dripping.url))
    assert 5 < dripping.dripped < 100


async def test_f39_a_head_of_a_byte_now_and_then_is_given_up(dripping, transport, monkeypatch) -> None:
    """A head has one deadline for the whole of it."""
    monkeypatch.setattr(pace, "CONNECT_TIMEOUT_S", 0.1)
    dripping.head, dripping.drips = b"HTTP/1.1 200 OK\r\nX-Slow: ", [b"x"] * 1000
    with pytest.raises(TimedOut):
        await read(transport, get(dripping.url))
    assert 5 < dripping.dripped < 100
    with pytest.raises(TimedOut):
        await transport.send(get(dripping.url))


async def test_f39_a_slow_body_that_gets_somewhere_is_read(dripping, transport) -> None:
    """Slow is not dead: above the least rate a body may take as long as it likes."""
    dripping.head = b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n"
    dripping.drips = [b"x" * 400] * 50
    assert await read(transport, get(dripping.url)) == 20_000
    assert dripping.dripped == 50


async def test_f32_a_reader_that_takes_its_time_is_not_the_servers_fault(server, transport) -> None:
    """Time in which nobody reads counts for nothing, however little came in it."""
    body = b"x" * 300_000
    server.answer = [Outgoing(body=body)]
    read = 0
    paused = asyncio.Event()
    async with transport.stream(get(server.url)) as stream:
        async for chunk in stream.chunks():
            read += len(chunk)
            paused.clear()
            asyncio.get_running_loop().call_later(0.15, paused.set)
            await paused.wait()
    assert read == len(body)
