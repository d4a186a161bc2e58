"""A storm: many requests at once, among them impatient and cancelled ones, to peers that do everything wrong."""

import asyncio
import contextlib
import random
import re

import pytest

from engine.contract.exchange import Request
from engine.errors import EngineError
from tests.transport.conftest import open_direct

pytestmark = pytest.mark.anyio

_REQUESTS = 600
_WORKERS = 24


class Weather:
    """Answers with the path it was asked for, now and then not, or not quite, or cut, or with more than that."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    async def serve(self, reader, writer) -> None:
        try:
            while await self._answer(reader, writer):
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, RuntimeError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader, writer) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        is_early = self._random.random() < 0.05
        if length and not is_early:
            await reader.readexactly(int(length[1]))
        answer = self._written(head.split(b" ")[1] * self._random.choice((1, 1, 1, 50, 3000)))
        mood = self._random.random()
        if mood < 0.04:
            writer.write(answer[: self._random.randrange(len(answer))])
            return False
        if mood < 0.08:
            writer.transport.abort()
            return False
        if mood < 0.12:
            answer += b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"[: self._random.randint(1, 44)]
        elif mood < 0.14:
            await reader.read()  # Silence, until the other side has had enough.
            return False
        cut = self._random.randrange(len(answer))
        writer.write(answer[:cut])
        if mood < 0.5:
            await writer.drain()
        writer.write(answer[cut:])
        return not is_early

    def _written(self, body: bytes) -> bytes:
        interim = b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" if self._random.random() < 0.1 else b""
        if self._random.random() < 0.5:
            return interim + b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        pieces = [interim, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
        while body:
            size = self._random.randint(1, len(body))
            pieces.append(b"%x;x=y\r\n%s\r\n" % (size, body[:size]))
            body = body[size:]
        return b"".join((*pieces, b"0\r\n\r\n"))


class Crowd:
    """Asks, and holds every answer to its question."""

    def __init__(self, transport, urls, seed: int) -> None:
        self._transport = transport
        self._urls = urls
        self._random = random.Random(seed)
        self.left = _REQUESTS
        self.answered = self.failed = 0

    async def ask_on(self) -> None:
        while self.left:
            self.left -= 1
            task = asyncio.create_task(self._ask(f"/{self.left}-".encode()))
            if self._random.random() < 0.2:
                asyncio.get_running_loop().call_later(self._random.random() * 0.01, task.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _ask(self, mine: bytes) -> None:
        draw = self._random
        body = draw.choice((None, b"x" * 10, b"x" * 500_000)) if draw.random() < 0.3 else None
        url = draw.choice(self._urls) + mine.decode()
        request = Request(draw.choice(("GET", "POST")), url, {}, body, timeout_s=draw.choice((0.03, 0.3)))
        try:
            if draw.random() < 0.4:
                got = await self._read(request)
            else:
                got = (await self._transport.send(request)).body
        except EngineError:
            self.failed += 1
        else:
            self.answered += 1
            assert not got.replace(mine, b""), (mine, got[:60])

    async def _read(self, request) -> bytes:
        got = b""
        async with self._transport.stream(request) as answer:
            async for chunk in answer.chunks():
                got += chunk
                if self._random.random() < 0.05:
                    return b""
        return got


@pytest.mark.parametrize("seed", range(4))
async def test_every_answer_is_the_askers_own_and_every_place_comes_back(seed) -> None:
    """Whatever peers and callers do: nobody gets another's answer, and in the end all connections are free."""
    servers = [await asyncio.start_server(Weather(seed).serve, "127.0.0.1", 0) for _ in range(2)]
    urls = [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    transport = open_direct(concurrency=4)
    crowd = Crowd(transport, urls, seed)
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_WORKERS):
                group.create_task(crowd.ask_on())
        pool = transport._pool
        assert pool._places == sum(map(len, pool._idle.values())) <= 4
        assert crowd.answered > 100
        assert crowd.failed > 10
    finally:
        await transport.aclose()
        assert pool._places == len(pool._open) == 0
        for server in servers:
            server.close()
            await server.wait_closed()
