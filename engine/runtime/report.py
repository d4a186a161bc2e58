"""What a run says when it ends: the books, what it sent, and how it came out."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from engine.errors import Exit
from engine.runtime.limits import Limit

Outcome = Literal["done", "nothing_new", "interrupted", "over_budget", "unbalanced", "too_few_rows", "failed"]

_EXITS: dict[str, int] = {
    "done": Exit.DONE,
    "nothing_new": Exit.DONE,
    "interrupted": Exit.INTERRUPTED,
    "over_budget": Exit.OVER_BUDGET,
    "unbalanced": Exit.UNBALANCED,
    "too_few_rows": Exit.UNBALANCED,
}


class Report(msgspec.Struct, kw_only=True):
    """The account of one run. Rows throughout, except where the name says otherwise.

    read..open   the run's books, over all its processes if it was interrupted or killed. With `nothing_new` they
                 are the books of the run that took everything there is.
    jobs, requests, polls, replays   what this process sent: remote jobs created or found by replay, HTTP requests,
                 questions about jobs, creates that the platform answered with a job it already had
    callbacks    endings it was told of, each counted once
    seconds      wall time of this process      parts   durable output files of this epoch
    limit        the stage that set the pace, where one did
    """

    run_id: str
    pipeline: str
    outcome: Outcome
    read: int
    accepted: int
    rejected: int
    dead: int
    filtered: int
    open: int
    jobs: int
    requests: int
    seconds: float
    parts: int
    epoch: int
    polls: int = 0
    callbacks: int = 0
    replays: int = 0
    resumed: int = 0
    remote_open: int = 0
    jobs_open: int = 0
    is_replay: bool = False
    manifest: str | None = None
    peak_mib: float = 0.0
    exit_code: int = Exit.DONE
    lines: list[str] = []
    limit: Limit | None = None

    @property
    def is_balanced(self) -> bool:
        """Whether every row read has ended in exactly one bucket."""
        return self.open == 0

    @property
    def polls_per_job(self) -> float:
        """How often a job of this process was asked about, on average."""
        return self.polls / self.jobs if self.jobs else 0.0


def exit_of(outcome: str) -> int:
    """The exit code of an outcome."""
    return _EXITS.get(outcome, Exit.FAILED)


def peak_mib() -> float:
    """The largest resident size of this process so far, in MiB."""
    # The high-water mark of our own memory; `getrusage` would also count the process we were started by.
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024) if sys.platform == "darwin" else peak / 1024
