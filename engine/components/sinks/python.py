"""Python sink: calls a function of the user's with the rows of a part, batch by batch.

A part that was not committed comes again, with the same rows or in other parts: the function must be safe to repeat,
by the key of each row or by what it is told of the part. Rows it cannot take it names by raising PartialFailure; if
whatever it writes to is away, an OutputError with `is_away=True` has it called again from the part's first batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from engine.codec.payload import decoder
from engine.components.sinks.directory import PartRecord
from engine.components.sinks.ndjson import lines_of
from engine.components.sinks.spool import Spool
from engine.errors import EngineError, OutputError, PartialFailure
from engine.record import RefusedRow

_BATCH_ROWS = 1_000
_REASON_CHARS = 500
_rows = decoder(list[dict[str, Any]])


class PartOfRows(msgspec.Struct, frozen=True, kw_only=True):
    """What the function is told: whose rows these are, the part they belong to, and which batch of it, from 0.

    (pipeline, epoch, part) names a part for ever once it is committed. After a crash a part that was not may come again
    with other rows: what an earlier try left under its name is to be replaced. `first` is the index of the first row.
    """

    pipeline: str
    epoch: int
    part: int
    batch: int
    first: int


Function = Callable[[list[dict[str, Any]], PartOfRows], Any]


class PythonSink:
    """A `ports.Sink` into `function`; `call` is its name in messages, `key` the member that names a row."""

    def __init__(self, call: str, function: Function, *, pipeline: str, key: str) -> None:
        self.call = call
        self.pipeline = pipeline
        self.key = key
        self._function = function

    def encode(self, rows: Sequence[Any]) -> bytes:
        """Rows as they are spooled."""
        return lines_of(rows)

    def begin(self, *, epoch: int, number: int) -> PythonPart:
        """Open a part; the function hears of it when it is finished."""
        return PythonPart(self, epoch=epoch, number=number)

    def sweep(self, keep: set[str]) -> int:
        """The function's own rows are its own business."""
        return 0

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """There is no place for one."""
        return ""

    def hand_over(self, rows: list[dict[str, Any]], part: PartOfRows) -> list[RefusedRow]:
        """Call the function; the rows it refused.

        Raises:
            OutputError: it raised anything but an error of the engine.
        """
        try:
            # Copies: what the function does to its rows must not change what a refused one is called.
            self._function([dict(row) for row in rows], part)
        except PartialFailure as exc:
            return [self._refused(rows, index, reason, part) for index, reason in sorted(exc.failures.items())]
        except EngineError:
            raise
        except Exception as exc:
            raise OutputError(
                f"the sink `{self.call}` failed on rows {part.first} to {part.first + len(rows) - 1} of part "
                f"{part.part}: {type(exc).__name__}: {exc}"[:_REASON_CHARS],
                hint="mend the function and run again; rows that it cannot take it may name by raising PartialFailure",
                call=self.call,
            ) from exc
        return []

    def _refused(self, rows: list[dict[str, Any]], index: int, reason: str, part: PartOfRows) -> RefusedRow:
        key = rows[index].get(self.key) if 0 <= index < len(rows) else None
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise OutputError(
                f"the sink `{self.call}` refuses row {index} of {len(rows)}, which has no `{self.key}` to be named by",
                hint="let the rows keep their key, and name rows by their index in the batch",
            )
        return RefusedRow(part.first + index, str(key), f"{self.call}: {reason}"[:_REASON_CHARS])


class PythonPart(Spool):
    """A part that is handed over at its end."""

    def __init__(self, sink: PythonSink, *, epoch: int, number: int) -> None:
        super().__init__(epoch=epoch, number=number)
        self._sink = sink

    def finish(self) -> PartRecord:
        """Hand every row over; see `ports.Part.finish`."""
        self.pour()
        refused: list[RefusedRow] = []
        first = 0
        for batch, texts in enumerate(self._batches()):
            rows = _rows.decode(b"[" + b",".join(texts) + b"]")
            part = PartOfRows(
                pipeline=self._sink.pipeline, epoch=self.epoch, part=self.number, batch=batch, first=first
            )
            refused += self._sink.hand_over(rows, part)
            first += len(rows)
        return self.record(tuple(refused))

    def _batches(self) -> Iterator[list[bytes]]:
        for lines in self.lines():
            for start in range(0, len(lines), _BATCH_ROWS):
                yield lines[start : start + _BATCH_ROWS]
