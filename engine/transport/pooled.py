"""Pooled: requests over kept connections, by aiohttp; the one place where bytes leave as HTTP.

Sends what it is given and hands back what came: it follows no redirect, inflates nothing, keeps no cookie,
adds no credential, and reads every body under a cap. Foreign exceptions end here. It retries nothing and
tells nobody; that is for the transports around it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from ipaddress import ip_address
from types import TracebackType

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from engine.contract.exchange import Request, Response
from engine.errors import BrokenAnswer, ConnectFailed, EngineError
from engine.transport import failures, pace
from engine.transport.failures import name_of
from engine.transport.guard import Guard
from engine.transport.pace import BODY_MAX, CHUNK_BYTES, KEEPALIVE_S, Pace
from engine.transport.proxies import Proxies

_ORIGINS_MAX = 1024
# What aiohttp would add on its own. Accept-Encoding above all: nobody here inflates.
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_FOREIGN = (aiohttp.ClientError, TimeoutError, OSError, ValueError)


class PooledTransport:
    """A `Transport` over a pool of at most `concurrency` connections, opened on first use.

    `guard` judges every address before it is connected to; None admits all, for hosts of our own
    configuration. `resolver` is for tests; otherwise the system resolves names, on a thread.
    """

    def __init__(
        self,
        *,
        concurrency: int = 32,
        guard: Guard | None = None,
        body_max: int = BODY_MAX,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._concurrency = concurrency
        self._guard = guard
        self._body_max = body_max
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._timeouts: dict[tuple[float, bool], aiohttp.ClientTimeout] = {}
        self._proxies = Proxies()
        self._origins: dict[URL, str | None] = {}

    async def send(self, request: Request) -> Response:
        """Send and read the whole answer under `body_max`; see `ports.Transport.send`.

        Raises:
            CapExceeded: the body is larger. AddressRefused: the guard refused the address.
        """
        try:
            async with await self._start(request, is_stream=False) as answer:
                body = await _read_capped(answer, request, self._body_max)
                return Response(answer.status, _lower(answer.headers), body)
        except _FOREIGN as exc:
            raise _translate(exc, request) from exc

    def stream(self, request: Request) -> _Streaming:
        """Send, and hand out the body as it arrives.

        `timeout_s` is the deadline of the head, then the longest silence, and the time in which at least
        `RATE_MIN` bytes a second must have come; time in which nobody reads does not count.
        """
        return _Streaming(partial(self._start, request, is_stream=True), request)

    async def aclose(self) -> None:
        """Close every connection; requests under way fail."""
        if self._session is not None:
            await self._session.close()

    async def _start(self, request: Request, *, is_stream: bool) -> aiohttp.ClientResponse:
        url = URL(request.url, encoded=True)
        session = self._session or self._open()
        return await session.request(
            request.method,
            url,
            headers=request.headers,
            data=request.body,
            allow_redirects=False,
            timeout=self._timeout(request.timeout_s, is_stream=is_stream),
            proxy=self._way_to(url),
        )

    def _open(self) -> aiohttp.ClientSession:
        resolver = self._resolver or aiohttp.ThreadedResolver()
        connector = aiohttp.TCPConnector(
            limit=self._concurrency,
            keepalive_timeout=KEEPALIVE_S,
            resolver=resolver if self._guard is None else _GuardedResolver(resolver, self._allowing_proxies()),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_NOT_ADDED,
            # trust_env would also read ~/.netrc, and send what it finds there; proxies are ours to look up.
            trust_env=False,
        )
        return self._session

    def _timeout(self, seconds: float, *, is_stream: bool) -> aiohttp.ClientTimeout:
        timeout = self._timeouts.get((seconds, is_stream))
        if timeout is None:
            connect_s = min(pace.CONNECT_TIMEOUT_S, seconds)
            timeout = (
                aiohttp.ClientTimeout(total=None, sock_connect=connect_s, sock_read=seconds)
                if is_stream
                else aiohttp.ClientTimeout(total=seconds, sock_connect=connect_s)
            )
            self._timeouts[seconds, is_stream] = timeout
        return timeout

    def _way_to(self, url: URL) -> str | None:
        """The proxy for a URL, from HTTP(S)_PROXY and NO_PROXY; never one for this machine itself.

        A host that is an address is judged here, because no resolver will be asked for it.
        """
        origin = url.origin()
        if origin in self._origins:
            return self._origins[origin]
        host = url.raw_host or ""
        if self._guard is not None and _is_address(host):
            self._guard.admit(host, url.port or 0, host)
        if len(self._origins) >= _ORIGINS_MAX:
            self._origins.clear()
        proxy = self._proxies.way_to(url.scheme, host)
        self._origins[origin] = proxy
        return proxy

    def _allowing_proxies(self) -> Guard:
        """The guard, widened by the proxies that the operator's environment names."""
        guard = self._guard or Guard()
        return Guard(allow_private=guard.allow_private, allowed_hosts=guard.allowed_hosts | self._proxies.hosts)


