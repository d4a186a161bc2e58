"""The records of one job, recalled: for sending again, and for naming the rows that did not make it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

import msgspec

from engine.record import DeadLetter
from engine.store.rows import JobRow


class Records(msgspec.Struct, gc=False, kw_only=True):
    """A job's records, in the order they travel. Lists are parallel; `starts`/`ends` are input offsets."""

    items: list[bytes]
    raws: list[bytes]
    keys: list[str]
    inputs: list[str]
    lines: list[int]
    starts: list[int]
    ends: list[int]


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How one row of a job ended, other than accepted: by key, with the platform's or our reason."""

    key: str
    bucket: str
    stage: str
    code: str
    reason: str


Recall = Callable[[JobRow], Awaitable[Records]]


def letters_of(job: JobRow, records: Records, ended: Iterable[Ended]) -> list[DeadLetter]:
    """Dead letters for rows of a job, each with the bytes and the place it was read from.

    The same key may stand for several rows; they are taken in order.
    """
    places: dict[str, list[int]] = {}
    for index in range(len(records.keys) - 1, -1, -1):
        places.setdefault(records.keys[index], []).append(index)
    letters = []
    for row in ended:
        where = places.get(row.key)
        if where:
            letters.append(_letter(job, records, where.pop(), row))
    return letters


def letters_of_all(job: JobRow, records: Records, *, stage: str, code: str, reason: str) -> list[DeadLetter]:
    """Dead letters for every row of a job that gave up."""
    rows = (Ended(key, "dead", stage, code, reason) for key in records.keys)
    return [_letter(job, records, index, row) for index, row in enumerate(rows)]


def _letter(job: JobRow, records: Records, index: int, row: Ended) -> DeadLetter:
    sent = records.items[index]
    return DeadLetter(
        bucket=row.bucket, stage=row.stage, code=row.code, reason=row.reason, input=records.inputs[index],
        line=records.lines[index], start=records.starts[index], end=records.ends[index], key=row.key,
        raw=records.raws[index], seq=job.seq, remote_id=job.remote_id, trace_id=job.trace_id,
        sent=None if sent == records.raws[index] else sent,
    )  # fmt: skip


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Records)


def keep(records: Records) -> bytes:
    """Records as one value for the ledger, for inputs that cannot be read twice."""
    return _encoder.encode(records)


def unkeep(data: bytes) -> Records:
    """The reverse of `keep`."""
    return _decoder.decode(data)


def count(ended: Sequence[Ended], bucket: str) -> int:
    """How many rows ended in a bucket."""
    return sum(1 for row in ended if row.bucket == bucket)
