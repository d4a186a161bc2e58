"""Which stage sets the pace of a run, and what would help: from how long anybody waited for each.

Every wait is told as `Waited` with its reason. Many wait for the platform at once, so those times are joined, not
added: a reason counts while at least one waits. Work that only one hand does (reading, transforming, decoding,
committing) is added up. The furthest stage that was busy most of the time is the one: all before it wait because of it.
"""

from __future__ import annotations

import time
from collections import defaultdict

import msgspec

from engine.events import Event, RunStarted, Waited

# From the end of the pipeline to its beginning: reason, share of the time from which on it sets the pace, what helps.
_STAGES: tuple[tuple[str, float, str], ...] = (
    ("disk", 0.2, "a disk has no room: free space, and the run goes on"),
    ("sink", 0.4, "the sink takes rows slowly: use a faster disk, or a cheaper format or compression"),
    ("decode", 0.4, "results take long to decode: declare fewer [results.fields], or use --processes"),
    ("ledger", 0.5, "the disk of state_dir is slow to commit: use a faster one, or larger jobs ([job] batch)"),
    ("budget", 0.4, "the account's ceiling holds requests back: raise [platform.limits] requests, or use larger jobs"),
    ("fetch", 0.5, "the platform hands out results slowly, and the lane has found how many it gives at once"),
    ("create", 0.5, "the platform takes new jobs slowly, and the lane has found how many it takes at once"),
    ("remote", 0.4, "jobs take long at the platform: raise jobs_in_flight, if the platform works on more at once"),
    ("transform", 0.4, "the transforms take the time: make them cheaper, or use --processes"),
    ("source", 0.4, "the input comes slowly: nothing else waits"),
    ("memory", 0.4, "the memory budget is lent out: raise `memory` of the pipeline"),
)
_ADDED = frozenset(("disk", "decode", "ledger", "transform", "source"))
_OPEN_MAX = 64
_CPU_SHARE = 0.8
_CPU = "this process is busy all the time: use --processes, or cheaper transforms and fewer fields"


class Limit(msgspec.Struct, frozen=True):
    """The stage that sets the pace, the share of the run's time it did so (0 to 1), and what would help."""

    stage: str
    share: float
    remedy: str


class _Joined:
    """The length of a union of intervals that come in the order of their ends."""

    def __init__(self) -> None:
        self._open: list[tuple[float, float]] = []
        self._closed_s = 0.0

    def add(self, start: float, end: float) -> None:
        kept = self._open
        while kept and kept[-1][1] >= start:
            start = min(start, kept.pop()[0])
        kept.append((start, end))
        if len(kept) > _OPEN_MAX:
            first = kept.pop(0)
            self._closed_s += first[1] - first[0]

    @property
    def seconds(self) -> float:
        return self._closed_s + sum(end - start for start, end in self._open)


class Limits:
    """An observer that adds up waits."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._cpu_started = time.process_time()
        self._joined: defaultdict[str, _Joined] = defaultdict(_Joined)
        self._added: defaultdict[str, float] = defaultdict(float)

    def notice(self, event: Event) -> None:
        """Add a wait that has just ended. Time counts from the run's start, not from that of its platform."""
        if isinstance(event, RunStarted):
            self._started, self._cpu_started = time.monotonic(), time.process_time()
        if not isinstance(event, Waited):
            return
        if event.reason in _ADDED:
            self._added[event.reason] += event.took_s
        elif event.took_s > 0:
            now = time.monotonic()
            self._joined[event.reason].add(now - event.took_s, now)

    @property
    def shares(self) -> dict[str, float]:
        """By reason, the share of the time so far in which it was waited for."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        seconds = {**self._added, **{reason: joined.seconds for reason, joined in self._joined.items()}}
        return {reason: min(took / elapsed, 1.0) for reason, took in seconds.items()}

    @property
    def limit(self) -> Limit | None:
        """What sets the pace; None where nothing does most of the time."""
        shares = self.shares
        for stage, least, remedy in _STAGES:
            if shares.get(stage, 0.0) >= least:
                return Limit(stage, round(shares[stage], 3), remedy)
        elapsed = max(time.monotonic() - self._started, 1e-9)
        cpu = (time.process_time() - self._cpu_started) / elapsed
        return Limit("cpu", round(cpu, 3), _CPU) if cpu >= _CPU_SHARE else None
