"""What the ledger keeps, as values: jobs, runs, parts. No SQL, no file."""

from __future__ import annotations

import msgspec

from engine.record import Mark, Slice

# Epochs of replays are numbered from here on, so that no epoch of an input ever has the same keys.
REPLAYS_FROM = 1_000_000


class JobRow(msgspec.Struct, gc=False, kw_only=True):
    """One job of ours, from plan to end. Mutable: the lanes move it on and hand it to the ledger.

    (epoch, seq) names it for ever. `key` is the Idempotency-Key of `attempt`; `digest` the SHA-256 of the request
    body; `keys_digest` of the sorted row keys. `sent_ns` is when the attempt's first request left, the start of the
    idempotency window. Times are wall nanoseconds. `rows` = accepted + rejected + dead once it has ended.
    """

    epoch: int
    seq: int
    run_id: str
    kind: str
    rows: int
    body_bytes: int
    digest: bytes
    keys_digest: bytes
    key: str
    trace_id: str
    span_id: str
    slices: tuple[Slice, ...]
    planned_ns: int
    state: str = "planned"
    attempt: int = 1
    remote_id: str | None = None
    sent_ns: int | None = None
    submitted_ns: int | None = None
    settled_ns: int | None = None
    ended_ns: int | None = None
    accepted: int = 0
    rejected: int = 0
    dead: int = 0
    part: int | None = None
    error: str | None = None


class RunRow(msgspec.Struct, gc=False, kw_only=True):
    """One run: it may span several processes, if some were killed. `outcome` is None until it is done.

    `read`, `filtered` and `dead` count what planning saw; what became of the rows sent is in the jobs. A replay has an
    epoch of its own, for its keys and positions, and `lands_in` is the epoch whose output its rows become part of.
    """

    run_id: str
    epoch: int
    started_ns: int
    trace_id: str
    span_id: str
    read: int = 0
    filtered: int = 0
    dead: int = 0
    invocations: int = 1
    alive_ns: int | None = None
    stopped_ns: int | None = None
    ended_ns: int | None = None
    outcome: str | None = None
    settings_digest: str = ""
    lands_in: int | None = None

    @property
    def is_replay(self) -> bool:
        """Whether its rows are dead letters that are sent again."""
        return self.lands_in is not None

    @property
    def output_epoch(self) -> int:
        """The epoch whose parts its rows land in."""
        return self.epoch if self.lands_in is None else self.lands_in


class PartRow(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A durable part."""

    epoch: int
    number: int
    run_id: str
    name: str
    rows: int
    body_bytes: int
    sha256: str
    created_ns: int


class Planned(msgspec.Struct, gc=False, kw_only=True):
    """What one stretch of reading brought: at most one job, and what never became part of one.

    Written in one transaction, so that the position, the books and the job can never disagree. `kept` holds the
    records themselves when the source cannot read them again; `slices` is all that was read here.
    """

    job: JobRow | None
    marks: dict[str, Mark]
    read: int
    filtered: int
    dead: int
    kept: bytes | None = None
    slices: tuple[Slice, ...] = ()


class Book(msgspec.Struct, gc=False, kw_only=True):
    """The books of a run, added up by the ledger itself, in rows (and `jobs` in jobs)."""

    read: int
    filtered: int
    accepted: int
    rejected: int
    dead: int
    jobs: int
    parts: int

    @property
    def open(self) -> int:
        """Rows that have not ended."""
        return self.read - self.filtered - self.accepted - self.rejected - self.dead
