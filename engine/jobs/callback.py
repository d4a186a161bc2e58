"""The receiver of completion callbacks: proven over their raw bytes, stored, answered, and only then told on.

A callback is a hint. What is told says that a job is worth asking about; how it ended is for a GET to say.
Whoever sends something else, for whatever reason, gets one and the same answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from engine.clock import SystemClock
from engine.codec.canonical import canonical
from engine.codec.payload import decode
from engine.contract.exchange import Trace, new_span_id
from engine.contract.jobs import Callback
from engine.contract.profile import PROFILE
from engine.errors import BadSignature, ConfigError, EngineError, RecordError
from engine.events import CallbackReceived, SpanEnded, Warned
from engine.pipeline.callback import host_and_port
from engine.ports import Clock, Observer
from engine.settings import Secret
from engine.store.notices import Notice, Notices
from engine.transport.incoming import Incoming, Outgoing
from engine.transport.listener import Listener
from engine.trust.strict import json_object
from engine.trust.webhook import FAMILIES, as_standard, standard_key, verify_callback, verify_standard

CALLBACK_PATH = "/callbacks"
_BODY_MAX = 64 * 1024
_TEXT_MAX = 256
_STANDARD_HEADERS = frozenset(f"{family}-{part}" for family in FAMILIES for part in ("id", "timestamp", "signature"))
_REFUSED = Outgoing(status=401, headers={"WWW-Authenticate": "X-Argus-Signature"})
_TAKEN = Outgoing(status=204)
# Any answer but a 2xx brings it again (contract 6.6), so nothing is lost while our disk is full.
_UNSAVED = Outgoing(status=503, headers={"Retry-After": "5"})


class ReceiverDoor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a receiver listens and what it lets in.

    `paths` are what may be posted to, as they are on the wire. `canonical` allows a second try of the signature over
    the RFC 8785 form of a body, which is tried anyway where the platform signs no other (Q39).
    `header_timeout_s` ends connections that never finish their head.
    """

    host: str = "127.0.0.1"
    port: int = 0
    paths: tuple[str, ...] = (CALLBACK_PATH,)
    canonical: bool = False
    header_timeout_s: float = 10.0
    connections_max: int = 1000


