"""Budget: the one byte budget of a process, from which every buffer borrows. A number and a queue on the loop.

`memory` of a pipeline is what the whole process may occupy: `BASELINE` is the interpreter, its libraries and what
the allocator keeps; the rest is lent. Never decides what is read or sent, only when.

Who waits, and in which order, so that nobody waits for ever:

1. Waiting (`borrow`) is for beginnings only: the source before it reads on, a fetch worker before it opens a result.
   Whoever waits holds no loan that somebody else needs to come to an end.
2. What has begun never waits: planned bodies, recalled bodies, a record or a row larger than expected, a row group
   (`take`, `Loan.resize`). They may overdraw; nothing new begins until that is paid back.
3. Overdrafts are few: there is one source, one recall at a time, and `alone` lets one fetch worker at a time hold an
   element larger than its loan. Whoever is `alone` waits for the network and the disk, never for the budget.
4. Bodies come to an end without a fetch (slots are freed by the watcher), fetches without a body, so the two sides
   cannot hold each other up. When nothing is lent, the first in line is served whatever it asks for.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from pathlib import Path

from engine.events import Waited
from engine.pipeline.memory import BASELINE
from engine.ports import Clock, Observer

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_STATM = Path("/proc/self/statm")
_LOOK_EVERY_S = 1.0
# However large the process has grown, this share of the budget is still lent: progress is what frees memory.
_WITHHELD_MAX = 0.75


class Loan:
    """Bytes on loan; given back once, whatever happens."""

    __slots__ = ("_budget", "bytes")

    def __init__(self, budget: ByteBudget, size: int) -> None:
        self._budget: ByteBudget | None = budget
        self.bytes = size

    def resize(self, size: int) -> None:
        """Hold this much instead, at once: more may overdraw the budget, less lets others go on."""
        if self._budget is not None:
            change, self.bytes = size - self.bytes, size
            self._budget.shift(change)

    def give_back(self) -> None:
        """End the loan; safe to call again."""
        budget, self._budget = self._budget, None
        if budget is not None:
            budget.shift(-self.bytes)
            self.bytes = 0


class ByteBudget:
    """Lends `total` bytes, first come, first served."""

    def __init__(self, total: int, *, clock: Clock, observer: Observer) -> None:
        self.total = total
        self.lent = 0
        self.lent_max = 0
        self.withheld = 0
        self.alone = asyncio.Lock()
        self._clock = clock
        self._observer = observer
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def is_tight(self) -> bool:
        """Whether somebody waits, or the process is larger than it should be."""
        return bool(self._waiting) or self.withheld > 0

    async def borrow(self, size: int) -> Loan:
        """A loan, when its turn has come and there is room; one larger than the whole budget passes alone."""
        if self._waiting or not self._has_room(size):
            started = self._clock.monotonic()
            await self._wait(size)
            self._observer.notice(Waited("memory", self._clock.monotonic() - started))
            return Loan(self, size)
        return self.take(size)

    def take(self, size: int) -> Loan:
        """A loan at once, for what has begun already; may overdraw."""
        self._lend(size)
        return Loan(self, size)

    def withhold(self, size: int) -> None:
        """Lend this much less for now, because the process occupies more than was lent."""
        self.withheld = max(0, min(size, int(self.total * _WITHHELD_MAX)))
        self._serve()

    async def watch(self) -> None:
        """Hold what is lent against what the process really occupies, for ever; cancelled by its owner."""
        while (occupied := resident_bytes()) is not None:
            self.withhold(occupied - self.total - BASELINE)
            await self._clock.sleep(_LOOK_EVERY_S)

    def _has_room(self, size: int) -> bool:
        return self.lent <= 0 or self.lent + size <= self.total - self.withheld

    def _lend(self, size: int) -> None:
        self.lent += size
        self.lent_max = max(self.lent_max, self.lent)

    def shift(self, change: int) -> None:
        """A loan has grown or shrunk."""
        self._lend(change)
        if change < 0:
            self._serve()

    def _serve(self) -> None:
        while self._waiting and self._has_room(self._waiting[0][0]):
            size, future = self._waiting.popleft()
            if not future.done():
                self._lend(size)
                future.set_result(None)

    async def _wait(self, size: int) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((size, future))
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.shift(-size)
            else:
                # Whoever stands behind may have room where this one had none.
                self._waiting.remove((size, future))
                self._serve()
            raise


def resident_bytes() -> int | None:
    """What this process occupies now; None where the system does not say it cheaply."""
    if sys.platform != "linux":
        return None
    try:
        return int(_STATM.read_bytes().split()[1]) * _PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None
