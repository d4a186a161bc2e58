"""Counts what this process sent and what it waited for, from the facts that transport, lanes and stages tell."""

from __future__ import annotations

from engine.events import CallbackReceived, Event, JobSubmitted, Polled, RequestDone, RunStarted, Waited
from engine.runtime.limits import Limits

# Most facts are none of these, and each is told to us: a look into a set instead of a question for each kind.
_COUNTED = frozenset((RequestDone, JobSubmitted, Waited, RunStarted, Polled, CallbackReceived))


class Tally:
    """An observer of counters; passes nothing on."""

    def __init__(self) -> None:
        self.requests = 0
        self.jobs = 0
        self.replays = 0
        self.polls = 0
        self.callbacks = 0
        self.limits = Limits()

    def notice(self, event: Event) -> None:
        """Count."""
        if type(event) in _COUNTED:
            self._count(event)

    def _count(self, event: Event) -> None:
        match event:
            case RequestDone():
                self.requests += 1
            case JobSubmitted():
                self.jobs += 1
                self.replays += event.replayed
            case Waited() | RunStarted():
                self.limits.notice(event)
            case Polled():
                self.polls += 1
            case CallbackReceived(verdict="news"):
                self.callbacks += 1
            case _:
                pass
