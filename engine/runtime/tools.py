"""What every stage of a run holds in its hand."""

from __future__ import annotations

import msgspec

from engine.jobs.tap import Tap
from engine.ports import Clock, Observer
from engine.record import Counts
from engine.runtime.budget import ByteBudget
from engine.runtime.drain import StopFlag
from engine.runtime.tolerance import Tolerance
from engine.store.ledger import Ledger


class Tools(msgspec.Struct, kw_only=True):
    """The ledger, the clock, whoever watches, the books, the stop flag, bytes to borrow, and how many rows may fail.

    `tap` is where rows are shown to whoever looks on.
    """

    ledger: Ledger
    clock: Clock
    observer: Observer
    counts: Counts
    stop: StopFlag
    budget: ByteBudget
    tolerance: Tolerance = msgspec.field(default_factory=lambda: Tolerance(None))
    tap: Tap = msgspec.field(default_factory=Tap)
