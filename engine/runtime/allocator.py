"""The C library's allocator, told to hand large blocks back to the system as soon as they are free.

By default glibc raises the size from which a block is its own mapping each time one is freed; after a few large rows
everything lives in heaps that shrink only at their top, and a peak is never given back. Elsewhere nothing is done.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress

# From malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
# Windows of the input are this large, so a record that is joined from many gives each of them back.
_OWN_MAPPING_BYTES = 256 * 1024
_HEAP_SLACK_BYTES = 8 * 1024 * 1024


def give_back_large_blocks() -> None:
    """Fix both thresholds for this process; safe to call again, and where there is no glibc."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _HEAP_SLACK_BYTES)
