"""Flight: one errand at a time, its outcome shared by everybody who asked while it was under way.

What keys and tokens are fetched through, so that a hundred callers cost one request. It decides nothing
about when to fetch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio

from engine.errors import EngineError

T = TypeVar("T")


class Flight(Generic[T]):
    """Runs `errand` for the first caller; callers that come meanwhile wait for the same outcome.

    The errand runs in its first caller's task: nothing is left behind when that one is cancelled, and the
    next in line starts it again. A failure is shared like a success.
    """

    def __init__(self, errand: Callable[[], Awaitable[T]]) -> None:
        self._errand = errand
        self._lock = anyio.Lock()
        self._landings = 0
        self._error: EngineError | None = None
        self._value: T

    @property
    def is_under_way(self) -> bool:
        """Whether the errand is running, so that joining costs nothing more."""
        return self._lock.locked()

    async def join(self) -> T:
        """The outcome of the errand under way, or of a new one.

        Raises:
            EngineError: whatever the errand raised.
        """
        before = self._landings
        async with self._lock:
            if self._landings == before:
                await self._fly()
            if self._error is not None:
                raise self._error
            return self._value

    async def _fly(self) -> None:
        try:
            self._value = await self._errand()
            self._error = None
        except EngineError as exc:
            self._error = exc
        self._landings += 1
