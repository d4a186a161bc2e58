"""A job row to start from."""

from __future__ import annotations

from typing import Any

from engine.record import Slice
from engine.store.rows import JobRow


def job_row(**members: Any) -> JobRow:
    """A planned job of three rows; any member may be another."""
    plain: dict[str, Any] = {
        "epoch": 1,
        "seq": 1,
        "run_id": "run",
        "kind": "import.bulk",
        "rows": 3,
        "body_bytes": 30,
        "digest": b"d" * 32,
        "keys_digest": b"k" * 32,
        "key": "key-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "slices": (Slice("in", 0, 30, 1),),
        "planned_ns": 1_000,
    }
    return JobRow(**{**plain, **members})
