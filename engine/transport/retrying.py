"""Retrying: sends again what may be sent again, as `retry.decide` says, inside a budget of retries.

Only requests that cannot do harm twice: safe methods, and those with an Idempotency-Key. Others are repeated
only where the first try had no effect (no connection was made, or a 429). Each try is a span of its own.
The last answer or error is handed on as it is; bodies of streams are for their reader to resume.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import msgspec

from engine.contract.exchange import Request, Response, Trace
from engine.contract.problem import refusal
from engine.errors import ConnectFailed, EngineError, Throttled
from engine.ports import BodyStream, Clock, Transport
from engine.retry import Again, Policy, Verdict, decide
from engine.transport.patience import Patience, out_of_patience
from engine.transport.retry_budget import RetryBudget

_SAFE = ("GET", "HEAD", "OPTIONS")
_KEY = "Idempotency-Key"
# While the budget is spent: how often to look again. Its ring moves on once a second.
_BUDGET_NAP_S = 0.5


class Waiting(msgspec.Struct, frozen=True):
    """Which requests an outage is waited out for, instead of a few tries; and for how long."""

    patience: Patience
    means: Callable[[str], bool]


class RetryingTransport:
    """Wraps `inner`. `seed` makes the jitter repeatable.

    A request whose route `waiting` means is tried for as long as its patience allows, and then fails with
    `OutOfPatience`; any other up to `policy.attempts` times. Neither takes more retries than `budget` gives: the first
    waits for it, the others give up.
    """

    def __init__(
        self,
        inner: Transport,
        clock: Clock,
        *,
        policy: Policy | None = None,
        seed: int | None = None,
        waiting: Waiting | None = None,
        budget: RetryBudget | None = None,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._policy = policy or Policy()
        self._random = random.Random(seed)
        self._waiting = waiting
        self._budget = budget or RetryBudget()

    async def send(self, request: Request) -> Response:
        """As the inner transport, tried again where that may help; `resend` counts from the request's own.

        Raises:
            OutOfPatience: the platform did not come back in time. PatienceEnded: the run is to stop.
        """
        waiting = self._waiting
        patience = waiting.patience if waiting is not None and waiting.means(request.route) else None
        self._budget.sent(self._clock.monotonic())
        attempt, failed_at = 1, 0.0
        while True:
            response: Response | None = None
            try:
                response = await self._inner.send(request)
                if response.status < 400:
                    return response
                error: EngineError = self._refusal(request, response)
            except EngineError as exc:
                error = exc
            failed_at = failed_at or self._clock.monotonic()
            verdict = self._verdict(request, error, 1 if patience else attempt)
            if isinstance(verdict, Again) and patience is not None:
                await self._wait_patiently(patience, failed_at, attempt, error)
            elif isinstance(verdict, Again) and self._budget.spend(self._clock.monotonic()):
                await self._clock.sleep(verdict.after_s)
            elif response is not None:
                return response
            else:
                raise error
            attempt += 1
            request = again(request)

    def stream(self, request: Request) -> AbstractAsyncContextManager[BodyStream]:
        """As the inner transport, tried once: only the reader knows from where to go on."""
        return self._inner.stream(request)

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def _wait_patiently(self, patience: Patience, failed_at: float, attempt: int, error: EngineError) -> None:
        """Return when the request may be tried again."""
        # The pauses stop growing before the last attempt of the policy: patience, not a count, ends this.
        verdict = decide(error, min(attempt, self._policy.attempts - 1), self._policy, jitter=self._random.random())
        after_s = verdict.after_s if isinstance(verdict, Again) else self._policy.first_s
        ends_at = failed_at + patience.seconds
        if self._clock.monotonic() + after_s > ends_at:
            raise out_of_patience(error, patience) from error
        await patience.pause(after_s)
        while not self._budget.spend(self._clock.monotonic()):
            if self._clock.monotonic() > ends_at:
                raise out_of_patience(error, patience) from error
            await patience.pause(_BUDGET_NAP_S * (1 + self._random.random()))

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
