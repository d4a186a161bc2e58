"""Gradient: how many requests the platform can take at once, learned from answers alone. Pure arithmetic.

Doubles per round until the first push-back or the first sign of queueing; then keeps just below the knee it
found, and probes beyond it now and then, carefully at first. Knows no clock and sends nothing.
"""

from __future__ import annotations

import math

START = 4
# A push-back costs a tenth of what was being served.
_BACK_OFF = 0.9
# Queueing is latency of twice the least seen, and of 50 ms more: less is jitter, and harms nobody.
_TOLERANCE = 2.0
_SLACK_S = 0.05
_WINDOW_S = 10.0
_ROUND_MIN = 8
_QUEUED_MIN = 4.0
# Successes without a push-back before the knee is put to the test: a refused probe is then half a percent.
_CALM = 200


class Gradient:
    """A limit between 1 and `ceiling` that follows `succeeded` and `pushed_back`."""

    def __init__(self, *, ceiling: int, start: int = START) -> None:
        self.ceiling = max(1, ceiling)
        self._start = float(min(start, self.ceiling))
        self._limit = self._start
        # Where the platform last pushed back or began to queue; None while that is still to be found.
        self._knee: float | None = None
        self._calm = 0
        self._step = 0
        self._cut_at = -math.inf
        self._cut_from = self._limit
        self._least = self._least_before = math.inf
        self._window_ends = -math.inf
        self._round_s = 0.0
        self._round_size = 0
        self._round_ends = _ROUND_MIN
        self._is_queueing = self._has_queued = False

    @property
    def limit(self) -> int:
        """Requests that may be on the wire."""
        return max(1, int(self._limit))

    @property
    def least_s(self) -> float:
        """The least latency seen in the last 10 to 20 s; infinite before the first answer."""
        return min(self._least, self._least_before)

    def succeeded(self, took_s: float, now: float, *, is_full: bool) -> None:
        """An answer without push-back after `took_s`. Only a full lane learns that it might be wider."""
        self._calm += 1
        is_round_over = self._measure(took_s, now)
        if not is_full or self._is_queueing:
            return
        if self._knee is None:
            self._grow(1.0, self.ceiling)
        elif self._limit < self._knee:
            self._grow(1.0, min(self._knee, self.ceiling))
        elif is_round_over and self._calm >= max(_CALM, 2 * self._limit):
            # Doubling steps, one a round: a probe that fails costs one refusal, one that holds finds the rest soon.
            self._step = max(1, 2 * self._step)
            self._grow(float(self._step), self.ceiling)
            self._knee = self._limit

    def pushed_back(self, sent_at: float, now: float, *, others: int) -> None:
        """The platform asked for less while `others` more requests were on the wire, which it seems to serve.

        Requests that left before the last cut belong to the same event: together they cut to a half at most.
        """
        if sent_at >= self._cut_at:
            self._cut_at, self._cut_from = now, self._limit
        self._knee = max(1.0, self._cut_from / 2, min(float(others), self._cut_from))
        self._limit = max(1.0, min(self._limit, self._knee * _BACK_OFF))
        self._calm = self._step = 0

    def start_over(self) -> None:
        """After an outage: few at first, and soon as many as before."""
        self._knee = max(self._limit, self._knee or 0.0)
        self._limit = min(self._limit, self._start)
        self._calm = self._step = 0
        self._is_queueing = False

    def _grow(self, by: float, bound: float) -> None:
        self._limit = max(self._limit, min(self._limit + by, bound))

    def _measure(self, took_s: float, now: float) -> bool:
        """Count one latency in; True when it closed a round of about one limit's worth of answers."""
        if now >= self._window_ends:
            # A queue of our own making must not become the measure of what is usual.
            self._least_before = min(self._least, self._least_before) if self._has_queued else self._least
            self._least, self._has_queued = took_s, False
            self._window_ends = now + _WINDOW_S
        self._least = min(self._least, took_s)
        self._round_s += took_s
        self._round_size += 1
        if self._round_size < self._round_ends:
            return False
        mean_s = self._round_s / self._round_size
        # Sized when it begins: a limit that grows with each answer would otherwise never come to the end of one.
        self._round_s, self._round_size, self._round_ends = 0.0, 0, max(_ROUND_MIN, int(self._limit))
        self._judge(mean_s)
        return True

    def _judge(self, mean_s: float) -> None:
        allowed_s = max(_TOLERANCE * self.least_s, self.least_s + _SLACK_S)
        self._is_queueing = mean_s > allowed_s
        if not self._is_queueing:
            return
        self._has_queued = True
        if self._limit <= _QUEUED_MIN:
            # So few requests make no queue: the platform has become slower, and this is usual now.
            self._least = self._least_before = mean_s
            return
        gradient = max(0.5, allowed_s / mean_s)
        # The square root is the queue we allow ourselves, so that a wide lane is never starved by caution.
        target = self._limit * gradient + math.sqrt(self._limit)
        if target < self._limit:
            self._limit = max(_QUEUED_MIN, (self._limit + target) / 2)
        self._knee = self._limit
        self._calm = self._step = 0
