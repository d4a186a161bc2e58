"""A lane: how many requests of one sort may be on the wire at once. An integer and a deque on the loop.

Shrinks by a tenth when the platform pushes back and grows by one per round of successes, below a ceiling.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType


class Lane:
    """`async with lane:` holds one slot. FIFO, so nobody starves."""

    def __init__(self, name: str, *, ceiling: int, start: int | None = None) -> None:
        self.name = name
        self.ceiling = max(1, ceiling)
        self.in_use = 0
        self._limit = float(min(self.ceiling, start or self.ceiling))
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """Slots there are now."""
        return max(1, int(self._limit))

    @property
    def waiting(self) -> int:
        """How many wait for a slot."""
        return len(self._waiting)

    async def acquire(self) -> None:
        """Take a slot, waiting for one if need be."""
        if self.in_use < self.limit and not self._waiting:
            self.in_use += 1
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
        """Give a slot back."""
        self.in_use -= 1
        self._hand_out()

    def pushed_back(self) -> None:
        """The platform asked for less."""
        self._limit = max(1.0, self._limit * 0.9)

    def went_well(self) -> None:
        """A request was answered without push-back."""
        if self._limit < self.ceiling:
            self._limit = min(float(self.ceiling), self._limit + 1.0 / self._limit)
            self._hand_out()

    def open(self) -> None:
        """Stop limiting: whoever waits goes on."""
        self.ceiling = 1 << 30
        self._limit = float(self.ceiling)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and self.in_use < self.limit:
            future = self._waiting.popleft()
            if not future.done():
                self.in_use += 1
                future.set_result(None)

    async def __aenter__(self) -> None:
        await self.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
