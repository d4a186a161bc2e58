"""Observability (contract 8): route 27, the spans the platform kept of a trace."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Route


class GetTrace(msgspec.Struct, frozen=True):
    """A trace by its 32 lower-case hex digits."""

    trace_id: str


class TraceSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One span; `start_unix_nano` exceeds 2^53, so it is an integer and never a double."""

    span_id: str
    parent_span_id: str | None
    name: str
    start_unix_nano: int
    duration_ns: int
    status_code: str = "UNSET"
    attributes: dict[str, Any] = {}


class TraceTree(msgspec.Struct, frozen=True, kw_only=True):
    """The spans of a trace, flat, by start; `ingestion` says whether more are on their way (Q66)."""

    trace_id: str
    tenant_id: str
    spans: list[TraceSpan]
    ingestion: str = PROFILE.ingestion_stored

    @property
    def is_whole(self) -> bool:
        """Whether the platform keeps all spans it has of the trace; else more are on their way."""
        return self.ingestion == PROFILE.ingestion_stored


GET = Route(
    number=27, name="tracing.get", method="GET", path="/v1/observability/traces/{trace_id}", hosts=(Host.API,),
    auth=Auth.BEARER, scopes=PROFILE.traces_read_scopes, ask=GetTrace, answer=TraceTree,
)  # fmt: skip

ROUTES = (GET,)
EXAMPLES = {GET.name: GetTrace("0af7651916cd43dd8448eb211c80319c")}
