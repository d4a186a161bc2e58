"""Observability, as asked (contract 8): route 27."""

from __future__ import annotations

from engine.client.call import Answered, Caller
from engine.contract import tracing
from engine.contract.exchange import Trace
from engine.contract.tracing import GetTrace, TraceTree


class Tracing:
    """What the platform recorded of our traces."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, trace_id: str, *, trace: Trace | None = None) -> Answered[TraceTree]:
        """The spans of a trace; `ingestion` says whether more may come (Q66)."""
        return await self._caller.call(tracing.GET, GetTrace(trace_id), trace=trace)
