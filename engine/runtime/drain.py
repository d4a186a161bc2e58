"""Being asked to stop: one flag that the whole run reads, and waits for."""

from __future__ import annotations

import asyncio


class StopFlag:
    """Set once by a signal; a run then takes nothing new, finishes what is on the wire, and commits."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    @property
    def is_set(self) -> bool:
        """Whether a stop was asked for."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask for a stop; safe to call again."""
        self._event.set()

    async def wait(self) -> None:
        """Wait until a stop is asked for."""
        await self._event.wait()
