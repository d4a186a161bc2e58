"""Counts what this process sent and what it waited for, from the facts that transport, lanes and stages tell."""

from __future__ import annotations

from engine.events import CallbackReceived, Event, JobSubmitted, Polled, RequestDone, RunStarted, Waited
from engine.runtime.limits import Limits


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
