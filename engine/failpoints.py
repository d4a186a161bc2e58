"""Failpoints: places where a process kills itself, so that a crash happens exactly where it hurts most.

Off unless ENGINE_FAILPOINT names one when this file is first imported; then `reach` does nothing and `IS_ON` lets a
busy place skip even the call. Who names the places and why is `engine chaos`; nothing here knows a job or a file.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

VARIABLE = "ENGINE_FAILPOINT"
BEFORE, AFTER = "before", "after"
# What a part and a manifest go through on their way to being durable, in this order.
FILE_STEPS = ("fsync", "rename", "dirsync")
_TEXT = re.compile(r"([a-z]+:[a-z]+)(?::(before|after))?:([1-9]\d*)")

Reach = Callable[[str, str], None]


class Failpoint(NamedTuple):
    """Die at `place` (`ledger:submitted`, `sink:rename`), before or after what happens there, the n-th time."""

    place: str
    side: str
    n: int

    @property
    def text(self) -> str:
        """As the variable says it."""
        return f"{self.place}:{self.side}:{self.n}"


def read(text: str) -> Failpoint:
    """Read `PLACE:POINT[:before|after]:N`; before, where neither is said.

    Raises:
        ValueError: it is none. A failpoint that never fires would look like a crash survived.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ValueError(f"{VARIABLE}={text}: write PLACE:POINT[:before|after]:N, as in ledger:submitted:after:3")
    return Failpoint(match[1], match[2] or BEFORE, int(match[3]))


def arm(failpoint: Failpoint, *, die: Callable[[], None]) -> Reach:
    """What counts the passes of one failpoint and calls `die` at the n-th, once; any thread may call it."""
    lock = threading.Lock()
    passes = 0

    def reach(place: str, side: str) -> None:
        nonlocal passes
        if place == failpoint.place and side == failpoint.side:
            with lock:
                passes += 1
                is_due = passes == failpoint.n
            if is_due:
                die()

    return reach


def _nowhere(place: str, side: str) -> None:
    """No failpoint is set."""


def _die() -> None:
    # Nothing may run between here and the end: no handler, no flush, no lock given back by hand.
    os.kill(os.getpid(), signal.SIGKILL)


def resolve(env: Mapping[str, str]) -> Reach:
    """The `reach` of this environment."""
    return arm(read(env[VARIABLE]), die=_die) if env.get(VARIABLE) else _nowhere


reach = resolve(os.environ)
IS_ON = reach is not _nowhere
