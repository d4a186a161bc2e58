"""Call: one question to the platform, and its answer or its refusal as a value of ours.

Lays a question out, names the span, shows the credential to our own hosts and nobody else, and reads what
came back. Which token, how often, and how fast are decided elsewhere (`session`, the transports). Bodies of
token requests never reach a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec

from engine.client.challenge import explain
from engine.codec.payload import decode, encode
from engine.contract.exchange import Request, Response, Trace
from engine.contract.problem import OAuthError, refusal
from engine.contract.route import Auth, Host, Nothing, Route, Text, Wire, lay_out
from engine.errors import BrokenAnswer, ConfigError, EngineError, PlatformError, RecordError, Refused
from engine.loopback import is_loopback
from engine.ports import Clock, Transport
from engine.settings import Secret
from engine.version import __version__

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")

AGENT = f"engine/{__version__}"
_TRACE_ID_CHARS = 32
# RFC 6749 section 5.2. Anything else in an error of the token endpoint may echo what we sent it.
_OAUTH_ERRORS = frozenset(
    ("invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type",
     "invalid_scope")
)  # fmt: skip


class Answered(msgspec.Struct, Generic[Answer], frozen=True, gc=False):
    """An answer with what came around it.

    `trace_id` is the platform's X-Argus-Trace-ID, None when it sent none. `answer` is None only after a 204, or the
    304 that somebody asked for.
    """

    answer: Answer
    status: int
    headers: Mapping[str, str]
    trace_id: str | None


class Origins(msgspec.Struct, frozen=True, kw_only=True):
    """Base URLs, without a path. `api` is the sandbox's own when we work in the sandbox.

    `sandbox` is where routes go that only the sandbox has; `docs` where the documents are.
    """

    auth: str
    api: str
    sandbox: str | None = None
    docs: str | None = None

    def of(self, route: Route[Any, Any]) -> str:
        """The base URL a route is asked at.

        Raises:
            ConfigError: it is served by a host that is not configured.
        """
        host = route.hosts[0]
        # The host that is asked most comes first; nothing is built for a question.
        if host is Host.API:
            return self.api
        origin = self.auth if host is Host.AUTH else self.sandbox if host is Host.SANDBOX else self.docs
        if origin is None:
            raise ConfigError(
                f"{route.name} is served by the {host.value} host only, which is not configured",
                hint='set profile = "sandbox", or the host, in config.toml',
            )
        return origin


class Line:
    """Asks, without knowing who it is: the credential comes with each call.

    Every base URL is https, or http on loopback; a token is never sent anywhere else.
    """

    def __init__(self, transport: Transport, origins: Origins, clock: Clock, *, timeout_s: float = 30.0) -> None:
        for origin in (origins.auth, origins.api, origins.sandbox, origins.docs):
            _check_origin(origin)
        self._transport = transport
        self._origins = origins
        self._clock = clock
        self._timeout_s = timeout_s

    async def exchange(
        self, route: Route[Any, Answer], wire: Wire, *, token: Secret | None = None, trace: Trace | None = None
    ) -> Answered[Answer]:
        """Send a question that is laid out already, as a child span of `trace` or in a trace of its own.

        Raises:
            PlatformError: the platform refused. BrokenAnswer: the answer is not of the promised form.
            TransportError: no whole answer came.
        """
        request = self._request(route, wire, token, trace)
        response = await self._transport.send(request)
        if not _is_success(route, wire, response):
            raise self._refusal(route, response)
        return Answered(_read(route, response), response.status, response.headers, trace_id_of(response.headers))

    def _request(self, route: Route[Any, Any], wire: Wire, token: Secret | None, trace: Trace | None) -> Request:
        _check_path(route, wire.target)
        headers = {
            "Accept": ", ".join(route.media),
            "Accept-Encoding": "identity",
            "User-Agent": AGENT,
            "traceparent": (trace.child() if trace else Trace.new()).traceparent,
            **wire.headers,
        }
        if token is not None:
            headers["Authorization"] = f"Bearer {token.reveal()}"
        return Request(
            route.method,
            self._origins.of(route) + wire.target,
            headers,
            wire.body,
            route=route.name,
            template=route.path,
            timeout_s=self._timeout_s,
            parent_span_id=trace.span_id if trace else None,
        )

    def _refusal(self, route: Route[Any, Any], response: Response) -> PlatformError:
        body = _without_words(response.body) if route.auth is Auth.CLIENT else response.body
        now_s = self._clock.now_ns() / 1e9
        return refusal(route.name, response.status, response.headers, body, now_s=now_s)


class TokenSource(Protocol):
    """Where a `Caller` gets its credential, and where it says that one was refused."""

    async def token(self) -> Secret:
        """A token that is good now."""

    def reject(self, token: Secret) -> None:
        """The platform answered 401 to this token: do not hand it out again."""

    def shut(self, error: PlatformError) -> None:
        """It answered 401 to the next one too, which was fresh: hand out none for a while."""


class Caller:
    """Asks as somebody: each route with the credential its host takes.

    `live` is for the live hosts, `sandbox` for the sandbox; `is_sandbox` says which of the two the API host is.
    """

    def __init__(
        self, line: Line, *, live: TokenSource | None, sandbox: TokenSource | None, is_sandbox: bool = False
    ) -> None:
        self._line = line
        self._live = live
        self._sandbox = sandbox
        self._is_sandbox = is_sandbox

    async def call(self, route: Route[Ask, Answer], ask: Ask, *, trace: Trace | None = None) -> Answered[Answer]:
        """Ask one route.

        Raises:
            PlatformError: refused. TransportError: no whole answer. TrustError: our own token is not good.
            ConfigError: no credentials, or no host, for this route.
        """
        return await self.call_raw(route, lay_out(route, ask), trace=trace)

    async def call_raw(self, route: Route[Any, Answer], wire: Wire, *, trace: Trace | None = None) -> Answered[Answer]:
        """As `call`, for a question whose body is encoded already. A 401 is answered by one fresh token."""
        source = self._source(route)
        if source is None:
            return await self._line.exchange(route, wire, trace=trace)
        token = await source.token()
        try:
            return await self._line.exchange(route, wire, token=token, trace=trace)
        except Refused as exc:
            explain(exc)
            if exc.status != 401:
                raise
            source.reject(token)
            fresh = await source.token()
            if fresh == token:
                source.shut(exc)
                raise
        try:
            return await self._line.exchange(route, wire, token=fresh, trace=trace)
        except Refused as exc:
            explain(exc)
            if exc.status == 401:
                source.shut(exc)
            raise

    def _source(self, route: Route[Any, Any]) -> TokenSource | None:
        if route.auth in (Auth.PUBLIC, Auth.CLIENT):
            return None
        on_sandbox = route.hosts[0] is Host.SANDBOX or (self._is_sandbox and route.hosts[0] is Host.API)
        source = self._sandbox if on_sandbox else self._live
        if source is None:
            need = "a sandbox token" if on_sandbox else "client_id and client_secret"
            raise ConfigError(f"{route.name} needs {need}", hint=f"set {need} in config.toml")
        return source


def trace_id_of(headers: Mapping[str, str]) -> str | None:
    """The platform's trace id, if it sent one that is one (contract 1.7: optional, never an error)."""
    text = headers.get("x-argus-trace-id", "").lower()
    is_one = len(text) == _TRACE_ID_CHARS and all(char in "0123456789abcdef" for char in text)
    return text if is_one else None