class _Streaming:
    """An answer being opened; leaving the block gives the connection back, or closes it if bytes are left."""

    def __init__(self, start: Callable[[], Awaitable[aiohttp.ClientResponse]], request: Request) -> None:
        self._start = start
        self._request = request
        self._answer: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> _Body:
        try:
            # The library's read time-out begins anew with every byte, so a head could drip for ever.
            async with asyncio.timeout(pace.CONNECT_TIMEOUT_S + self._request.timeout_s):
                self._answer = await self._start()
        except _FOREIGN as exc:
            raise _translate(exc, self._request) from exc
        return _Body(self._answer, self._request)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._answer is None:
            return
        if self._answer.content.at_eof():
            self._answer.release()
        else:
            self._answer.close()


class _Body:
    """A `BodyStream` over an answer of aiohttp."""

    def __init__(self, answer: aiohttp.ClientResponse, request: Request) -> None:
        self._answer = answer
        self._request = request
        self.status = answer.status
        self.headers: Mapping[str, str] = _lower(answer.headers)

    async def chunks(self) -> AsyncIterator[bytes]:
        """As `ports.BodyStream.chunks`."""
        read = 0
        watch = Pace(self._request)
        source = self._answer.content.iter_chunked(CHUNK_BYTES).__aiter__()
        try:
            while True:
                watch.wait()
                try:
                    chunk = await source.__anext__()
                except StopAsyncIteration:
                    break
                watch.came(len(chunk))
                read += len(chunk)
                yield chunk
        except _FOREIGN as exc:
            raise _translate(exc, self._request) from exc
        _check_length(self._answer, self._request, read)


class _GuardedResolver(AbstractResolver):
    """Resolves names, and lets pass what the guard admits; each connection goes to an address judged here."""

    def __init__(self, inner: AbstractResolver, guard: Guard) -> None:
        self._inner = inner
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        # One bad address refuses the name: who mixes them is trying something.
        for result in found:
            self._guard.admit(host, port, result["host"])
        return found

    async def close(self) -> None:
        await self._inner.close()


async def _read_capped(answer: aiohttp.ClientResponse, request: Request, body_max: int) -> bytes:
    content = answer.content
    if (answer.content_length or 0) > body_max and request.method != "HEAD":
        raise failures.too_large(request, body_max, answer.content_length)
    body = await content.readany()
    if not content.at_eof():
        pieces, size = [body], len(body)
        while piece := await content.readany():
            size += len(piece)
            if size > body_max:
                raise failures.too_large(request, body_max, None)
            pieces.append(piece)
        body = b"".join(pieces)
    _check_length(answer, request, len(body))
    return body


def _check_length(answer: aiohttp.ClientResponse, request: Request, read: int) -> None:
    promised = answer.content_length
    if promised is None or read == promised or request.method == "HEAD" or answer.status in (204, 304):
        return
    raise BrokenAnswer(f"{name_of(request)}: the answer ended after {read} of {promised} bytes", read=read)


def _translate(exc: Exception, request: Request) -> EngineError:
    """Ours for theirs; the words are those of every transport."""
    match exc:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError():
            return failures.certificate_refused(request)
        case aiohttp.ClientConnectorDNSError():
            return failures.no_address(request)
        case aiohttp.ClientConnectorError():
            return failures.not_connected(request, exc.os_error)
        case aiohttp.ConnectionTimeoutError():
            return failures.no_connection_in_time(request)
        case aiohttp.ClientHttpProxyError():
            return ConnectFailed(f"{name_of(request)}: the proxy answered {exc.status}", reason="proxy")
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return failures.no_url(request)
        case TimeoutError():
            return failures.timed_out(request)
        case aiohttp.ServerDisconnectedError():
            return failures.closed_early(request)
        case aiohttp.ClientPayloadError():
            return failures.cut(request)
        case aiohttp.ClientResponseError():
            return failures.not_http(request)
        case ValueError():
            return failures.not_writable(request)
    return failures.failed_under(request, exc)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    lowered: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        lowered[key] = f"{lowered[key]}, {value}" if key in lowered else value
    return lowered


def _is_address(host: str) -> bool:
    # A colon makes it an address to aiohttp, so a malformed one must not slip by as a name.
    if ":" in host:
        return True
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
