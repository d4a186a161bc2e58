"""Listener: the one door for requests that come in. A socket becomes `Incoming`, `Outgoing` becomes bytes.

Guards what must not reach a handler: heads that never end, bodies over the cap, more connections than the
cap. Routes nothing, knows no contract, keeps no log. Loopback unless told otherwise.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from engine.errors import ConfigError

MIB = 1024 * 1024
_KEEPALIVE_S = 75.0
_QUERY_FIELDS_MAX = 100
# A whole body gets this many times the patience that a head gets.
_BODY_PATIENCE = 3
# SO_LINGER with zero seconds: closing sends RST and throws unsent bytes away (socket(7)).
_RESET = struct.pack("ii", 1, 0)


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """One whole request. `path` is as it was on the wire, percent signs included, without the query.

    Header names are lower-case; a header sent twice is joined with a comma (RFC 9110 section 5.3). Of a query
    member sent twice the last one counts. `origin` is the base URL of the listener, without a trailing slash.
    The body is as sent: a `content-encoding` is for the handler to refuse or to undo.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes
    origin: str


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """One answer.

    `abort` closes the connection with a reset and without a byte of answer; `cut_after` sends the head and only
    so many bytes of the body before the reset. A body that is an iterator is sent chunked, unless the headers
    carry a `Content-Length`.
    """

    status: int = 200
    headers: dict[str, str] = {}
    body: bytes | AsyncIterator[bytes] | None = None
    abort: bool = False
    cut_after: int | None = None


Handle = Callable[[Incoming], Awaitable[Outgoing]]


def plain_refusal(incoming: Incoming, status: int) -> Outgoing:
    """The door's own refusal (400, 408, 413) in no words at all."""
    return Outgoing(status=status)


class _Refused(Exception):
    """The door itself says no; the handler is never called."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Connection(web.RequestHandler):
    """One connection, with a note of when the head it is sending began."""

    __slots__ = ("head_since", "is_busy")

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None switches it off; the annotation forgets to say so
            keepalive_timeout=_KEEPALIVE_S,
            auto_decompress=False,
            lingering_time=5.0,
        )
        self.is_busy = False
        self.head_since: float | None = loop.time()

    def data_received(self, data: bytes) -> None:
        if not self.is_busy and self.head_since is None:
            self.head_since = self._loop.time()
        super().data_received(data)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Bytes that are no HTTP get a status and the end; neither the answer nor a log repeats what was sent."""
        if not isinstance(exc, HttpProcessingError) or request.writer.output_size:
            return super().handle_error(request, status, exc, message)
        answer = web.Response(status=status)
        answer.force_close()
        return answer


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


