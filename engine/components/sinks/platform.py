"""Platform sink: rows that were taken by a route of the platform; nothing is left to write.

The requests are the runtime's, before a batch lands here. What they answered is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import OutputError
from engine.ports import PartFile


class NoPart:
    """A part that holds nothing, and is full at once: each batch is committed by itself."""

    rows = 0
    body_bytes = 0

    def append(self, chunk: bytes, rows: int) -> None:
        """The rows are at the platform."""

    def finish(self) -> PartFile:
        """Never: a part without rows has no file."""
        raise OutputError("a platform sink has no files")

    def discard(self) -> None:
        """Nothing to remove."""


class PlatformSink:
    """A `ports.Sink` without files."""

    def encode(self, rows: Sequence[Any]) -> bytes:
        """Nothing of a row is written here."""
        return b""

    def begin(self, *, epoch: int, number: int) -> NoPart:
        """A part for one batch."""
        return NoPart()

    def sweep(self, keep: set[str]) -> int:
        """Nothing lies about."""
        return 0

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """There are no parts to list."""
        return ""
