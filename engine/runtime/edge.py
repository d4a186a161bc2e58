"""An edge: a bounded stream between two stages, counted in bytes, so that back-pressure is in bytes too."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Edge(Generic[T]):
    """Many takers, one or more givers. An item larger than the bound passes alone."""

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._items: deque[tuple[T, int]] = deque()
        self.held_bytes = 0
        self._is_closed = False
        self._takers: deque[asyncio.Future[None]] = deque()
        self._givers: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._items)

    async def put(self, item: T, item_bytes: int) -> None:
        """Hand on an item, waiting for room."""
        while self._items and self.held_bytes + item_bytes > self._bytes_max:
            await self._wait(self._givers)
        self._items.append((item, item_bytes))
        self.held_bytes += item_bytes
        _wake(self._takers)

    def put_now(self, item: T) -> None:
        """Hand on an item that weighs nothing, without waiting."""
        self._items.append((item, 0))
        _wake(self._takers)

    async def take(self) -> T | None:
        """The next item; None once the edge is closed and empty."""
        while not self._items:
            if self._is_closed:
                return None
            await self._wait(self._takers)
        item, item_bytes = self._items.popleft()
        self.held_bytes -= item_bytes
        _wake(self._givers)
        return item

    def close(self) -> None:
        """Nothing more comes; what is inside is still taken."""
        self._is_closed = True
        while self._takers:
            _wake(self._takers)

    def drain(self) -> list[T]:
        """Take out everything at once, without waiting."""
        items = [item for item, _ in self._items]
        self._items.clear()
        self.held_bytes = 0
        while self._givers:
            _wake(self._givers)
        return items

    async def _wait(self, line: deque[asyncio.Future[None]]) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                _wake(line)
            raise


def _wake(line: deque[asyncio.Future[None]]) -> None:
    while line:
        future = line.popleft()
        if not future.done():
            future.set_result(None)
            return
