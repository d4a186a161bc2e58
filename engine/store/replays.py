"""What a replay writes beside its jobs: which letters it took, which of them have ended, and where new ones came from.

Statements only; the ledger runs them in the transaction they belong to. In a replay's epoch a letter is a place in
the input: its id is both the offset just past it and its line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.record import Slice
from engine.store.rows import REPLAYS_FROM, JobRow
from engine.store.sqlite import Statement

_TAKE = """
UPDATE dead_letters SET state='replaying', replay_run=?, changed_ns=? WHERE id=? AND state IN ('open', 'edited')
"""
_GIVE_BACK = """
UPDATE dead_letters SET state=CASE WHEN edited IS NULL THEN 'open' ELSE 'edited' END, replay_run=NULL
WHERE replay_run=? AND state='replaying'
"""
_ENDED = """
UPDATE dead_letters SET state='replayed', changed_ns=coalesce(?, changed_ns)
WHERE replay_run=? AND state='replaying' AND id>? AND id<=?
"""
# A letter of a replay is found by its place, which is the letter it was; it takes over where that one came from.
_CAME_FROM = """
UPDATE dead_letters SET (replay_of, input, line, start, "end") = (
  SELECT o.id, o.input, o.line, o.start, o."end" FROM dead_letters o WHERE o.id=dead_letters.line)
WHERE run_id=? AND epoch>=? AND replay_of IS NULL
"""


def take(run_id: str, letter_ids: Iterable[int], *, now_ns: int) -> Statement:
    """Letters that a replay has taken; the ones that are not to be had are left alone."""
    return (_TAKE, [(run_id, now_ns, letter_id) for letter_id in letter_ids])


def give_back(run_id: str) -> Statement:
    """Letters of a replay that is abandoned, as far as they have not ended."""
    return (_GIVE_BACK, [(run_id,)])


def ended(run_id: str, slices: Iterable[Slice], *, now_ns: int | None = None) -> Statement:
    """Letters in these slices of a replay have ended again, one way or the other."""
    return (_ENDED, [(now_ns, run_id, piece.start, piece.end) for piece in slices])


def ended_jobs(jobs: Sequence[JobRow]) -> list[Statement]:
    """The same for whole jobs; nothing for jobs of an input."""
    again = [job for job in jobs if job.epoch >= REPLAYS_FROM]
    return [ended(job.run_id, job.slices, now_ns=job.ended_ns) for job in again]


def came_from(run_id: str) -> Statement:
    """New letters of a run, if it is a replay, say which letters they were."""
    return (_CAME_FROM, [(run_id, REPLAYS_FROM)])
