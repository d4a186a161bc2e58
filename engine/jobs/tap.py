"""Tap: rows on their way through a run, kept for whoever looks on; a stage that nobody looks at costs one question.

The question is `stage in tap.wanted`, once for each batch. What is kept is bounded in batches and bytes, and dropped
beyond: a run never waits for its onlookers. Nothing is decoded here; how rows leave the process is `runtime.tapping`'s.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import msgspec

T = TypeVar("T")

# Where rows can be seen: as they came from the input, as they travel in a job, as the platform answered them, and as
# they enter the output.
STAGES = ("read", "planned", "results", "landed")

_SIGHTINGS_MAX = 64
_BYTES_MAX = 4 * 1024 * 1024
_ONLOOKERS_MAX = 8


class Sighting(msgspec.Struct, gc=False, kw_only=True):
    """Some rows of one batch at one stage.

    `texts` are rows, or one window of many: a JSON array or lines. Beside them, where they are known: what became of
    each row, for rows that were just read; their keys; `input` and `lines`, their places; `job` and `part`.
    """

    stage: str
    texts: Sequence[bytes]
    is_window: bool = False
    became: Sequence[bytes] = ()
    keys: Sequence[str] = ()
    input: str | None = None
    lines: Sequence[int] = ()
    job: str | None = None
    part: int | None = None


class Onlooker:
    """Somebody who looks at one stage: at most `rows` of each batch, spread evenly over it."""

    def __init__(self, stage: str, rows: int) -> None:
        self.stage = stage
        self.rows = rows
        self.dropped = 0
        self._held: deque[tuple[Sighting, int]] = deque()
        self._held_bytes = 0
        self._is_over = False
        self._news = asyncio.Event()

    def offer(self, sighting: Sighting) -> None:
        """Keep a sample of a batch, or drop it where there is no room."""
        sample = sighting if sighting.is_window else sampled(sighting, self.rows)
        size = sum(map(len, sample.texts)) + sum(map(len, sample.became))
        if len(self._held) >= _SIGHTINGS_MAX or self._held_bytes + size > _BYTES_MAX:
            self.dropped += 1
            return
        self._held.append((sample, size))
        self._held_bytes += size
        self._news.set()

    async def take(self) -> Sighting | None:
        """What is next; None once the run is over and all was taken."""
        while not self._held:
            if self._is_over:
                return None
            self._news.clear()
            await self._news.wait()
        sample, size = self._held.popleft()
        self._held_bytes -= size
        return sample

    def end(self) -> None:
        """Nothing more comes."""
        self._is_over = True
        self._news.set()


class Tap:
    """The onlookers of one run. Everything happens on the loop of the run."""

    def __init__(self) -> None:
        self.wanted: frozenset[str] = frozenset()
        self._onlookers: tuple[Onlooker, ...] = ()

    def admit(self, onlooker: Onlooker) -> bool:
        """Let somebody look on; False where there are enough."""
        if len(self._onlookers) >= _ONLOOKERS_MAX:
            return False
        self._set((*self._onlookers, onlooker))
        return True

    def dismiss(self, onlooker: Onlooker) -> None:
        """He looks no more."""
        self._set(tuple(other for other in self._onlookers if other is not onlooker))

    def offer(self, sighting: Sighting) -> None:
        """Show rows to those who look at their stage; ask `wanted` first."""
        for onlooker in self._onlookers:
            if onlooker.stage == sighting.stage:
                onlooker.offer(sighting)

    def end(self) -> None:
        """The run is over."""
        for onlooker in self._onlookers:
            onlooker.end()

    def _set(self, onlookers: tuple[Onlooker, ...]) -> None:
        self._onlookers = onlookers
        self.wanted = frozenset(onlooker.stage for onlooker in onlookers)


def sampled(sighting: Sighting, rows: int) -> Sighting:
    """At most so many of its rows, from all over it."""
    count = len(sighting.texts)
    if count <= rows:
        return sighting
    chosen = [index * count // rows for index in range(rows)]

    def pick(many: Sequence[T]) -> Sequence[T]:
        return [many[index] for index in chosen] if many else ()

    return msgspec.structs.replace(
        sighting,
        texts=pick(sighting.texts),
        became=pick(sighting.became),
        keys=pick(sighting.keys),
        lines=pick(sighting.lines),
    )
