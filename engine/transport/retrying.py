"""Retrying: sends again what may be sent again, as `retry.decide` says.

Only requests that cannot do harm twice: safe methods, and those with an Idempotency-Key. Others are repeated
only where the first try had no effect (no connection was made, or a 429). Each try is a span of its own.
The last answer or error is handed on as it is; bodies of streams are for their reader to resume.
"""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager

import msgspec

from engine.contract.exchange import Request, Response, Trace
from engine.contract.problem import refusal
from engine.errors import ConnectFailed, EngineError, Throttled
from engine.ports import BodyStream, Clock, Transport
from engine.retry import Again, Policy, Verdict, decide

_SAFE = ("GET", "HEAD", "OPTIONS")
_KEY = "Idempotency-Key"


class RetryingTransport:
    """Wraps `inner`. `seed` makes the jitter repeatable."""

    def __init__(
        self, inner: Transport, clock: Clock, *, policy: Policy | None = None, seed: int | None = None
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._policy = policy or Policy()
        self._random = random.Random(seed)

    async def send(self, request: Request) -> Response:
        """As the inner transport, tried up to `policy.attempts` times; `resend` counts from the request's own."""
        attempt = 1
        while True:
            response: Response | None = None
            try:
                response = await self._inner.send(request)
                if response.status < 400:
                    return response
                error: EngineError = self._refusal(request, response)
            except EngineError as exc:
                error = exc
            match self._verdict(request, error, attempt):
                case Again(after_s):
                    await self._clock.sleep(after_s)
                case _ if response is not None:
                    return response
                case _:
                    raise error
            attempt += 1
            request = again(request)

    def stream(self, request: Request) -> AbstractAsyncContextManager[BodyStream]:
        """As the inner transport, tried once: only the reader knows from where to go on."""
        return self._inner.stream(request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    def _refusal(self, request: Request, response: Response) -> EngineError:
        return refusal(
            request.route,
            response.status,
            response.headers,
            response.body,
            now_s=self._clock.now_ns() / 1e9,
        )

    def _verdict(self, request: Request, error: EngineError, attempt: int) -> Verdict | None:
        """None: not to be repeated."""
        if not (is_repeatable(request) or had_no_effect(error)):
            return None
        return decide(error, attempt, self._policy, jitter=self._random.random())


def is_repeatable(request: Request) -> bool:
    """Whether sending it twice does no more than sending it once (RFC 9110 section 9.2.1, contract 9.2)."""
    return request.method in _SAFE or _KEY in request.headers


def had_no_effect(error: EngineError) -> bool:
    """Whether a failed request certainly did nothing: no connection was made, or it was turned away at the door."""
    return isinstance(error, ConnectFailed | Throttled)


def again(request: Request) -> Request:
    """The same request as a new try: counted, and with a span of its own under the same parent."""
    headers = request.headers
    if span := Trace.parse(headers.get("traceparent")):
        headers = {**headers, "traceparent": span.child().traceparent}
    return msgspec.structs.replace(request, headers=headers, resend=request.resend + 1)
