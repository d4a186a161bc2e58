"""The tolerance for dead letters as a breaker: once too many rows fail, the run takes no more of them.

Counts what this process saw, not what the run saw before it: a run that was stopped, repaired and taken up again must
get the chance to show that it is repaired. Plain numbers; who looks at `is_spent` acts.
"""

from __future__ import annotations


class Tolerance:
    """`share` of the rows read may be rejected or dead; judged once `after` rows have ended."""

    def __init__(self, share: float | None, *, after: int = 1_000) -> None:
        self._share = share
        self._after = after
        self.read = 0
        self.ended = 0
        self.failed = 0
        self.is_spent = False

    def take(self, rows: int) -> None:
        """So many rows were read."""
        self.read += rows

    def end(self, rows: int, *, failed: int) -> None:
        """So many rows have ended, `failed` of them rejected or dead."""
        self.ended += rows
        self.failed += failed
        # Rows of jobs that an earlier process planned end here without having been read here.
        known = max(self.read, self.ended)
        if self._share is not None and self.ended >= self._after and self.failed > self._share * known:
            self.is_spent = True
