"""Descriptors: how many connections fit into the files that this process may open.

Asked once, before the pools are made: a pool that fits never meets "too many open files" in the middle of a run.
"""

from __future__ import annotations

import resource
from pathlib import Path

from engine.events import Warned
from engine.ports import Observer

# What opens later and is no connection: parts, inputs being read, the ledger's readers, name look-ups.
_RESERVED = 12
_LEAST = 2


def connections_that_fit(wanted: int, *, observer: Observer | None = None) -> int:
    """`wanted`, or fewer where the limit on open files (`ulimit -n`) is too low for them; at least two.

    `observer` is warned where they are fewer.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= 4 * wanted + 256:
        return wanted
    fitting = max(_LEAST, min(wanted, soft - _open_now() - _RESERVED))
    if fitting < wanted and observer is not None:
        said = f"the limit on open files leaves room for {fitting} connections; raise `ulimit -n` for more"
        observer.notice(Warned("system.files", said))
    return fitting


def _open_now() -> int:
    try:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())
    except OSError:
        return 24  # No /proc here: what a run has open before its first connection, and a few more.
