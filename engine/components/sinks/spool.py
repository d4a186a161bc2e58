"""Spool: the rows of a part that goes somewhere else than a directory, held in a file without a name.

The file is gone with the process, so nothing temporary stays. Its rows can be read again and again, so whoever takes
them may be asked again; when and how, the sinks say.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator

from engine.components.sinks.directory import PartRecord
from engine.components.sinks.parts import Unwritten, unwritable
from engine.record import RefusedRow

_BUFFER_BYTES = 1024 * 1024
_BLOCK_BYTES = 256 * 1024


class Spool:
    """What of `ports.Part` is the same wherever the rows go; `finish` is left to the sinks."""

    def __init__(self, *, epoch: int, number: int) -> None:
        self.name = spooled_name(epoch, number)
        self.epoch = epoch
        self.number = number
        try:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - open for as long as the part is
        except OSError as exc:
            raise unwritable(tempfile.gettempdir(), exc) from exc
        self._buffer = bytearray()
        self._unwritten = Unwritten()
        self._digest = hashlib.sha256()
        self._rows = 0
        self._body_bytes = 0

    @property
    def rows(self) -> int:
        """Rows appended."""
        return self._rows

    @property
    def body_bytes(self) -> int:
        """Bytes spooled."""
        return self._body_bytes

    def append(self, chunk: bytes, rows: int) -> None:
        """Spool encoded rows; see `ports.Part.append`."""
        self._buffer += chunk
        self._digest.update(chunk)
        self._rows += rows
        self._body_bytes += len(chunk)
        if len(self._buffer) >= _BUFFER_BYTES or self._unwritten:
            self.pour()

    def discard(self) -> None:
        """Forget the rows; may be called at any time, also twice."""
        self._file.close()

    def pour(self) -> None:
        """Bring everything into the file."""
        data, self._buffer = bytes(self._buffer), bytearray()
        try:
            self._unwritten.write(self._file.fileno(), data)
        except OSError as exc:
            raise unwritable(tempfile.gettempdir(), exc) from exc

    def blocks(self) -> Iterator[bytes]:
        """Everything that was poured, from the start."""
        fd, offset = self._file.fileno(), 0
        while block := os.pread(fd, _BLOCK_BYTES, offset):
            offset += len(block)
            yield block

    def lines(self) -> Iterator[list[bytes]]:
        """The same as whole lines, about a block at a time."""
        rest: list[bytes] = []
        for block in self.blocks():
            whole, newline, begun = block.rpartition(b"\n")
            if newline:
                yield b"".join((*rest, whole)).split(b"\n")
                rest = []
            rest.append(begun)

    def record(self, refused: tuple[RefusedRow, ...] = ()) -> PartRecord:
        """The part is where it goes; `refused` rows are not in it. Lets go of the file."""
        self._file.close()
        return PartRecord(self.name, self._rows - len(refused), self._body_bytes, self._digest.hexdigest(), refused)


def spooled_name(epoch: int, number: int) -> str:
    """What the ledger calls a part that is no file."""
    return f"part-{epoch:04d}-{number:06d}"
