"""Patience: how long an outage is waited out, and the one way to stop waiting early.

Shared by everything that waits for a platform that does not answer. Waiting on the wire is not its matter.
"""

from __future__ import annotations

import asyncio

from engine.errors import EngineError, OutOfPatience
from engine.ports import Clock


class PatienceEnded(Exception):
    """The run was asked to stop, so nobody waits for the platform to come back any more."""


class Patience:
    """`seconds` an outage may last before it fails the run; 0 is none at all, for single questions."""

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.clock = clock
        self._ended = asyncio.Event()

    @property
    def is_ended(self) -> bool:
        """Whether nobody is to wait any more."""
        return self._ended.is_set()

    def end(self) -> None:
        """Wake everybody who waits, and let nobody wait again."""
        self._ended.set()

    async def pause(self, seconds: float) -> None:
        """Wait this long.

        Raises:
            PatienceEnded: the wait was, or is, cut short.
        """
        if self.is_ended:
            raise PatienceEnded
        nap = asyncio.ensure_future(self.clock.sleep(seconds))
        end = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((nap, end), return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            end.cancel()
        if self.is_ended:
            raise PatienceEnded


def out_of_patience(last: EngineError | None, patience: Patience) -> OutOfPatience:
    """The end of waiting, in the words of the last failure."""
    said = last.message if last is not None else "the platform does not answer"
    facts = {} if last is None else last.facts
    return OutOfPatience(f"{said}; it did not come back within {patience.seconds:g} s", **facts)
