"""Breaker: whether it is worth asking at all. Closed, open, or probing; pure, its caller brings the time.

Opens after failures in a row, or when half of the recent answers were failures; then one probe at a time,
ever more rarely, until one succeeds. Opening loses nothing: whoever asks waits.
"""

from __future__ import annotations

from collections import deque

import msgspec

from engine.errors import EngineError

CLOSED = "closed"
OPEN = "open"
PROBING = "probing"


class BreakerPolicy(msgspec.Struct, frozen=True):
    """When it opens, and how long it waits between probes (seconds, doubling)."""

    failures: int = 5
    window: int = 20
    ratio: float = 0.5
    first_s: float = 0.5
    max_s: float = 15.0


class Breaker:
    """`state` is one of the three words; `error` the last failure, `opened_at` when it opened."""

    def __init__(self, policy: BreakerPolicy | None = None) -> None:
        self._policy = policy or BreakerPolicy()
        self.state = CLOSED
        self.error: EngineError | None = None
        self.opened_at = 0.0
        self._in_a_row = 0
        self._recent: deque[bool] = deque(maxlen=self._policy.window)
        self._pause_s = 0.0
        self._probe_at = 0.0

    def succeeded(self, *, is_probe: bool) -> bool:
        """An answer came; True: it closed the breaker. Late answers to earlier requests do not."""
        if self.state != CLOSED:
            if not is_probe:
                return False
            self.state = CLOSED
            self._in_a_row = 0
            self._recent.clear()
            return True
        self._in_a_row = 0
        self._recent.append(True)
        return False

    def failed(self, error: EngineError, now: float, *, is_probe: bool, jitter: float = 1.0) -> bool:
        """No answer, or one that says the platform cannot; True: this opened the breaker.

        `jitter` in [0, 1] takes up to a half off the pause, so that many processes do not probe together.
        """
        self.error = error
        if self.state != CLOSED:
            if is_probe:
                self._open(now, min(self._policy.max_s, 2 * self._pause_s), jitter)
            return False
        self._in_a_row += 1
        self._recent.append(False)
        if self._in_a_row < self._policy.failures and not self._is_mostly_failing():
            return False
        self.opened_at = now
        self._open(now, self._policy.first_s, jitter)
        return True

    def wait_s(self, now: float) -> float:
        """While open: how long until the next probe may go."""
        return max(0.0, self._probe_at - now)

    def probe(self) -> None:
        """The caller is the probe: it must report how it went, or `forget_probe`."""
        self.state = PROBING

    def forget_probe(self) -> None:
        """The probe never came to an answer (it was cancelled): the next caller is one."""
        if self.state == PROBING:
            self.state = OPEN

    def open_for_s(self, now: float) -> float:
        """How long it has not been closed."""
        return 0.0 if self.state == CLOSED else now - self.opened_at

    def _is_mostly_failing(self) -> bool:
        recent = self._recent
        return len(recent) == recent.maxlen and recent.count(False) >= self._policy.ratio * len(recent)

    def _open(self, now: float, pause_s: float, jitter: float) -> None:
        self.state = OPEN
        self._pause_s = pause_s
        self._probe_at = now + pause_s * (0.5 + 0.5 * jitter)
