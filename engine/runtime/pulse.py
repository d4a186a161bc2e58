"""The sign of life of a run: a time in the ledger, by which others see that its process still works."""

from __future__ import annotations

from engine.runtime.tools import Tools

_EVERY_S = 2.0


async def show_life(tools: Tools, run_id: str) -> None:
    """Write it down again and again, for ever; cancelled by its owner."""
    while True:
        await tools.ledger.touch_run(run_id, now_ns=tools.clock.now_ns())
        await tools.clock.sleep(_EVERY_S)
