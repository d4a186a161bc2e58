"""Which run this is: a new one, one taken up again, or the first of a fresh epoch. Plain decisions.

An unfinished run is always taken up; only `--fresh` leaves it behind.
"""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.codec.canonical import canonical
from engine.contract.exchange import new_span_id, new_trace_id
from engine.errors import ConfigError
from engine.pipeline.spec import PipelineSpec, TransformSpec
from engine.store.rows import JobRow, RunRow

# Options of a transform that were in the digest, null or not, before there were others.
_ALWAYS = ("type", "fields", "values", "field", "op", "value", "call", "timeout")


class Opening(msgspec.Struct, kw_only=True):
    """The run to work on, whether it existed before, and whether its unsent jobs must be made again."""

    run: RunRow
    is_resumed: bool
    is_changed: bool = False


def settings_digest(spec: PipelineSpec) -> str:
    """What must not change while a run is unfinished: whatever decides the bytes of its jobs."""
    job = spec.job
    decides: dict[str, Any] = {
        "source": [spec.source.type, spec.source.key, dict(sorted(spec.source.fields.items())), spec.source.delimiter],
        "transform": [_plain(step) for step in spec.transform],
        "job": [job.kind, job.batch.rows, job.batch.bytes, job.payload, job.secrecy_level] if job else [],
        "match": spec.results.match,
    }
    if spec.source.route is not None:
        decides["listing"] = [spec.source.route, spec.source.members]
    if spec.source.use is not None:
        decides["plugin"] = [spec.source.use, spec.source.options]
    if spec.source.rows is not None:
        decides["array"] = spec.source.rows
    if spec.source.type == "postgres":
        decides["rows"] = [spec.source.table, spec.source.query, spec.source.cursor]
    if job is None:
        decides["route"] = spec.row_route
    return hashlib.sha256(canonical(msgspec.to_builtins(decides))).hexdigest()


def _plain(step: TransformSpec) -> dict[str, Any]:
    """A transform as data: what is set alone, so that a new option changes no digest, and of a secret its digest."""
    plain = {name: value for name in step.__struct_fields__ if (value := getattr(step, name)) is not None}
    if step.secret is not None:
        plain["secret"] = hashlib.sha256(step.secret.reveal().encode()).hexdigest()
    return plain | {name: plain.get(name) for name in _ALWAYS}


def open_run(
    last: RunRow | None, *, digest: str, fresh: bool, now_ns: int, spec_path: str, may_change: bool = False
) -> Opening:
    """Decide which run to work on. `may_change`: none of its open jobs was ever sent, so the file may be another.

    Raises:
        ConfigError: an unfinished run was planned with other settings, so its jobs could not be sent again.
    """
    if last is not None and last.outcome is None and not fresh:
        is_changed = last.settings_digest != digest
        if is_changed and not may_change:
            raise ConfigError(
                f"{spec_path}: run {last.run_id} is unfinished, and the file has changed in what its jobs are made of "
                "(source, transform, job or match)",
                hint="finish that run as it was planned with --finish-old-then-new, or start a new epoch with --fresh",
            )
        last.invocations += 1
        last.settings_digest = digest
        return Opening(run=last, is_resumed=True, is_changed=is_changed)
    epoch = 1 if last is None else last.epoch + (1 if fresh else 0)
    run = RunRow(
        run_id=new_run_id(now_ns),
        epoch=epoch,
        started_ns=now_ns,
        trace_id=new_trace_id(),
        span_id=new_span_id(),
        settings_digest=digest,
    )
    return Opening(run=run, is_resumed=False)


def new_run_id(now_ns: int) -> str:
    """A UUID v7: sorts by time (RFC 9562 section 5.7)."""
    value = (now_ns // 1_000_000) << 80 | uuid.uuid4().int & ((1 << 80) - 1)
    value = value & ~(0xF000 << 64) | 0x7000 << 64
    value = value & ~(0xC000 << 48) | 0x8000 << 48
    return str(uuid.UUID(int=value))


def by_state(jobs: Sequence[JobRow]) -> dict[str, int]:
    """How many jobs were found in which state."""
    return dict(Counter(job.state for job in jobs))
