"""When to ask about a job again: learned from how long jobs of its kind took, and from what it says itself.

Pure arithmetic over seconds; the heap and the clock are the watcher's.
"""

from __future__ import annotations

from bisect import insort
from collections import deque

import msgspec

from engine.pipeline.spec import PollSpec

_SAMPLE = 128
ENOUGH = 5


class Durations:
    """The last durations seen, kept sorted for quantiles."""

    def __init__(self) -> None:
        self._newest: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Learn one."""
        if len(self._newest) == _SAMPLE:
            self._sorted.remove(self._newest.popleft())
        self._newest.append(seconds)
        insort(self._sorted, seconds)

    def __len__(self) -> int:
        return len(self._sorted)

    def quantile(self, share: float) -> float | None:
        """The duration that `share` of the jobs stay under; None until enough have been seen."""
        if len(self._sorted) < ENOUGH:
            return None
        return self._sorted[min(len(self._sorted) - 1, int(share * len(self._sorted)))]


class Reliance(msgspec.Struct):
    """Whether polling may rely on callbacks, in monotonic seconds: not after `patience_s` without one."""

    patience_s: float
    heard_at: float
    is_good: bool = True

    def hear(self, now: float) -> None:
        """One arrived, or there was nothing to hear."""
        self.heard_at = now
        self.is_good = True

    def ends_at(self) -> float:
        """When silence will have lasted too long."""
        return self.heard_at + self.patience_s

    def lose(self, now: float) -> bool:
        """Whether it is too long just now; True once per silence."""
        is_lost = self.is_good and now >= self.ends_at()
        self.is_good = self.is_good and not is_lost
        return is_lost


class Schedule(msgspec.Struct):
    """The poll schedule of one pipeline's jobs."""

    spec: PollSpec
    learned: Durations

    def relaxed_first_s(self) -> float:
        """The same while callbacks arrive: after most jobs have ended, so that only lost callbacks are made up for."""
        seen = self.learned.quantile(0.95)
        return self.spec.max if seen is None else self.spec.first + 1.5 * seen

    def relaxed_next_s(self, *, jitter: float) -> float:
        """How long to wait after a relaxed poll that found the job still going: about as long again."""
        return min(self.spec.max, self.relaxed_first_s()) * (0.75 + 0.25 * jitter)

    def first_s(self) -> float:
        """How long to wait before the first poll: about as long as half of the jobs need."""
        seen = self.learned.quantile(0.5)
        return self.spec.first if seen is None else max(0.02, min(seen, self.spec.max))

    def next_s(self, *, age_s: float, polls: int, progress_pct: int | None, jitter: float) -> float:
        """How long to wait after a poll that found the job still going.

        Its own progress, where it tells, beats everything; then the gap to the next learned quantile; then growth by
        `factor`. `jitter` in [0, 1] spreads jobs that were made together over the last quarter of the wait.
        """
        grown = self.spec.first * self.spec.factor**polls
        wait = grown
        if progress_pct and 0 < progress_pct < 100:
            wait = age_s * (100 - progress_pct) / progress_pct
        elif (slow := self.learned.quantile(0.95)) is not None and age_s < slow:
            wait = slow - age_s
        floor = min(self.spec.first, grown)
        return max(min(floor, 0.25), min(wait, self.spec.max)) * (0.75 + 0.25 * jitter)
