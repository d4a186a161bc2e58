"""Every seam of the engine on one page: what the core asks of the world, as protocols.

A seam is here when more than one thing can stand behind it. Concrete classes never import each other
through these; `assembly` puts them together.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from engine.contract.exchange import Request, Response
from engine.events import Event
from engine.record import Batch, Mark, RefusedRow, Slice


class Clock(Protocol):
    """Time; see `engine.clock`."""

    def now_ns(self) -> int:
        """Wall time, nanoseconds since 1970 UTC."""

    def monotonic(self) -> float:
        """Seconds for intervals."""

    async def sleep(self, seconds: float) -> None:
        """Wait this long."""


class Observer(Protocol):
    """Whoever wants to know what happened. Must not raise, block or keep the event's owner."""

    def notice(self, event: Event) -> None:
        """Take note of a fact."""


class BodyStream(Protocol):
    """An answer whose body is read piece by piece."""

    @property
    def status(self) -> int:
        """HTTP status."""

    @property
    def headers(self) -> Mapping[str, str]:
        """Lower-case names."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it is on the wire, never inflated, in pieces of at most 64 KiB.

        Raises:
            BrokenAnswer: it ended before its declared length.
            TimedOut: nothing came for the idle time-out.
        """


class Transport(Protocol):
    """Sends requests over real connections. Never follows redirects, never inflates, never keeps cookies."""

    async def send(self, request: Request) -> Response:
        """Send and read the whole answer under a cap.

        Raises:
            ConnectFailed: nothing was sent. TimedOut, BrokenAnswer: the effect is unknown.
        """

    def stream(self, request: Request) -> AbstractAsyncContextManager[BodyStream]:
        """Send and hand out the answer's body as a stream; leaving the block closes it."""

    async def aclose(self) -> None:
        """Close every connection."""


class Source(Protocol):
    """Where records come from. Plain and blocking on purpose: the runtime drives it on a thread."""

    @property
    def can_reread(self) -> bool:
        """Whether a slice can be read a second time; otherwise payloads are kept in the ledger."""

    @property
    def can_seek(self) -> bool:
        """Whether reading a slice again costs no more than its bytes, wherever it lies."""

    def read(self, marks: Mapping[str, Mark]) -> Iterator[Batch]:
        """Read on from `marks` (by input name); inputs without a mark are read from their start.

        A malformed record becomes a `BadRecord` of its batch. Inputs come in a fixed order.

        Raises:
            InputError: an input cannot be opened or is damaged as a whole.
            StaleCheckpoint: an input is no longer the one its mark was made for.
        """

    def reread(self, slices: Sequence[Slice]) -> Iterator[Batch]:
        """Read exactly these slices again, in their order; one or more batches per slice."""

    def mark(self, name: str, offset: int, line: int) -> Mark:
        """The mark that says everything of the input `name` before `offset` has been taken."""

    def close(self) -> None:
        """Stop reading; a blocked `read` ends soon after."""


class Transform(Protocol):
    """Changes the values of a batch in place of others. Plain: it cannot wait."""

    def apply(self, values: list[dict[str, Any]]) -> list[dict[str, Any] | None]:
        """One result per value, in order; None filters the record on purpose.

        Raises:
            PartialFailure: some records could not be transformed; the runtime dead-letters those.
        """


class Part(Protocol):
    """An output file being written under a temporary name."""

    @property
    def rows(self) -> int:
        """Rows appended."""

    @property
    def body_bytes(self) -> int:
        """Bytes appended (before any final encoding)."""

    def append(self, chunk: bytes, rows: int) -> None:
        """Add encoded rows. May block for a disk write.

        Raises:
            OutputError: the disk refused. The part has the rows; call again, with none, once there is room.
        """

    def finish(self) -> PartFile:
        """Make it durable under its final name: fsync, rename, fsync directory. Blocks.

        Raises:
            OutputError: the disk refused; nothing stands under the final name. For want of room: call again once there
                is some, or discard.
        """

    def discard(self) -> None:
        """Remove the temporary file."""


class PartFile(Protocol):
    """A finished part, as the manifest lists it."""

    @property
    def name(self) -> str:
        """File name inside the sink's directory."""

    @property
    def rows(self) -> int:
        """Rows in it."""

    @property
    def body_bytes(self) -> int:
        """Bytes of the final file."""

    @property
    def sha256(self) -> str:
        """Hex digest of the final file."""

    @property
    def refused(self) -> Sequence[RefusedRow]:
        """Rows that were appended and are not in it, by index; only a sink that judges rows at the end has any."""


class Sink(Protocol):
    """Where results land, as parts that are harmless to write again under the same name."""

    def encode(self, rows: Sequence[Any]) -> bytes:
        """Encode result rows (Structs or dicts) for `Part.append`."""

    def begin(self, *, epoch: int, number: int) -> Part:
        """Open part `number` of `epoch`; its final name depends on these two alone."""

    def sweep(self, keep: set[str]) -> int:
        """Remove temporary files and parts of ours that are not in `keep`; how many went."""

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """Replace `_manifest.json` atomically; answers its path."""
