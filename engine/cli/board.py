"""Board: what a run in several processes shows while it runs: the sum of its shares, and a line as each one ends.

On a terminal one line is redrawn, elsewhere one is written now and then. Always on stderr, and never in the run's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from engine.cli.output import clock_text, grouped
from engine.cli.share import Said
from engine.cli.spout import Spout
from engine.record import Counts, Share
from engine.runtime.sharing import Ending

_REDRAW_S = 0.5
_LINE_S = 10.0


class Board:
    """Shows the shares of one run. Called on its loop."""

    def __init__(self, stream: TextIO, pipeline: str, shares: Sequence[Share]) -> None:
        self._spout = Spout(stream)
        self._is_tty = stream.isatty()
        self._pipeline = pipeline
        self._counts = {share.tag: Counts() for share in shares}
        self._ended = 0
        self._started_s = 0.0

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Show what is noted while the block runs."""
        loop = asyncio.get_running_loop()
        self._started_s = loop.time()
        task = loop.create_task(self._show())
        try:
            yield
        finally:
            task.cancel()
            self._spout.write(self._erase())

    def note(self, tag: str, said: Said) -> None:
        """Take the rows of a share so far."""
        if said.counts is not None:
            self._counts[tag] = said.counts

    def end(self, ending: Ending) -> None:
        """Say how a share ended."""
        self._ended += 1
        report = ending.report
        if report is None:
            self.say(f"{self._pipeline}  {ending.tag}  failed")
            return
        self._counts[ending.tag] = Counts(
            read=report.read, accepted=report.accepted, rejected=report.rejected, dead=report.dead,
            filtered=report.filtered,
        )  # fmt: skip
        self.say(
            f"{self._pipeline}  {ending.tag}  {report.outcome.replace('_', ' ')}: {grouped(report.read)} rows read, "
            f"{grouped(report.accepted)} accepted, run {report.run_id}"
        )

    def say(self, line: str) -> None:
        """Write a line that stays."""
        self._spout.write(self._erase() + line + "\n")

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(_REDRAW_S if self._is_tty else _LINE_S)
            line = self._line(asyncio.get_running_loop().time() - self._started_s)
            self._spout.write(f"{self._erase()}{line}" if self._is_tty else f"{line}\n")

    def _line(self, elapsed_s: float) -> str:
        shares = self._counts.values()
        sums = {name: sum(getattr(counts, name) for counts in shares) for name in (*Counts.__struct_fields__, "open")}
        rows = "   ".join(f"{name} {grouped(count)}" for name, count in sums.items())
        return (
            f"{self._pipeline}  {clock_text(elapsed_s)}  {len(shares) - self._ended} of {len(shares)} at work   {rows}"
        )

    def _erase(self) -> str:
        return "\r\x1b[K" if self._is_tty else ""
