"""Rows that come once: a listing, a table, a function. What is open of them is kept in the ledger.

Where such rows come from, and how a place among them is remembered, is each source's own matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.components.sources.ndjson import NdjsonSource
from engine.errors import StaleCheckpoint
from engine.record import Batch, Slice


class OnceSource(NdjsonSource):
    """JSON rows of one input, called `_name`, that is another one a moment later."""

    _name: str

    @property
    def can_reread(self) -> bool:
        """Nothing promises the same rows a second time."""
        return False

    @property
    def can_seek(self) -> bool:
        """As `can_reread`."""
        return False

    def reread(self, slices: Sequence[Slice]) -> Iterator[Batch]:
        """Never: the ledger keeps what was read."""
        raise StaleCheckpoint(f"{self._name} cannot be read a second time", input=self._name)
