"""Python's cyclic collector in a process that runs pipelines: what was loaded is exempt, the rest is looked at rarely.

For processes of the command line only: a program that embeds the engine keeps its own settings. Measured on a run of
2,000 jobs, which makes hardly a cycle: nine in ten collections are saved, and with them a twentieth of the CPU time.
"""

from __future__ import annotations

import gc

# Of requests and tasks some thousand objects live at once; by default the collector runs at every 700 new ones.
_YOUNG, _MIDDLE, _OLD = 20_000, 20, 20


def collect_rarely() -> None:
    """Exempt everything that was loaded until now, and raise the thresholds.

    Called again, for the next pipeline, it exempts nothing more: what the one before left is to be collected.
    """
    if not gc.get_freeze_count():
        gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
