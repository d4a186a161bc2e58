"""The records of one job, recalled: for sending again, and for naming the rows that did not make it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterable, Sequence

import msgspec

from engine.record import DeadLetter
from engine.store.rows import JobRow

# An original that can be read again where it came from is kept whole up to here; of a longer one, its beginning.
ORIGINAL_MAX = 1024 * 1024
# The same for all originals of one job that are recalled at once; past this, short beginnings.
ORIGINALS_MAX = 16 * 1024 * 1024
_HEAD_BYTES = 4096


class Records(msgspec.Struct, gc=False, kw_only=True):
    """A job's records, in the order they travel. Lists are parallel; `starts`/`ends` are input offsets.

    `raws` are originals, empty where nobody asked for them; `sizes` has, by index, the true size of those of which
    only the beginning is here.
    """

    items: list[bytes]
    raws: list[bytes]
    keys: list[str]
    inputs: list[str]
    lines: list[int]
    starts: list[int]
    ends: list[int]
    sizes: dict[int, int] = {}


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How one row of a job ended, other than accepted: by key, with the platform's or our reason."""

    key: str
    bucket: str
    stage: str
    code: str
    reason: str


class _Every:
    """Holds every key."""

    def __contains__(self, key: object) -> bool:
        return True


EVERY: Container[str] = _Every()
# A job's records; the originals of the rows with these keys among them.
Recall = Callable[[JobRow, Container[str]], Awaitable[Records]]


def beginning(raw: bytes, held_bytes: int) -> bytes:
    """What is kept of an original beside `held_bytes` of others, where the whole can be read again."""
    return raw[: ORIGINAL_MAX if held_bytes < ORIGINALS_MAX else _HEAD_BYTES]


def where_the_rest_is(kept: int, size: int, *, place: tuple[str, int, int]) -> str:
    """What the reason of a dead letter says when only its beginning is kept; `place` is input, start, end."""
    name, start, end = place
    return f" (kept: the first {kept} of {size} bytes; the whole is in `{name}`, bytes {start} to {end})"


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
    raw, place = records.raws[index], (records.inputs[index], records.starts[index], records.ends[index])
    size = records.sizes.get(index)
    reason = row.reason if size is None else row.reason + where_the_rest_is(len(raw), size, place=place)
    return DeadLetter(
        bucket=row.bucket, stage=row.stage, code=row.code, reason=reason, input=place[0],
        line=records.lines[index], start=place[1], end=place[2], key=row.key, raw=raw, seq=job.seq,
        remote_id=job.remote_id, trace_id=job.trace_id, sent=None if sent == raw else sent,
    )  # fmt: skip


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Records)


def keep(records: Records) -> bytes:
    """Records as one value for the ledger, for inputs that cannot be read twice, or only at a price."""
    if records.items == records.raws:
        records = msgspec.structs.replace(records, items=[])
    return _encoder.encode(records)


def unkeep(data: bytes) -> Records:
    """The reverse of `keep`."""
    records = _decoder.decode(data)
    if not records.items:
        records.items = records.raws
    return records


def count(ended: Sequence[Ended], bucket: str) -> int:
    """How many rows ended in a bucket."""
    return sum(1 for row in ended if row.bucket == bucket)
