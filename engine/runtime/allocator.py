"""Memory of the process: large blocks go back to the system as soon as they are free, and cycles are sought seldom.

By default glibc raises the size from which a block is its own mapping each time one is freed; after a few large rows
everything lives in heaps that shrink only at their top, and a peak is never given back. Elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress

# From malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# Windows of the input are this large, so a record that is joined from many gives each of them back.
_OWN_MAPPING_BYTES = 256 * 1024
_HEAP_SLACK_BYTES = 8 * 1024 * 1024
# Objects made over objects freed, between two looks at the youngest for cycles. The default of 700 looks a hundred
# times for each thousand jobs, and finds nothing: what a run makes in bulk is in no cycle.
_YOUNG_OBJECTS = 20_000


def prepare_memory() -> None:
    """Both, for a process that is about to run and has imported everything; safe to call again."""
    give_back_large_blocks()
    calm_collector()


def calm_collector() -> None:
    """Let the cyclic collector look less often, and never at what is loaded now: call it when everything is imported.

    Safe to call again: only the first time is anything kept for ever, for a process may have many runs.
    """
    if not gc.get_freeze_count():
        gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, *gc.get_threshold()[1:])


def give_back_large_blocks() -> None:
    """Fix both thresholds for this process; safe to call again, and where there is no glibc."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _HEAP_SLACK_BYTES)
