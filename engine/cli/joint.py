"""Joint: one account of a run that several processes did, from the ledgers of its shares.

Which runs belong together is what their starter noted at its end. Where it noted nothing, or a share has run since, the
newest run of each share is taken, and the outcome is the worst of theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.cli.invocation import Invocation
from engine.cli.ledgers import bring_up_to_date
from engine.record import Share
from engine.store.reading import Glance, RunLine
from engine.store.shares import shares_begun
from engine.store.together import OneRun, noted_together

_LETTERS = 20
_SUMS = ("invocations", "read", "accepted", "rejected", "dead", "filtered", "open", "jobs", "parts")
# What is worse comes first; what is not named here is no worse than `done`.
_WORST = ("failed", "unbalanced", "unfinished", "stopped", "over_budget", "too_few_rows", "done")


class Joint(msgspec.Struct, frozen=True, kw_only=True):
    """The sum of the shares' runs as one line, those runs, and their first dead letters with what share they are of."""

    line: RunLine
    shares: list[RunLine]
    letters: list[dict[str, Any]]
    reasons: dict[str, int]
    seconds: float | None


def joint_of(invocation: Invocation, name: str) -> Joint | None:
    """The newest run of a pipeline that runs in several processes; None where `name` is none, or has never run."""
    directory = Path(invocation.settings().state_dir) / name
    if "/" in name or not (shares := shares_begun(directory)):
        return None
    noted = noted_together(directory)
    newest = [(share, line) for share in shares if (line := _newest(directory, share)) is not None]
    if not newest:
        return None
    if noted is not None and _is_current(noted, newest):
        chosen = [(share, line) for share, line in newest if noted.runs.get(share.tag) == line.run_id]
    else:
        noted, chosen = None, newest
    lines, letters, reasons = [line for _, line in chosen], [], Counter[str]()
    for share, line in chosen:
        with Glance(directory.with_name(share.named(name))) as glance:
            letters += [
                {"pipeline": line.pipeline, **letter} for letter in glance.letters(run_id=line.run_id, limit=_LETTERS)
            ]
            reasons.update(glance.reasons(line.run_id))
    return Joint(
        line=summed(name, lines, outcome=noted.outcome if noted else None),
        shares=lines,
        letters=letters[:_LETTERS],
        reasons=dict(sorted(reasons.items())),
        seconds=noted.seconds if noted else None,
    )


def _newest(directory: Path, share: Share) -> RunLine | None:
    """The newest run of a share's input; replays are accounts of their own."""
    place = directory.with_name(share.named(directory.name))
    bring_up_to_date(place)
    with Glance(place) as glance:
        return next((line for line in glance.runs(limit=50) if line.lands_in is None), None)


def _is_current(noted: OneRun, newest: Sequence[tuple[Share, RunLine]]) -> bool:
    """Whether nothing has run since the note: each run of it is the newest of its share, and no other is newer."""
    of_it = [line for share, line in newest if noted.runs.get(share.tag) == line.run_id]
    others = [line for share, line in newest if noted.runs.get(share.tag) != line.run_id]
    if len(of_it) != len(noted.runs) or not of_it:
        return False
    return all(line.started_ns < min(own.started_ns for own in of_it) for line in others)


def summed(name: str, lines: Sequence[RunLine], *, outcome: str | None) -> RunLine:
    """Runs of shares as one: counts added up, from the first start to the last end. It has no id of its own."""
    counts = {member: sum(getattr(line, member) for line in lines) for member in _SUMS}
    ends = [line.ended_ns for line in lines if line.ended_ns is not None]
    return RunLine(
        pipeline=name,
        run_id="",
        epoch=max(line.epoch for line in lines),
        outcome=outcome or min((line.outcome for line in lines), key=_rank),
        started_ns=min(line.started_ns for line in lines),
        ended_ns=max(ends) if len(ends) == len(lines) else None,
        **counts,
    )


def _rank(outcome: str) -> int:
    return _WORST.index(outcome) if outcome in _WORST else len(_WORST)
