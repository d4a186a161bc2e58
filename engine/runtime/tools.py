"""What every stage of a run holds in its hand."""

from __future__ import annotations

import msgspec

from engine.ports import Clock, Observer
from engine.record import Counts
from engine.runtime.drain import StopFlag
from engine.runtime.tolerance import Tolerance
from engine.store.ledger import Ledger


class Tools(msgspec.Struct, kw_only=True):
    """The ledger, the clock, whoever watches, the books, the stop flag, and the tolerance for rows that fail."""

    ledger: Ledger
    clock: Clock
    observer: Observer
    counts: Counts
    stop: StopFlag
    tolerance: Tolerance = msgspec.field(default_factory=lambda: Tolerance(None))