class _Gone(web.Response):
    """An answer nobody will read: the connection was reset."""

    async def prepare(self, request: web.BaseRequest) -> Any:
        """Say that the peer is gone, which ends the connection quietly."""
        raise ConnectionResetError


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
        self._handle = handle
        # A name can stand for two addresses, which would get two ports.
        self._host = "127.0.0.1" if host == "localhost" else host
        self._port = port
        self._body_max = body_max
        self._header_timeout_s = header_timeout_s
        self._connections_max = connections_max
        self._server: asyncio.Server | None = None
        self._manager: web.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self.refuse: Callable[[Incoming, int], Outgoing] = plain_refusal
        self.origin = ""

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._manager.connections) if self._manager else 0

    async def start(self) -> int:
        """Bind and listen; the port, also when 0 was asked for.

        Raises:
            ConfigError: the address is taken, or not of this machine.
        """
        loop = asyncio.get_running_loop()
        self._manager = web.Server(self._serve)
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
        if self._manager is not None:
            self._manager.pre_shutdown()
            await self._manager.shutdown(2.0)
            self._manager = None

    def _accept(self) -> asyncio.Protocol:
        manager = self._manager
        if manager is None or len(manager.connections) >= self._connections_max:
            return _Full()
        return _Connection(manager, asyncio.get_running_loop())

    def _sweep(self) -> None:
        """Close connections whose head is overdue. aiohttp has no such clock of its own."""
        if self._manager is None:
            return
        loop = asyncio.get_running_loop()
        overdue = loop.time() - self._header_timeout_s
        for connection in self._manager.connections:
            since = connection.head_since if isinstance(connection, _Connection) else None
            if since is not None and since <= overdue and connection.transport is not None:
                connection.transport.abort()
        self._sweeper = loop.call_later(min(1.0, self._header_timeout_s / 4), self._sweep)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        if isinstance(connection, _Connection):
            connection.is_busy = True
            connection.head_since = None
        try:
            incoming, refused = await self._read(request)
            outgoing = self.refuse(incoming, refused) if refused else await self._handle(incoming)
            return await _answer(request, outgoing)
        finally:
            if isinstance(connection, _Connection):
                connection.is_busy = False

    async def _read(self, request: web.BaseRequest) -> tuple[Incoming, int]:
        """The request as a value, and the status to refuse it with (0: none)."""
        refused, body, query = 0, b"", {}
        target, _, query_text = _origin_form(request.raw_path).partition("?")
        try:
            if query_text:
                query = _read_query(query_text)
            if request.body_exists:
                body = await self._read_body(request)
        except _Refused as refusal:
            refused = refusal.status
        incoming = Incoming(
            method=request.method,
            path=target,
            query=query,
            headers=_read_headers(request),
            body=body,
            origin=self.origin,
        )
        return incoming, refused

    async def _read_body(self, request: web.BaseRequest) -> bytes:
        declared = request.content_length
        if declared is not None and declared > self._body_max:
            raise _Refused(413)
        content = request.content
        if content.is_eof():
            body = content.read_nowait(-1)
            if len(body) > self._body_max:
                raise _Refused(413)
            return body
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._header_timeout_s * _BODY_PATIENCE):
                while piece := await content.readany():
                    size += len(piece)
                    if size > self._body_max:
                        raise _Refused(413)
                    pieces.append(piece)
        except TimeoutError:
            raise _Refused(408) from None
        except web.RequestPayloadError:
            raise _Refused(400) from None
        return b"".join(pieces)


def _origin_form(target: str) -> str:
    """The path and query of a request target, also of the absolute form (RFC 9112 section 3.2.2)."""
    if target.startswith("/"):
        return target
    try:
        parts = urlsplit(target)
    except ValueError:
        return "/"
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _read_query(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=_QUERY_FIELDS_MAX))
    except ValueError:
        raise _Refused(400) from None


def _read_headers(request: web.BaseRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        name = name.lower()
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


async def _answer(request: web.BaseRequest, outgoing: Outgoing) -> web.StreamResponse:
    if outgoing.abort:
        return _reset(request)
    if outgoing.cut_after is not None:
        return await _answer_cut(request, outgoing, outgoing.cut_after)
    body = outgoing.body
    if body is None or isinstance(body, bytes):
        return web.Response(status=outgoing.status, headers=outgoing.headers, body=body)
    answer = web.StreamResponse(status=outgoing.status, headers=outgoing.headers)
    await answer.prepare(request)
    async for piece in body:
        await answer.write(piece)
    return answer


async def _answer_cut(request: web.BaseRequest, outgoing: Outgoing, cut_after: int) -> web.StreamResponse:
    """Promise the whole body, send a part of it, and reset once that part has left."""
    headers = dict(outgoing.headers)
    if isinstance(outgoing.body, bytes):
        headers["Content-Length"] = str(len(outgoing.body))
    answer = web.StreamResponse(status=outgoing.status, headers=headers)
    await answer.prepare(request)
    left = cut_after
    async for piece in _pieces(outgoing.body):
        await answer.write(piece[:left])
        left -= min(left, len(piece))
        if not left:
            break
    if left:
        return answer  # It was shorter than that: there is nothing to cut.
    transport = request.transport
    for _ in range(1000):
        if transport is None or not transport.get_write_buffer_size():
            break
        await asyncio.sleep(0.001)
    return _reset(request)


async def _pieces(body: bytes | AsyncIterator[bytes] | None) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
    elif body is not None:
        async for piece in body:
            yield piece


def _reset(request: web.BaseRequest) -> web.StreamResponse:
    transport = request.transport
    if transport is not None:
        handle = transport.get_extra_info("socket")
        if handle is not None:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        transport.abort()
    return _Gone()
