"""Standard output as a sink: one JSON object per line, a part at a time.

What has been written cannot be taken back, so a row may come twice: when the process dies between the last byte of a
part and its commit. Nothing else writes there while such a sink is used.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from engine.components.sinks.directory import PartRecord
from engine.components.sinks.ndjson import lines_of
from engine.components.sinks.parts import write_all
from engine.components.sinks.spool import Spool
from engine.errors import OutputError


class StdoutSink:
    """A `ports.Sink` on descriptor 1."""

    def encode(self, rows: Sequence[Any]) -> bytes:
        """Rows as lines, each with its line end."""
        return lines_of(rows)

    def begin(self, *, epoch: int, number: int) -> StdoutPart:
        """Open a part; its rows come out when it is finished."""
        return StdoutPart(epoch=epoch, number=number)

    def sweep(self, keep: set[str]) -> int:
        """Nothing can be taken back."""
        return 0

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """There is no place for one."""
        return ""


class StdoutPart(Spool):
    """A part that is written out at its end."""

    def finish(self) -> PartRecord:
        """Write every row. See `ports.Part.finish`.

        Raises:
            OutputError: nobody reads it any more, or its disk takes no more; some of the rows may be out.
        """
        self.pour()
        try:
            sys.stdout.flush()
            for block in self.blocks():
                write_all(1, block)
        except OSError as exc:
            raise OutputError(
                f"standard output cannot be written: {exc.strerror or exc}",
                hint="rows of this part come again, from its first, when the run is started again",
            ) from None
        return self.record()
