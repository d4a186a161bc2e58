"""Shards: the verbs that work on one share of a pipeline that runs in several processes: which is meant, and where.

Looking needs none of this, for it looks at all shares at once (`ledgers.glances`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.components.sinks.joint import write_joint
from engine.errors import ConfigError
from engine.pipeline.spec import PipelineSpec
from engine.record import Share
from engine.store.lock import StateLock
from engine.store.shares import find_division, shares_begun


def with_ledger(directory: Path) -> Path:
    """The state directory that has a ledger, for a pipeline that is divided that of its first share."""
    return next((directory.with_name(share.named(directory.name)) for share in shares_begun(directory)), directory)


def share_meant(state_dir: Path, spec: PipelineSpec, *, named: str, tag: str | None) -> Share | None:
    """The share that a verb is for: by its tag, or because the pipeline was `named` with it; None where none are.

    Raises:
        ConfigError: the pipeline is divided and no share of it is meant, or it is not and one is.
    """
    begun = {share.tag: share for share in shares_begun(state_dir / spec.name)}
    if not begun and tag is None:
        return None
    if not begun:
        raise ConfigError(f"{spec.name} runs in one process", hint="leave --shard out")
    meant = begun.get(tag or named.removeprefix(f"{spec.name}."))
    if meant is None:
        raise ConfigError(
            f"{spec.name} runs in several processes, and each share has dead letters of its own",
            hint=f"add --shard, one of {', '.join(begun)}; engine dlq ls {spec.name} shows which",
        )
    return meant


@contextmanager
def holding(state_dir: Path, spec: PipelineSpec, share: Share | None) -> Iterator[None]:
    """Keep the other processes of a divided pipeline away while a share of it is worked on, and then join its output.

    Raises:
        LedgerBusy: the pipeline is running. OutputError: the manifest cannot be written.
    """
    if share is None:
        yield
        return
    directory = state_dir / spec.name
    lock = StateLock(directory / "lock")
    lock.acquire()
    try:
        yield
        if (division := find_division(directory)) is not None:
            write_joint(spec.sink, division.shares, pipeline=spec.name)
    finally:
        lock.release()
