"""Being asked to stop: one flag that the whole run reads, and waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class StopFlag:
    """Set once by a signal; a run then takes nothing new, finishes what is on the wire, and commits."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._then: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask for a stop; safe to call again."""
        self._event.set()
        while self._then:
            self._then.pop()()

    def then(self, act: Callable[[], None]) -> None:
        """Have `act` called once a stop is asked for; at once if it was."""
        self._then.append(act)
        if self.is_set:
            self.request()

    async def wait(self) -> None:
        """Wait until a stop is asked for."""
        await self._event.wait()
