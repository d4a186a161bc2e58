"""Tracing: the spans the emulator really took part in, kept a while, and route 27 that shows them (contract 8).

Spans come in by `record` from the server and from jobs, are written many at a time, and the oldest go when there
are too many. Nothing here makes trace ids or headers.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from engine.codec.payload import encode, loads
from engine.contract import tracing as contract
from engine.contract.tracing import TraceSpan, TraceTree
from engine.emulator.call import Call, Handler, Reply
from engine.emulator.refusal import Refusal, invalid
from engine.emulator.state import State

SCHEMA = """
CREATE TABLE IF NOT EXISTS spans (
  number INTEGER PRIMARY KEY, tenant_id TEXT NOT NULL, trace_id TEXT NOT NULL, span_id TEXT NOT NULL,
  parent_span_id TEXT, name TEXT NOT NULL, start_ns INTEGER NOT NULL, duration_ns INTEGER NOT NULL,
  status_code TEXT NOT NULL, attributes BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS spans_by_trace ON spans (trace_id, tenant_id);
"""
SPANS_MAX = 200_000
WRITE_EVERY_S = 0.5
_BATCH = 500
_TRACE_ID = re.compile(r"[0-9a-f]{32}")


class Span(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One finished span. `status_code` is OpenTelemetry's: OK, ERROR, UNSET; times in nanoseconds."""

    tenant_id: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    start_ns: int
    duration_ns: int
    status_code: str = "OK"
    attributes: dict[str, Any] = {}


def record(state: State, span: Span) -> None:
    """Keep a span. Costs next to nothing: it is written later, with many others."""
    unwritten = state.unwritten_spans
    unwritten.append(span)
    if len(unwritten) >= _BATCH:
        flush(state)


def flush(state: State) -> None:
    """Write what was recorded, and let the oldest spans go."""
    if not state.unwritten_spans:
        return
    spans, state.unwritten_spans = state.unwritten_spans, []
    with state.transaction() as db:
        db.executemany(
            "INSERT INTO spans (tenant_id, trace_id, span_id, parent_span_id, name, start_ns, duration_ns,"
            " status_code, attributes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    span.tenant_id,
                    span.trace_id,
                    span.span_id,
                    span.parent_span_id,
                    span.name,
                    span.start_ns,
                    span.duration_ns,
                    span.status_code,
                    encode(span.attributes),
                )
                for span in spans
            ],
        )
        db.execute("DELETE FROM spans WHERE number <= (SELECT max(number) FROM spans) - ?", (SPANS_MAX,))


async def write_spans(state: State) -> None:
    """Write every half second, for as long as the emulator runs."""
    while True:
        await state.clock.sleep(WRITE_EVERY_S)
        flush(state)


def handlers(state: State) -> dict[str, Handler]:
    """Route 27."""

    def get(call: Call) -> Reply:
        trace_id = call.ask.trace_id
        if not _TRACE_ID.fullmatch(trace_id):
            raise invalid("path", "trace_id", "must be 32 lower-case hexadecimal digits")
        tenant_id = call.caller.tenant_id if call.caller else ""
        is_pending = any(span.trace_id == trace_id for span in state.unwritten_spans)
        flush(state)
        rows = state.db.execute(
            "SELECT span_id, parent_span_id, name, start_ns, duration_ns, status_code, attributes FROM spans"
            " WHERE trace_id = ? AND tenant_id = ? ORDER BY start_ns, number",
            (trace_id, tenant_id),
        ).fetchall()
        if not rows:
            raise Refusal(404, "not_found", "No trace of this id.")
        spans = [
            TraceSpan(
                span_id=row[0],
                parent_span_id=row[1],
                name=row[2],
                start_unix_nano=row[3],
                duration_ns=row[4],
                status_code=row[5],
                attributes=loads(row[6]),
            )
            for row in rows
        ]
        ingestion = state.profile.ingestion_pending if is_pending else state.profile.ingestion_stored
        return Reply(body=TraceTree(trace_id=trace_id, tenant_id=tenant_id, spans=spans, ingestion=ingestion))

    return {contract.GET.name: get}
