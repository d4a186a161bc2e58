"""Records in transit: batches, the places they came from, and the ones we gave up on.

Values only. A batch is a window of consecutive records of one input, kept as the bytes that were
read; its parallel lists say where each record ends, so a job may be cut at any record.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

# Inputs are divided in blocks of this many bytes: small, so that small files keep several processes busy too. Who has
# which record hangs on it, so state that was made with another figure is refused.
BLOCK_BYTES = 64 * 1024


class Slice(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A run of consecutive bytes of one input: `[start, end)`, beginning on line `line` (from 1).

    Offsets count decompressed bytes. Covers everything read there, filtered and bad records too.
    """

    input: str
    start: int
    end: int
    line: int


class Mark(msgspec.Struct, frozen=True, gc=False):
    """How far one input has been taken: everything before `offset` is in the ledger.

    `line` is the number of the line that begins at `offset`. `fingerprint` is the SHA-256 (hex) of the
    first `head` bytes of the input (decompressed), so that an exchanged file is noticed.
    """

    offset: int
    line: int
    fingerprint: str
    head: int


class BadRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that could not be read or transformed: its bytes, its place, and why.

    `lines` is how many lines it spans, `key` names it where it was read well enough to be named.
    """

    input: str
    line: int
    start: int
    end: int
    raw: bytes
    code: str
    reason: str
    lines: int = 1
    key: str = ""


class Batch(msgspec.Struct, gc=False):
    """Consecutive records of one input. Lists are parallel: one entry per good record.

    raws     JSON text of each record (what a payload is joined from)
    ends     input offset just past each record, its line end included
    lines    line number of each record, from 1
    values   decoded objects, present when a transform or a CSV source made them
    keys     the record's identity (`[source] key`), always text
    bad      records that failed here, in order of `end`
    gone     input offset just past each filtered record, ascending (its length is the filtered count)
    after    line number just past each record; None when every record is one line
    start, end, line, next_line   the whole window, bad and blank lines included
    """

    input: str
    start: int
    end: int
    line: int
    next_line: int
    raws: list[bytes]
    ends: Sequence[int]
    lines: Sequence[int]
    keys: list[str]
    values: list[dict[str, Any]] | None = None
    bad: list[BadRecord] = []
    gone: list[int] = []
    after: Sequence[int] | None = None

    def line_after(self, index: int) -> int:
        """The number of the line that begins where record `index` ends."""
        return self.lines[index] + 1 if self.after is None else self.after[index]


class RefusedRow(msgspec.Struct, frozen=True, gc=False):
    """A row that a sink could not hold, found when its part was finished: its index in the part, its key, and why."""

    index: int
    key: str
    reason: str


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """A record that ended as rejected (the platform refused it) or dead (we gave up).

    `raw` is the record as it was read, `stage` where it ended (read, transform, create, job, result,
    request, sink),
    `bucket` is "rejected" or "dead". `sent` is what travelled for it, where that was not `raw`.
    """

    bucket: str
    stage: str
    code: str
    reason: str
    input: str
    line: int
    start: int
    end: int
    key: str
    raw: bytes
    seq: int | None = None
    remote_id: str | None = None
    trace_id: str | None = None
    sent: bytes | None = None


class Counts(msgspec.Struct, gc=False):
    """The books of a run, in rows. `open` is derived, so it can never be set to please."""

    read: int = 0
    accepted: int = 0
    rejected: int = 0
    dead: int = 0
    filtered: int = 0

    @property
    def open(self) -> int:
        """Rows read that have not ended yet."""
        return self.read - self.accepted - self.rejected - self.dead - self.filtered


class Share(msgspec.Struct, frozen=True):
    """One of `of` equal shares of every input, by number from 1: which records are whose.

    A record belongs where its last byte lies: blocks of an input go round, from a share that the input's name decides.
    So nothing moves to another share when a file grows, or when there are more of them.
    """

    number: int
    of: int
    block_bytes: int = BLOCK_BYTES

    @property
    def tag(self) -> str:
        """The share in a name: `1of2`."""
        return f"{self.number}of{self.of}"

    def named(self, pipeline: str) -> str:
        """What the share of a pipeline is called, in its state and its keys."""
        return f"{pipeline}.{self.tag}"

    def has(self, name: str, end: int) -> bool:
        """Whether the record of this input that ends just before offset `end` is in the share."""
        return (zlib.crc32(name.encode("utf-8", "surrogateescape")) + (end - 1) // self.block_bytes) % self.of == (
            self.number - 1
        )
