"""Ageing: tells an observer, once per route, that the platform means to withdraw it (contract 12.5).

Reads `Deprecation` (RFC 9745, and its older forms `true` and an HTTP date) and `Sunset` (RFC 8594) of every answer.
Whatever they hold, dates in the past or no dates at all, the exchange itself is never changed and never fails.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime

from engine.contract.dates import field_date_s, http_date_s
from engine.contract.deprecation import links_of
from engine.contract.exchange import Request, Response
from engine.events import Warned
from engine.ports import BodyStream, Clock, Observer, Transport

_SHOWN_MAX = 60
_END_S = 10.0**11  # The year 5138; a calendar has an end.


class AgeingTransport:
    """Wraps `inner`."""

    def __init__(self, inner: Transport, observer: Observer, clock: Clock) -> None:
        self._inner = inner
        self._observer = observer
        self._clock = clock
        self._told: set[str] = set()

    async def send(self, request: Request) -> Response:
        """As the inner transport."""
        response = await self._inner.send(request)
        self._heed(request, response.headers)
        return response

    def stream(self, request: Request) -> AbstractAsyncContextManager[BodyStream]:
        """As the inner transport."""
        return self._streaming(request)

    @asynccontextmanager
    async def _streaming(self, request: Request) -> AsyncIterator[BodyStream]:
        async with self._inner.stream(request) as body:
            self._heed(request, body.headers)
            yield body

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()

    def _heed(self, request: Request, headers: Mapping[str, str]) -> None:
        if "deprecation" not in headers and "sunset" not in headers:
            return
        if request.route in self._told:
            return
        if said := ageing(headers, now_s=self._clock.now_ns() / 1e9):
            self._told.add(request.route)
            name = f"{request.route} ({request.method} {request.template})"
            self._observer.notice(Warned("platform.deprecated", f"{name} {said}"))


def ageing(headers: Mapping[str, str], *, now_s: float) -> str | None:
    """What an answer's headers (lower-case names) say of the end of its route, in words; None when nothing."""
    words: list[str] = []
    if (text := headers.get("deprecation", "").strip()) and text.lower() not in ("false", "?0"):
        words.append("is deprecated" + ("" if text.lower() in ("true", "?1") else _when(text, now_s)))
    if text := headers.get("sunset", "").strip():
        words.append("is to be withdrawn" + _when(text, now_s))
    if not words:
        return None
    links = links_of(headers.get("link", ""))
    successor, page = links.get("successor-version"), links.get("deprecation") or links.get("sunset")
    said = " and ".join(words) + (f"; its successor is {successor}" if successor else "")
    return said + (f"; see {page}" if page else "")


def _when(text: str, now_s: float) -> str:
    at_s = _seconds(text)
    if at_s is None:
        return f" (on a date that cannot be read: {text[:_SHOWN_MAX]!a})"
    day = f"{datetime.fromtimestamp(at_s, UTC):%Y-%m-%d}"
    return f" since {day}" if at_s <= now_s else f" from {day}"


def _seconds(text: str) -> float | None:
    """A Date of a structured field or an HTTP date, as seconds since 1970; None for anything else."""
    at_s = field_date_s(text) if text.startswith("@") else http_date_s(text)
    return at_s if at_s is not None and abs(at_s) < _END_S else None
