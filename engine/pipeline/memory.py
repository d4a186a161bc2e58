"""What `memory` of a pipeline means: how much of it is the process itself, and what its parts may take.

Plain arithmetic, known before anything is opened; lending is `runtime.budget`'s.
"""

from __future__ import annotations

from engine.pipeline.spec import PipelineSpec

MIB = 1024 * 1024
# The interpreter, the libraries, the ledger's caches and what the allocator does not hand back, measured on a run of
# small rows (benchmarks/memory.py); everything above is lent.
BASELINE = 80 * MIB
# Less than this beside the baseline moves nothing along.
BUDGET_MIN = 32 * MIB
MEMORY_MIN = BASELINE + BUDGET_MIN


def budget_of(memory: int) -> int:
    """Bytes that are lent."""
    return max(memory - BASELINE, BUDGET_MIN)


def line_max(spec: PipelineSpec, *, is_kept: bool = False) -> int:
    """The longest record that is read: what the pipeline allows, and what fits into its memory beside others.

    A record that stays bytes is held up to three times for a moment (in pieces, joined, and read ahead of); one that
    the ledger must keep whole (`is_kept`), because it cannot be read again, as often again; one that is decoded takes
    a dozen times its size.
    """
    is_decoded = bool(spec.transform) or spec.source.type == "csv"
    share = 16 if is_decoded else 12 if is_kept else 5
    return min(spec.source.line_max, spec.memory // share)


def values_max(spec: PipelineSpec) -> int:
    """What the values of one record may take once it is decoded, by a rough count of them."""
    return spec.memory // 5


def element_max(spec: PipelineSpec) -> int:
    """The largest row of a result: it is held while it comes, decoded, and encoded again."""
    return min(64 * MIB, spec.memory // 8)


def fetch_bytes(spec: PipelineSpec) -> int:
    """What one fetch worker borrows for one result: its windows, decoded rows, and rows held for a part."""
    return min(8 * MIB, max(MIB, budget_of(spec.memory) // 24))
