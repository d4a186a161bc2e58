"""The desk: where the work of one job reads entities and leaves results, and where the fault script reaches it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from engine.codec.payload import encode
from engine.contract.profile import PROFILE
from engine.emulator import results
from engine.emulator.entities import Shelf
from engine.emulator.jobtable import Job
from engine.emulator.state import State
from engine.emulator.work import WorkFailed

T = TypeVar("T")


class JobDesk:
    """The desk of one attempt at one job; what an earlier attempt left lying is removed first."""

    def __init__(self, state: State, job: Job, shelf: Shelf) -> None:
        self._state = state
        self._job = job
        self.shelf = shelf
        fault = state.faults.strike("result.rows", kind=job.kind, subject=job.id)
        self._drop = fault.count("drop") if fault else 0
        self._duplicate = fault.count("duplicate") if fault else 0
        self._miscount = fault.count("miscount") if fault else 0
        self.pad = fault.count("pad") if fault else 0
        results.discard(state, job.id)

    def open(self, name: str, media_type: str) -> results.Writer:
        """Begin a file; the name "" is the result document itself."""
        return results.Writer(self._state, self._job.id, name, media_type)

    def manifest(self, document: dict[str, Any]) -> None:
        """Store the result document as a list of files, whose URLs are signed when it is read."""
        writer = self.open("", "application/json")
        writer.write(encode(document))
        writer.close_manifest()

    def spoil(self, rows: list[T]) -> list[T]:
        """The rows as they are written: the first ones dropped or doubled where the fault script says so."""
        if self._drop:
            gone = min(self._drop, len(rows))
            self._drop -= gone
            rows = rows[gone:]
        if self._duplicate:
            twice = min(self._duplicate, len(rows))
            self._duplicate -= twice
            rows = [*rows, *rows[:twice]]
        return rows

    def miscount(self, summary: dict[str, Any]) -> dict[str, Any]:
        """The summary as it is written: with another total where the fault script says so."""
        if not self._miscount:
            return summary
        name = PROFILE.kinds[self._job.kind].total
        return {**summary, name: summary[name] + self._miscount}

    def source_lines(self, url: str) -> Generator[bytes, None, None]:
        """The lines of a result file of ours, by its signed URL, in bounded memory.

        Raises:
            WorkFailed: no longer there, or not this realm's.
        """
        lease = results.vouch(self._state, self._job.realm, url)
        if lease is None:
            raise WorkFailed("source_gone", "the signed URL of the source has expired")
        rest = b""
        for piece in results.pieces(self._state, lease.job_id, lease.name):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
        if rest:
            yield rest