class Receiver:
    """Takes signed job callbacks over HTTP (contract 9.7); use as an async context manager.

    Each is verified under any of `secrets` (two while one replaces the other), and under its `webhook-*` or `svix-*`
    headers where it has them, at most five minutes from the time they sign. It is made durable in `keep`, a ledger's
    notices or the path of a file of its own, before it is answered with 204. `tell` is then called, on the loop,
    once for each job and status, however often it is sent; after a crash it may never be called for what was
    stored, so ask `earlier()` first. `door` is HOST:PORT, port 0 for any free one. TLS ends in front of it.

    A secret is used as the contract profile says (Q38), as its UTF-8 bytes; for `webhook-*` headers one that begins
    with `whsec_` is Base64.
    """

    def __init__(
        self,
        secrets: Sequence[Secret],
        keep: Notices | Path,
        tell: Callable[[Notice], None] | None = None,
        *,
        door: ReceiverDoor | str = "127.0.0.1:0",
        clock: Clock | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Opens nothing yet.

        Raises:
            ConfigError: there is no secret, or an empty or malformed one; `door` is no HOST:PORT.
        """
        if not secrets or not all(secrets):
            raise ConfigError("a receiver needs its callback secret, and no empty one", hint="set [callback] secrets")
        self._secrets = tuple(secrets)
        self._standard = tuple(as_standard(secret) for secret in secrets)
        for secret in self._standard:
            standard_key(secret)
        self._keep = keep
        self._notices = keep if isinstance(keep, Notices) else None
        self._door = _door_at(door) if isinstance(door, str) else door
        self._clock = clock or SystemClock()
        self._observer = observer
        self._listener = Listener(
            self._answer,
            host=self._door.host,
            port=self._door.port,
            body_max=_BODY_MAX,
            header_timeout_s=self._door.header_timeout_s,
            connections_max=self._door.connections_max,
        )
        self.tell = tell
        self.trace: Trace | None = None

    async def start(self) -> None:
        """Open the store, bind and listen.

        Raises:
            ConfigError: the address is taken. LedgerBroken, OutputError: the file cannot be used.
        """
        if self._notices is None and isinstance(self._keep, Path):
            self._notices = Notices.open_alone(self._keep)
        try:
            await self._listener.start()
        except ConfigError:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Stop listening and let what is being answered finish; a file of its own is closed."""
        await self._listener.aclose()
        if self._notices is not None and isinstance(self._keep, Path):
            self._notices.close()
            self._notices = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def url(self) -> str:
        """Where it listens, as a loopback caller writes it; empty before `start`."""
        origin = self._listener.origin.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
        return origin and origin + self._door.paths[0]

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._listener.connections

    def earlier(self, *, limit: int = 10_000) -> list[Notice]:
        """What has been stored, newest first: also by processes before this one."""
        return self._open_notices().stored(limit=limit)

    def _open_notices(self) -> Notices:
        if self._notices is None:
            raise RuntimeError("the receiver is not started")
        return self._notices

    async def _answer(self, incoming: Incoming) -> Outgoing:
        started, received_ns = self._clock.monotonic(), self._clock.now_ns()
        digest = hashlib.sha256(incoming.body).hexdigest()
        try:
            notice = self._read(incoming, received_ns)
        except EngineError as exc:
            # Not the message: it may quote what the caller sent.
            self._say(CallbackReceived("refused", digest, self._clock.monotonic() - started, reason=exc.code))
            return _REFUSED
        try:
            is_news = await self._open_notices().keep(notice)
        except EngineError as exc:
            self._say(Warned("callback.unsaved", f"a callback could not be stored, it will come again: {exc.message}"))
            self._say(_received("unsaved", notice, self._clock.monotonic() - started))
            return _UNSAVED
        self._say(_received("news" if is_news else "duplicate", notice, self._clock.monotonic() - started))
        self._say(self._span(notice, is_news=is_news))
        if is_news and self.tell is not None:
            self.tell(notice)
        return _TAKEN

    def _read(self, incoming: Incoming, received_ns: int) -> Notice:
        """A request as the notice it proves to be.

        Raises:
            EngineError: it is not for us, not signed, signed too long ago, or not a callback.
        """
        if incoming.method != "POST" or incoming.path not in self._door.paths:
            raise RecordError("not posted to the path of callbacks")
        headers = incoming.headers
        body = self._proven(incoming.body, headers)
        delivery_id = None
        if not _STANDARD_HEADERS.isdisjoint(headers):
            delivery_id = verify_standard(body, headers, self._standard, now_s=received_ns / 1e9)
        said = decode(body, Callback, max_bytes=_BODY_MAX, max_depth=16)
        trace_id = said.trace_id or headers.get("x-argus-trace-id")
        if not said.id or max(map(len, (said.id, said.status, said.kind, trace_id or ""))) > _TEXT_MAX:
            raise RecordError("a member of the callback is empty or too long")
        if headers.get("x-argus-job-id", said.id) != said.id:
            raise BadSignature("the header X-Argus-Job-ID names another job than the signed body")
        return Notice(
            remote_id=said.id,
            status=said.status,
            kind=said.kind,
            trace_id=trace_id,
            body_sha256=hashlib.sha256(body).hexdigest(),
            received_ns=received_ns,
            delivery_id=delivery_id,
            sender=Trace.parse(headers.get("traceparent")),
        )

    def _proven(self, body: bytes, headers: Mapping[str, str]) -> bytes:
        """The bytes whose signature was proven: those received, or their canonical form where that is allowed.

        The canonical form is what is handed on then, because only it was signed. Texts that two readers could take
        for different values (a name twice, numbers beyond I-JSON) have none.
        """
        try:
            verify_callback(body, headers, self._secrets)
        except BadSignature:
            if not self._door.canonical and PROFILE.callback_signs != "canonical":
                raise
            body = canonical(json_object(body, what="callback"))
            verify_callback(body, headers, self._secrets)
        return body

    def _span(self, notice: Notice, *, is_news: bool) -> SpanEnded:
        """Our side of the delivery: a span of the run, that joins the job's trace by a link to the sender's span."""
        here = self.trace or Trace.new()
        return SpanEnded(
            trace_id=here.trace_id,
            span_id=new_span_id(),
            parent_span_id=here.span_id if self.trace else None,
            name="job.callback",
            kind="server",
            start_ns=notice.received_ns,
            end_ns=max(notice.received_ns, self._clock.now_ns()),
            attributes={
                "engine.job.remote_id": notice.remote_id,
                "engine.job.status": notice.status,
                "engine.callback.is_news": is_news,
            },
            links=((notice.sender.trace_id, notice.sender.span_id),) if notice.sender else (),
        )

    def _say(self, event: CallbackReceived | SpanEnded | Warned) -> None:
        if self._observer is not None:
            self._observer.notice(event)


def _door_at(listen: str) -> ReceiverDoor:
    try:
        host, port = host_and_port(listen)
    except ValueError:
        raise ConfigError(f"{listen!r} is no HOST:PORT to listen on", hint='write "127.0.0.1:8443"') from None
    return ReceiverDoor(host=host, port=port)


def _received(verdict: str, notice: Notice, took_s: float) -> CallbackReceived:
    return CallbackReceived(
        verdict,
        notice.body_sha256,
        took_s,
        remote_id=notice.remote_id,
        status=notice.status,
        delivery_id=notice.delivery_id,
    )
