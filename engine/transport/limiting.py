"""Limiting: one rate ceiling for the whole account, and one pause when the platform asks for it.

Plain numbers on the loop: each request reserves the next free moment and sleeps until then, so nobody
queues at a lock and nothing is handed out twice. How many requests may be under way is not its matter.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from engine.contract.exchange import Request, Response
from engine.contract.problem import retry_after_s
from engine.events import Waited
from engine.ports import BodyStream, Clock, Observer, Transport

PAUSE_MAX_S = 300.0
_LIMIT = re.compile(r"(?:^|[;,\s])([rt])\s*=\s*(\d{1,9})(?=\s*(?:[;,]|$))")


class LimitingTransport:
    """Wraps `inner` under a ceiling of `requests` per second (None: none), with bursts of `burst` at once.

    A 429 or 503 that names a `Retry-After`, and a `RateLimit` header with nothing left, hold back every
    request until then, by 300 s at most: a hostile figure must not park the run.
    """

    def __init__(
        self,
        inner: Transport,
        clock: Clock,
        *,
        requests: float | None = None,
        burst: int | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._inner = inner
        self._clock = clock
        self._observer = observer
        self._interval_s = 1.0 / requests if requests else 0.0
        # A tenth of a second's worth at once: enough not to stutter, too little to offend.
        self._burst_s = self._interval_s * ((burst or max(1, int((requests or 0) / 10))) - 1)
        self._reserved_to = -1e9
        self._paused_to = -1e9

    async def send(self, request: Request) -> Response:
        """As the inner transport, when it is this request's turn."""
        await self._turn()
        response = await self._inner.send(request)
        self._heed(response.status, response.headers)
        return response

    def stream(self, request: Request) -> AbstractAsyncContextManager[BodyStream]:
        """As the inner transport, when it is this request's turn; the body's bytes are not counted."""
        return self._streaming(request)

    @asynccontextmanager
    async def _streaming(self, request: Request) -> AsyncIterator[BodyStream]:
        await self._turn()
        async with self._inner.stream(request) as body:
            self._heed(body.status, body.headers)
            yield body

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    async def _turn(self) -> None:
        now = self._clock.monotonic()
        start = max(now, self._reserved_to - self._burst_s)
        self._reserved_to = max(now, self._reserved_to) + self._interval_s
        if start <= now and self._paused_to <= now:
            return
        if start > now:
            await self._clock.sleep(start - now)
        # Again after each nap: the pause may have been made longer meanwhile.
        while (left_s := self._paused_to - self._clock.monotonic()) > 0:
            await self._clock.sleep(left_s)
        if self._observer is not None:
            self._observer.notice(Waited("budget", self._clock.monotonic() - now))

    def _heed(self, status: int, headers: Mapping[str, str]) -> None:
        asked_s = 0.0
        if status in (429, 503):
            asked_s = retry_after_s(headers, now_s=self._clock.now_ns() / 1e9) or 0.0
        if "ratelimit" in headers:
            asked_s = max(asked_s, exhausted_for_s(headers["ratelimit"]))
        if asked_s > 0:
            until = self._clock.monotonic() + min(asked_s, PAUSE_MAX_S)
            self._paused_to = max(self._paused_to, until)


def exhausted_for_s(ratelimit: str) -> float:
    """Seconds until an exhausted quota is filled again, by a `RateLimit` field (IETF draft); 0 if not exhausted."""
    members = dict(_LIMIT.findall(ratelimit))
    return float(members.get("t", 0)) if members.get("r") == "0" else 0.0
