"""Slots: a number of places, taken in turn. An integer and a deque on the loop.

What bounds jobs at the platform and requests on the wire; how many places there should be is decided by
whoever owns them.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """First come, first served, so nobody starves. `limit` may be moved at any time."""

    def __init__(self, limit: int) -> None:
        self._limit = max(1, limit)
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.in_use = 0

    @property
    def limit(self) -> int:
        """Places there are now. Those already taken beyond it are not taken back."""
        return self._limit

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether `acquire` would not wait."""
        return self.in_use < self._limit and not self._waiting

    def take(self) -> bool:
        """Take a place if that needs no waiting; whether it was taken."""
        if self.in_use >= self._limit or self._waiting:
            return False
        self.in_use += 1
        return True

    async def acquire(self) -> None:
        """Take a place, waiting for one if need be."""
        if self.take():
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Give a place back."""
        self.in_use -= 1
        self._hand_out()

    def move(self, limit: int) -> None:
        """Have this many places from now on."""
        self._limit = max(1, limit)
        self._hand_out()

    def open(self) -> None:
        """Stop limiting: whoever waits goes on."""
        self.move(1 << 30)

    def _hand_out(self) -> None:
        while self._waiting and self.in_use < self._limit:
            future = self._waiting.popleft()
            if not future.done():
                self.in_use += 1
                future.set_result(None)
