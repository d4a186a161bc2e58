"""Outbox: a bounded queue, and the thread that empties it.

It knows neither spans nor HTTP. Whoever puts something in never waits and never fails; what cannot be
held or delivered is dropped and counted; closing takes as long as it was given and no longer.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

# Of the time given for closing, what is kept for breaking off an exchange that hangs.
_LAST_BREATH_S: Final = 0.25


class Lost(msgspec.Struct, frozen=True):
    """How many items of a batch did not arrive, and why, in words that hold no secret."""

    items: int
    reason: str


class Patience:
    """How long the outbox's thread may still wait: as long as it likes, until `end_in` sets a deadline."""

    def __init__(self) -> None:
        self._closing = threading.Event()
        self._over = threading.Event()
        self._deadline = math.inf

    @property
    def is_closing(self) -> bool:
        """Whether there is a deadline now."""
        return self._closing.is_set()

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; infinite without one, never negative."""
        return max(0.0, self._deadline - time.monotonic())

    def end_in(self, seconds: float) -> None:
        """Set the deadline. A pause that reaches beyond it ends at once."""
        self._deadline = time.monotonic() + seconds
        self._closing.set()

    def end(self) -> None:
        """The deadline has come: every pause ends now."""
        self._deadline = 0.0
        self._closing.set()
        self._over.set()

    def pause(self, seconds: float) -> bool:
        """Wait this long; False, and sooner, if that is longer than there is left."""
        until = time.monotonic() + seconds
        if not self._closing.wait(seconds):
            return True
        rest = until - time.monotonic()
        return rest < self.left_s and not self._over.wait(max(0.0, rest))


class Shipper(Protocol[T_contra]):
    """Who takes the batches away; `ship` and `close` are called by the outbox's thread alone."""

    def ship(self, batch: Sequence[T_contra]) -> Lost | None:
        """Deliver a batch; what was lost of it, if anything. May block; if it raises, all of it is lost."""

    def abort(self) -> None:
        """Break off a `ship` that is still busy; called by another thread, shortly before the deadline."""

    def close(self) -> None:
        """The last batch has been shipped."""


class Outbox(Generic[T]):
    """Takes items on one thread and hands them, in batches and in order, to a shipper on another.

    A full outbox drops the newest item.
    """

    def __init__(
        self,
        shipper: Shipper[T],
        patience: Patience,
        *,
        capacity: int = 2048,
        batch_items: int = 512,
        delay_s: float = 5.0,
    ) -> None:
        self._shipper = shipper
        self._patience = patience
        self._capacity = capacity
        self._batch_items = min(batch_items, capacity)
        self._delay_s = delay_s
        self._queue: deque[T] = deque()
        self._wake = threading.Event()
        self._taken = self._refused = 0  # written by the caller's thread
        self._sent = self._failed = 0  # written by ours
        self._is_closed = False
        self._trouble: str | None = None
        # A daemon, so that a collector that never answers cannot keep the process.
        self._thread = threading.Thread(target=self._run, name="engine-telemetry", daemon=True)
        self._thread.start()

    @property
    def sent(self) -> int:
        """Items that arrived."""
        return self._sent

    @property
    def dropped(self) -> int:
        """Items that were refused or lost; after `close` also those that nobody got round to."""
        return self._refused + (self._taken - self._sent if self._is_closed else self._failed)

    @property
    def trouble(self) -> str | None:
        """Why the first lost item was lost."""
        return self._trouble

    def offer(self, item: T) -> None:
        """Take an item, or drop it when there is no room. Never waits."""
        queue = self._queue
        if len(queue) >= self._capacity or self._is_closed:
            self._refuse()
            return
        queue.append(item)
        self._taken += 1
        if len(queue) >= self._batch_items and not self._wake.is_set():
            self._wake.set()

    def close(self, deadline_s: float) -> None:
        """Deliver what is held, but return after `deadline_s` at the latest; a second time does nothing."""
        if self._is_closed:
            return
        grace_s = min(_LAST_BREATH_S, deadline_s / 2)
        self._patience.end_in(deadline_s - grace_s)
        self._wake.set()
        self._thread.join(deadline_s - grace_s)
        if self._thread.is_alive():
            self._patience.end()
            self._shipper.abort()
            self._thread.join(grace_s)
        self._is_closed = True

    def _refuse(self) -> None:
        self._refused += 1
        self._trouble = self._trouble or "more came than could be delivered"

    def _run(self) -> None:
        is_closing = False
        while not is_closing:
            self._wake.wait(self._delay_s)
            self._wake.clear()
            # Read before emptying: what is offered until then is seen by this round.
            is_closing = self._patience.is_closing
            self._empty()
        self._shipper.close()

    def _empty(self) -> None:
        while self._queue and self._patience.left_s > 0:
            batch = [self._queue.popleft() for _ in range(min(self._batch_items, len(self._queue)))]
            lost = self._attempt(batch)
            self._sent += len(batch) - lost.items
            self._failed += lost.items
            if lost.items:
                self._trouble = self._trouble or lost.reason

    def _attempt(self, batch: list[T]) -> Lost:
        try:
            return self._shipper.ship(batch) or Lost(0, "")
        except Exception as exc:  # noqa: BLE001 - the thread must outlive any batch
            return Lost(len(batch), type(exc).__name__)
