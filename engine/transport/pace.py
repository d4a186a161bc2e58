"""Pace: what every transport holds its connections to, in seconds and bytes; and a watch on bodies that crawl."""

from __future__ import annotations

import asyncio

from engine.contract.exchange import Request
from engine.errors import TimedOut
from engine.transport.failures import name_of

BODY_MAX = 16 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 10.0
KEEPALIVE_S = 30.0
# What a peer may take to answer the goodbye of TLS, before the socket is closed without.
GOODBYE_S = 1.0
# A stream that brings less than this for as long as its time-out is dead, however regularly it drips.
RATE_MIN = 1024


class Pace:
    """Notices a body that never falls silent and never gets anywhere (faults F39).

    `wait` before each piece is waited for, `came` when it is there: time in which nobody reads does not count.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._time = asyncio.get_running_loop().time
        self._since = 0.0
        self._waited_s = 0.0
        self._came = 0

    def wait(self) -> None:
        """The next piece is waited for from now on."""
        self._since = self._time()

    def came(self, size: int) -> None:
        """So many bytes came.

        Raises:
            TimedOut: too few in too long a time.
        """
        self._waited_s += self._time() - self._since
        self._came += size
        window_s = self._request.timeout_s
        if self._waited_s < window_s:
            return
        if self._came < RATE_MIN * window_s:
            raise TimedOut(f"{name_of(self._request)}: only {self._came} bytes came in {self._waited_s:.1f} s")
        self._waited_s, self._came = 0.0, 0
