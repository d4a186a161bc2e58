"""Refusals: rows that a sink could not hold, found when their part was finished; they leave their jobs as dead letters.

Most rows that do not fit are found while they are encoded. A database may refuse one only then: by a constraint, or a
value out of a type's range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from engine.errors import OutputError
from engine.jobs.records import Ended, Recall, letters_of
from engine.record import DeadLetter, RefusedRow
from engine.store.rows import JobRow

REFUSED = "record.refused"
_REASON_MAX = 500


class Landed(Protocol):
    """One job in a part: how many rows of it were appended, in the order of the jobs, and its dead letters."""

    job: JobRow
    rows: int
    letters: list[DeadLetter]


async def take_out(refused: Sequence[RefusedRow], landed: Sequence[Landed], recall: Recall) -> None:
    """Make dead letters of the refused rows of a part, and correct the counts of their jobs.

    Raises:
        OutputError: a refused row cannot be found in what was read, so nothing could be said of it.
    """
    first = 0
    for entry in landed:
        mine = [row for row in refused if first <= row.index < first + entry.rows]
        first += entry.rows
        if not mine:
            continue
        ended = [Ended(row.key, "dead", "sink", REFUSED, row.reason[:_REASON_MAX]) for row in mine]
        letters = letters_of(entry.job, await recall(entry.job, {row.key for row in mine}), ended)
        if len(letters) < len(mine):
            raise OutputError(
                f"the sink refuses {len(mine)} rows of a job, and their keys are not among those that were read: "
                f"{mine[0].reason}",
                hint="let the column that is the key hold the key of the row that was read",
            )
        entry.letters += letters
        entry.job.accepted -= len(mine)
        entry.job.dead += len(mine)
