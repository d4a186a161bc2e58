"""Whether polling may rely on callbacks: while they arrive, and for so long after the last one. Pure."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from engine.contract.jobs import TERMINAL


class Reliance(msgspec.Struct):
    """In monotonic seconds: good until `patience_s` has passed without a callback."""

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


def is_told_of_all(statuses: Collection[str]) -> bool:
    """Whether callbacks tell of every way a job can end (Q42); else their silence says nothing."""
    return frozenset(statuses) >= TERMINAL
