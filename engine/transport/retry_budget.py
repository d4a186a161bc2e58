"""Retry budget: second tries are a small share of recent first ones, so an outage is never amplified.

Counts per second in a ring; pure, its caller brings the time. One budget per account.
"""

from __future__ import annotations

_SECONDS = 10


class RetryBudget:
    """In any ten seconds: at most `floor` retries, and `share` of the first tries on top.

    The floor lets a run of a few requests retry at all.
    """

    def __init__(self, *, share: float = 0.1, floor: int = 10) -> None:
        self._share = share
        self._floor = floor
        self._first = [0] * _SECONDS
        self._again = [0] * _SECONDS
        self._second = 0
        self.retries = 0

    def sent(self, now: float) -> None:
        """A request is tried for the first time."""
        self._turn_to(now)
        self._first[self._second % _SECONDS] += 1

    def spend(self, now: float) -> bool:
        """Whether one retry may go now; if so it is counted."""
        self._turn_to(now)
        if sum(self._again) >= self._floor + int(self._share * sum(self._first)):
            return False
        self._again[self._second % _SECONDS] += 1
        self.retries += 1
        return True

    def _turn_to(self, now: float) -> None:
        second = int(now)
        if second == self._second:
            return
        for passed in range(max(self._second + 1, second - _SECONDS + 1), second + 1):
            self._first[passed % _SECONDS] = self._again[passed % _SECONDS] = 0
        self._second = max(self._second, second)