def _is_success(route: Route[Any, Any], wire: Wire, response: Response) -> bool:
    status = response.status
    if status >= 400:
        # Such an answer is the route's own only in one of its media types: GraphQL tells its errors so.
        return status in route.status and _media_type(response) in route.media
    if status == 304:
        # It is an answer only to a question that named an ETag; to any other one the document is missing.
        return status in route.status and "If-None-Match" in wire.headers
    return status in route.status or 200 <= status < 300


def _read(route: Route[Any, Answer], response: Response) -> Answer:
    if route.redirect or (route.answer is Nothing and not response.body):
        return route.answer()
    if response.status in (204, 304) and response.status in route.status:
        return None  # type: ignore[return-value]  # said in `Answered`; the one route that may does look
    if response.headers.get("content-encoding", "identity") != "identity":
        encoding = response.headers["content-encoding"][:20]
        raise BrokenAnswer(f"{route.name}: the answer is encoded as {encoding!a}, which was not asked for")
    try:
        if _is_text(route, response):
            return Text(_text_of(response.body), _media_type(response))  # type: ignore[return-value]  # said by `route.media`
        return decode(response.body, route.answer)
    except RecordError as exc:
        raise BrokenAnswer(
            f"{route.name}: the answer is not what the contract says: {exc.message}",
            status=response.status,
            trace_id=trace_id_of(response.headers),
        ) from exc


def _media_type(response: Response) -> str:
    return response.headers.get("content-type", "").partition(";")[0].strip().lower()


def _is_text(route: Route[Any, Any], response: Response) -> bool:
    """Whether an answer is text: the route gives nothing else, or it was asked for another form than JSON."""
    if len(route.media) == 1:
        # Most routes speak JSON alone, those of jobs among them: nothing to look at for each answer.
        return route.answer is Text
    media_type = _media_type(response)
    return route.answer is Text or (media_type in route.media and not media_type.endswith("json"))


def _text_of(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as exc:
        raise RecordError("the text is not UTF-8") from exc


def _without_words(body: bytes) -> bytes:
    """An error of the token endpoint, reduced to its code if it is one of RFC 6749."""
    try:
        said = decode(body, OAuthError, max_bytes=64 * 1024).error
    except EngineError:
        return b""
    return encode(OAuthError(said)) if said in _OAUTH_ERRORS else b""


def _check_path(route: Route[Any, Any], target: str) -> None:
    if target == route.path and "{" not in target:
        return  # Nothing of it came from anybody but us.
    # An empty id would ask for the list instead, and dots for something else altogether.
    for segment in target.partition("?")[0].split("/")[1:]:
        if segment in ("", ".", "..") or segment.startswith("%7B"):
            raise RecordError(f"{route.name}: a member of the path {route.path} is empty or made of dots")


def _check_origin(origin: str | None) -> None:
    if origin is None:
        return
    parts = urlsplit(origin)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not is_safe or not parts.hostname or parts.path or parts.query or parts.username:
        shown = f"{parts.scheme}://{parts.hostname or ''}"
        raise ConfigError(
            f"a base URL is https://host, or http on loopback, without a path; not {shown}",
            hint="check auth_url and api_url in config.toml",
        )
