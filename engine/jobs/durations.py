"""Durations: how long jobs of one kind take, learned from those that ended. Pure; seconds.

Answers one question: of the jobs that are alive at one age, which share is still alive at a later one? Before
anything was learned, and beyond the longest job seen, it goes by a scale-free guess: what is old, lasts.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections import deque

_SAMPLE = 256
# A pseudo-observation in fifty: the guess never quite dies, so a job longer than all others is still asked about.
_GUESS_SHARE = 0.02


class Durations:
    """The newest durations, sorted. `first_s` and `factor` shape the guess (`[job] poll`)."""

    def __init__(self, *, first_s: float = 2.0, factor: float = 1.5) -> None:
        self._newest: deque[float] = deque()
        self._sorted: list[float] = []
        factor = max(1.05, factor)
        self._origin_s = first_s / factor
        # A quarter of the jobs that are alive at an age have ended at `factor` times that age.
        self._power = math.log(0.75) / -math.log(factor)

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, seconds: float) -> None:
        """Learn one."""
        if len(self._newest) == _SAMPLE:
            self._sorted.remove(self._newest.popleft())
        self._newest.append(seconds)
        insort(self._sorted, seconds)

    def quantile(self, share: float) -> float | None:
        """The duration that `share` of the jobs stay under; None before the first."""
        if not self._sorted:
            return None
        return self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))]

    def ended_between(self, age_s: float, later_s: float) -> float:
        """The share of jobs alive at `age_s` that has ended at `later_s`."""
        alive = self._alive(age_s)
        return 1.0 - self._alive(later_s) / alive if alive > 0 else 1.0

    def _alive(self, age_s: float) -> float:
        count = len(self._sorted)
        if not count:
            return self._guess(age_s, self._origin_s)
        middle = max(self._sorted[count // 2], 1e-3)
        guessed = (1.0 + _GUESS_SHARE * count) * self._guess(age_s, middle)
        return count - bisect_right(self._sorted, age_s) + guessed

    def _guess(self, age_s: float, origin_s: float) -> float:
        return 1.0 if age_s <= origin_s else float((origin_s / age_s) ** self._power)
