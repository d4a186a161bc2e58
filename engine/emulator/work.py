"""The work of a job: what a kind asks for, checked at the door, and the steps that carry it out.

Each kind's file is a generator that yields between short steps, so that whoever drives it can let others run;
it reads a `Shelf`, writes through a `Desk`, and hands back an `Outcome`. Nothing here knows a clock, a task or
a request, and nothing is changed before the outcome is committed: work that is killed is work to do again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable
from typing import Any, Protocol, TypeVar

import msgspec

from engine.codec.payload import decoder
from engine.contract.problem import FieldFault
from engine.emulator.entities import Effect, Entity, Shelf
from engine.emulator.provenance_chain import Note, Witness, is_evidence, note

T = TypeVar("T")
_PATH = re.compile(r"at `\$([^`]*)`")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")

# Rows between two yields: a few milliseconds of work.
STEP_ROWS = 500


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done: the payload as it came, for which realm, for whom, and what "now" is for this job."""

    job_id: str
    realm: str
    kind: str
    payload: bytes
    now: str
    seed: int = 0
    actor_id: str = ""
    trace_id: str = ""
    secrecy_level: str = ""

    @property
    def witness(self) -> Witness:
        """On whose behalf evidence is touched."""
        return Witness(self.realm, self.job_id, self.actor_id, self.trace_id, self.secrecy_level)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Work done but not yet true: effects to apply in the transaction that ends the job, and the summary."""

    effects: list[Effect]
    summary: dict[str, Any]


class WorkFailed(Exception):
    """The job ends as failed, with this code; none of its effects happen."""

    def __init__(self, code: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retryable = retryable


class Page(Protocol):
    """A result file being written."""

    def write(self, data: bytes) -> None:
        """Append bytes; kept in pieces, so a large file never lies in memory whole."""

    def close(self) -> Stored:
        """End the file."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A finished result file: size in bytes and SHA-256 in hex of what is served."""

    name: str
    body_bytes: int
    sha256: str


class Desk(Protocol):
    """Where work gets its rows from and puts its results."""

    @property
    def shelf(self) -> Shelf:
        """The entities of the job's realm."""

    @property
    def pad(self) -> int:
        """How many bytes each row is longer than it need be."""

    def open(self, name: str, media_type: str) -> Page:
        """Begin a file; the name "" is the result document itself."""

    def manifest(self, document: dict[str, Any]) -> None:
        """Store the result document as a list of files, whose URLs are signed when it is read."""

    def spoil(self, rows: list[T]) -> list[T]:
        """The rows as they are written: some dropped or doubled where the fault script says so."""

    def miscount(self, summary: dict[str, Any]) -> dict[str, Any]:
        """The summary as it is written."""

    def source_lines(self, url: str) -> Generator[bytes, None, None]:
        """The lines of a result file of ours, by its signed URL.

        Raises:
            WorkFailed: no longer there, or not this realm's.
        """


# A step may hand out a function that takes long and touches nothing shared; it gets its result sent back.
Work = Generator[Callable[[], Any] | None, Any, Outcome]
Performer = Callable[[Task, Desk], Work]
# Whether a URL is a signed one of ours, for a result of the caller's own.
Vouch = Callable[[str], bool]
Checker = Callable[[bytes, Vouch], list[FieldFault]]


class Craft(msgspec.Struct, frozen=True):
    """One kind: how its payload is checked before a job exists, how the job is done, and the payload's type.

    `is_alone` work reads and changes entities, so two of them never overlap.
    """

    check: Checker
    perform: Performer
    payload: type
    is_alone: bool = True


def write_rows(page: Page, parts: list[bytes], *, pad: int) -> Generator[None, None, None]:
    """Write row results, encoded some at a time as members of a JSON array, padded where the script says so."""
    for number, part in enumerate(parts):
        if number:
            page.write(b",")
        if not pad:
            page.write(part)
        else:
            rows = decoder(list[msgspec.Raw]).decode(b"[" + part + b"]")
            for index, row in enumerate(rows):
                text = bytes(row)
                page.write((b"," if index else b"") + text[:-1] + b',"pad":"' + b"x" * pad + b'"}')
                yield None
        yield None


def notes_of(task: Task, operation: str, touched: Iterable[Entity]) -> list[Note]:
    """A deed of this job on those of some entities that are evidence."""
    return [
        note(task.witness, entity.external_id, operation, entity.properties, entity.enrichment)
        for entity in touched
        if is_evidence(entity.entity_type)
    ]


def read_payload(payload: bytes, kind: type[T]) -> T | list[FieldFault]:
    """Decode a payload as `kind`, or say where it is not one."""
    try:
        asked: T = decoder(kind).decode(payload)  # type: ignore[arg-type]  # a class is hashable
        return asked
    except msgspec.ValidationError as exc:
        return [fault_of(exc, "payload")]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        return [FieldFault(["body", "payload"], f"not valid JSON: {exc}", "json_invalid")]


def fault_of(error: msgspec.ValidationError, *inside: str) -> FieldFault:
    """A validation error as one fault of a 422; msgspec's path (`$.a[1]`) becomes its `loc`."""
    text = str(error)
    found = _PATH.search(text)
    steps = [step or index for step, index in _STEP.findall(found.group(1) if found else "")]
    loc: list[str | int] = [int(step) if step.isdigit() else step for step in steps if step != "..."]
    message = text.partition(" - at `")[0]
    missing = re.search(r"missing required field `([^`]+)`", message)
    if missing:
        return FieldFault(["body", *inside, *loc, missing.group(1)], "Field required", "missing")
    return FieldFault(["body", *inside, *loc], message, "invalid")


def fault(message: str, *loc: str | int, type: str = "value_error") -> FieldFault:
    """One fault at `payload.<loc…>`."""
    return FieldFault(["body", "payload", *loc], message, type)


def run_to_end(work: Work) -> Outcome:
    """Drive work in one go, for callers that have nobody to let run."""
    answer: Any = None
    while True:
        try:
            step = work.send(answer)
        except StopIteration as done:
            outcome: Outcome = done.value
            return outcome
        answer = None if step is None else step()
