"""One job's rows on their way into a part: held while they are few, in a part of their own once they are many.

Whichever it is, they become visible together or not at all. What the result occupies meanwhile is on loan: half of it
for rows held, half for what is being read and decoded.
"""

from __future__ import annotations

from engine.record import DeadLetter
from engine.runtime.budget import ByteBudget, Loan
from engine.runtime.landing import Filling, Landed, Landing
from engine.store.rows import JobRow

# An element is there as it came, as a window, and encoded again, and its values beside them.
_ELEMENT_FACTOR = 4
# More rows of one result are not held, however much there is to lend: they get a part of their own.
_HOLD_BYTES = 4 * 1024 * 1024


class Spill:
    """Takes the chunks of one result; then `land`, and `discard` in any case."""

    def __init__(self, landing: Landing, budget: ByteBudget, loan: Loan) -> None:
        self._landing = landing
        self._budget = budget
        self._loan = loan
        self._usual_bytes = loan.bytes
        self._is_alone_in_size = False
        self._chunks: list[bytes] = []
        self._held_bytes = 0
        self._held_rows = 0
        self._alone: Filling | None = None

    @classmethod
    async def begin(cls, landing: Landing, budget: ByteBudget, size: int) -> Spill:
        """Ready to take a result, once there is memory for one."""
        return cls(landing, budget, await budget.borrow(size))

    async def take(self, chunk: bytes, rows: int) -> None:
        """Add encoded rows."""
        self._chunks.append(chunk)
        self._held_bytes += len(chunk)
        self._held_rows += rows
        if self._held_bytes > min(_HOLD_BYTES, self._usual_bytes // 2):
            if self._alone is None:
                self._alone = await self._landing.begin_alone()
            await self._pour(self._alone)

    async def weigh(self, held_bytes: int) -> None:
        """The reader holds back this much of an element that is not whole yet: a large one waits for its turn."""
        if held_bytes * _ELEMENT_FACTOR > self._usual_bytes // 2:
            if not self._is_alone_in_size:
                await self._budget.alone.acquire()
                self._is_alone_in_size = True
            self._loan.resize(self._usual_bytes + held_bytes * _ELEMENT_FACTOR)
        elif self._is_alone_in_size:
            self._shrink()

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
        """Nothing of a result that was not landed stays, and what was borrowed is given back."""
        if self._alone is not None:
            self._alone.part.discard()
            self._alone = None
        self._chunks = []
        if self._is_alone_in_size:
            self._shrink()
        self._loan.give_back()

    def _shrink(self) -> None:
        self._is_alone_in_size = False
        self._loan.resize(self._usual_bytes)
        self._budget.alone.release()

    async def _pour(self, alone: Filling) -> None:
        chunk, rows = b"".join(self._chunks), self._held_rows
        self._chunks, self._held_bytes, self._held_rows = [], 0, 0
        await self._landing.append(alone, chunk, rows)
