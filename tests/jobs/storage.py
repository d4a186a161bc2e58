"""A store of results that misbehaves as told: raw HTTP on loopback, every request written down."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Self

import msgspec

_RESET = struct.pack("ii", 1, 0)


class Asked(msgspec.Struct, frozen=True):
    """One request: path with query, headers in lower case, and where it asked to begin."""

    path: str
    headers: Mapping[str, str]

    @property
    def start(self) -> int:
        """The first byte asked for."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        return int(found[1]) if found else 0


class Answer:
    """Writes one answer."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def head(self, status: int, **headers: object) -> None:
        """Status line and headers; names have `_` for `-`."""
        lines = [f"HTTP/1.1 {status} X", "Connection: close"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.body("\r\n".join([*lines, "", ""]).encode())

    async def body(self, data: bytes) -> None:
        """Bytes, as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def chunk(self, data: bytes) -> None:
        """One chunk of a chunked body."""
        await self.body(b"%x\r\n%s\r\n" % (len(data), data))

    def reset(self) -> None:
        """Close so that the other side sees a reset; nothing that was written is waited for."""
        handle: socket.socket = self._writer.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()


Script = Callable[[Asked, Answer], Awaitable[None]]


class Storage:
    """Serves whatever its `script` writes; one request to a connection."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.script: Script = _nothing

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Listen no more; closing twice is closing once."""
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """A signed URL."""
        return f"http://{self.host}/result?sig=1"

    def serves(self, body: bytes, **headers: object) -> None:
        """Answer everything with this body, whole, with its length."""

        async def script(_: Asked, answer: Answer) -> None:
            await answer.head(200, Content_Length=len(body), **headers)
            await answer.body(body)

        self.script = script

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = (line.split(":", 1) for line in head[1:] if line)
            asked = Asked(head[0].split(" ")[1], {name.lower(): value.strip() for name, value in pairs})
            self.asked.append(asked)
            await self.script(asked, Answer(writer))
        writer.close()


async def _nothing(_: Asked, answer: Answer) -> None:
    await answer.head(404, Content_Length=0)
