"""One job's rows on their way into a part: held while they are few, in a part of their own once they are many.

Whichever it is, they become visible together or not at all.
"""

from __future__ import annotations

from engine.record import DeadLetter
from engine.runtime.landing import Filling, Landed, Landing
from engine.store.rows import JobRow

_HOLD_BYTES = 4 * 1024 * 1024


class Spill:
    """Takes the chunks of one result; then `land` or `discard`, exactly once."""

    def __init__(self, landing: Landing) -> None:
        self._landing = landing
        self._chunks: list[bytes] = []
        self._held_bytes = 0
        self._held_rows = 0
        self._alone: Filling | None = None

    async def take(self, chunk: bytes, rows: int) -> None:
        """Add encoded rows."""
        self._chunks.append(chunk)
        self._held_bytes += len(chunk)
        self._held_rows += rows
        if self._held_bytes > _HOLD_BYTES:
            if self._alone is None:
                self._alone = await self._landing.begin_alone()
            await self._pour(self._alone)

    async def land(self, job: JobRow, *, rows: int, letters: list[DeadLetter]) -> None:
        """The result is whole and matched: hand it over."""
        if self._alone is None:
            await self._landing.add(Landed(job=job, chunks=self._chunks, rows=rows, letters=letters))
            return
        alone, landed = self._alone, Landed(job=job, chunks=[], rows=rows, letters=letters)
        await self._pour(alone)
        self._alone = None
        await self._landing.add_alone(alone, landed)

    def discard(self) -> None:
        """The result was not whole: nothing of it stays. Does nothing after `land`."""
        if self._alone is not None:
            self._alone.part.discard()
            self._alone = None

    async def _pour(self, alone: Filling) -> None:
        chunk, rows = b"".join(self._chunks), self._held_rows
        self._chunks, self._held_bytes, self._held_rows = [], 0, 0
        await self._landing.append(alone, chunk, rows)
