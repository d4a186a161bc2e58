"""Which replay this is: an unfinished one taken up again, or a new one over letters that are to be had.

A replay is a run like any other, over letters in place of an input: an epoch of its own, so that its keys are new and
no position of the input moves; its parts join those of the epoch the letters are of.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.contract.exchange import new_span_id, new_trace_id
from engine.errors import ConfigError, StateError
from engine.pipeline.spec import PipelineSpec
from engine.runtime.opening import Opening, new_run_id, settings_digest
from engine.store.ledger import Ledger
from engine.store.rows import RunRow

ABANDONED = "abandoned"


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """Letters to send again, by id. With `is_anew` an unfinished replay is not taken up but abandoned."""

    letters: Sequence[int]
    is_anew: bool = False


async def open_replay(ledger: Ledger, spec: PipelineSpec, replay: Replay, *, now_ns: int) -> Opening:
    """Decide which replay to work on; a new one has taken its letters, durably, on return.

    Raises:
        StateError: the pipeline has never run, or none of the letters is to be had. ConfigError: the file no longer
        fits the jobs of an unfinished replay.
    """
    last = ledger.last_run()
    if last is None:
        raise StateError(f"{spec.name} has never run, so it has no dead letters", hint="engine run FILE")
    digest = settings_digest(spec)
    found = ledger.open_replay()
    if found is not None and (replay.is_anew or found.lands_in != last.epoch):
        # A later epoch has read every row again, so letters of an earlier one are of no more use.
        await ledger.abandon_replay(found.run_id, outcome=ABANDONED, now_ns=now_ns)
        found = None
    if found is not None:
        return _taken_up(found, ledger, digest)
    run = RunRow(
        run_id=new_run_id(now_ns),
        epoch=ledger.next_replay_epoch(),
        started_ns=now_ns,
        trace_id=new_trace_id(),
        span_id=new_span_id(),
        settings_digest=digest,
        lands_in=last.epoch,
    )
    if not replay.letters:
        raise StateError("there is no letter to replay", hint=f"engine dlq ls {spec.name}")
    await ledger.take_letters(run, replay.letters, now_ns=now_ns)
    return Opening(run=run, is_resumed=False)


def _taken_up(found: RunRow, ledger: Ledger, digest: str) -> Opening:
    if found.settings_digest != digest and ledger.open_jobs(found.epoch):
        raise ConfigError(
            f"replay {found.run_id} is unfinished, and the file has changed in what its jobs are made of",
            hint="restore the file to finish it, or abandon it with --fresh; its letters are then to be had again",
        )
    found.settings_digest = digest
    found.invocations += 1
    return Opening(run=found, is_resumed=True)
