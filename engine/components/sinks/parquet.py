"""Parquet sink: rows in typed columns; the door of arro3, which is imported when such a sink opens.

Rows are spooled as JSON lines and converted when the part closes, row group by row group, so memory is
bounded by the row group and not by the part.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from engine.codec import payload
from engine.codec.fields import FieldType, parse_fields
from engine.components.sinks.cells import Cells, is_null, json_text
from engine.components.sinks.directory import Directory, PartRecord
from engine.components.sinks.parts import Unwritten, unwritable
from engine.errors import MissingExtra, OutputError, PartialFailure
from engine.pipeline.spec import SinkSpec

_CODECS = {"none": "uncompressed", "gzip": "gzip(1)", "zstd": "zstd(3)"}
_BUFFER_BYTES = 1024 * 1024
_BATCH_ROWS = 8192
_INT64 = range(-(2**63), 2**63)


class ParquetSink:
    """Writes the declared fields as columns: datetime as UTC microseconds, json as text.

    Every column may be null, whatever is declared: the rows were checked when they were read. The
    compression of the spec is that of the column chunks, so file names have no further suffix.
    """

    def __init__(self, spec: SinkSpec, fields: Mapping[str, str], directory: Directory) -> None:
        self._spec = spec
        self._directory = directory
        self._kinds = parse_fields(fields)
        self._schema = _schema(self._kinds)
        self._cells = Cells(tuple(self._kinds))
        self._json = [(i, kind.nullable) for i, kind in enumerate(self._kinds.values()) if kind.word == "json"]
        self._ints = [i for i, kind in enumerate(self._kinds.values()) if kind.word == "int"]

    def encode(self, rows: Sequence[Any]) -> bytes:
        """Rows as they are spooled.

        Raises:
            PartialFailure: whole numbers that need more than 64 bits.
        """
        names = tuple(self._kinds)
        cells = self._cells.of(rows)
        self._refuse_large_numbers(cells)
        if self._json:
            cells = [self._with_text(row) for row in cells]
        return payload.encode_lines([dict(zip(names, row, strict=True)) for row in cells])

    def begin(self, *, epoch: int, number: int) -> ParquetPart:
        """Open a part."""
        name = self._directory.name_of(epoch=epoch, number=number, suffix="parquet")
        return ParquetPart(self._directory, name, self._schema, self._spec)

    def sweep(self, keep: set[str]) -> int:
        """See `ports.Sink.sweep`."""
        return self._directory.sweep(keep)

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """See `ports.Sink.write_manifest`."""
        return self._directory.write_manifest(document)

    def _refuse_large_numbers(self, cells: list[tuple[Any, ...]]) -> None:
        failures = {
            index: f"column `{tuple(self._kinds)[column]}`: a whole number needs more than 64 bits"
            for column in self._ints
            for index, row in enumerate(cells)
            if row[column] is not None and row[column] not in _INT64
        }
        if failures:
            raise PartialFailure(f"{len(failures)} rows do not fit their columns", failures=failures)

    def _with_text(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        cells = list(row)
        for column, is_nullable in self._json:
            if is_nullable and is_null(cells[column]):
                cells[column] = None
            elif cells[column] is not None:
                cells[column] = json_text(cells[column])
        return tuple(cells)


class ParquetPart:
    """A part in the making: its spool file."""

    def __init__(self, directory: Directory, name: str, schema: Any, spec: SinkSpec) -> None:
        self.name = name
        self._directory = directory
        self._schema = schema
        self._spec = spec
        self._spool_name = f"{name}.spool"
        self._fd = directory.create(self._spool_name)
        self._buffer = bytearray()
        self._unwritten = Unwritten()
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
        """Spool encoded rows."""
        self._buffer += chunk
        self._rows += rows
        self._body_bytes += len(chunk)
        if len(self._buffer) >= _BUFFER_BYTES or self._unwritten:
            self._pour()

    def finish(self) -> PartRecord:
        """Convert the spool and publish the result; see `ports.Part.finish`."""
        self._pour()
        fd = self._directory.create(self.name)
        try:
            size, digest = self._convert(fd)
        except BaseException:
            # The spool stays: once there is room, the part is made from it again.
            os.close(fd)
            self._directory.remove_temporary(self.name)
            raise
        try:
            self._directory.publish(fd, self.name)
        except OutputError as exc:
            if exc.facts.get("is_away"):
                os.close(fd)  # It is made from the spool again.
            raise
        self.discard()
        return PartRecord(self.name, self._rows, size, digest)

    def discard(self) -> None:
        """Remove the spool; may be called at any time, also twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._directory.remove_temporary(self._spool_name)

    def _pour(self) -> None:
        data, self._buffer = bytes(self._buffer), bytearray()
        try:
            self._unwritten.write(self._fd, data)
        except OSError as exc:
            raise unwritable(self._directory.where(self.name), exc) from exc

    def _convert(self, fd: int) -> tuple[int, str]:
        import arro3.io

        row_bytes = max(1, self._body_bytes // max(1, self._rows))
        group_rows = max(1, self._spec.row_group // row_bytes)
        path, file = self._directory.where(self.name), _Written(io.FileIO(fd, "r+b", closefd=False))
        try:
            with os.fdopen(self._fd, "rb", closefd=False) as spool, file:
                spool.seek(0)
                rows = arro3.io.read_json(spool, self._schema, batch_size=min(_BATCH_ROWS, group_rows))
                arro3.io.write_parquet(
                    rows,
                    file,
                    compression=_CODECS[self._spec.compression],
                    max_row_group_size=group_rows,
                )
                file.flush()
                file.seek(0)
                return os.fstat(fd).st_size, hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as exc:
            raise unwritable(path, exc) from exc
        except Exception as exc:
            # arro3 raises bare Exceptions, for rows that do not fit as for a disk that is full.
            if file.refusal is not None:
                raise unwritable(path, file.refusal) from file.refusal
            raise OutputError(f"{path} cannot be written: {exc}") from exc


class _Written(io.BufferedRandom):
    """A file that remembers why the disk refused: arro3 passes on no more than the words."""

    refusal: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as exc:
            self.refusal = exc
            raise


def _schema(kinds: Mapping[str, FieldType]) -> Any:
    try:
        import arro3.core as arrow
        import arro3.io  # noqa: F401 - a part needs it at its end, which is late to find it absent
    except ImportError as exc:
        raise MissingExtra(need='[sink] type = "parquet"', extra="parquet") from exc
    types = {
        "int": arrow.DataType.int64(),
        "float": arrow.DataType.float64(),
        "bool": arrow.DataType.bool(),
        "datetime": arrow.DataType.timestamp("us", tz="UTC"),
        "date": arrow.DataType.date32(),
    }
    text = arrow.DataType.utf8()
    return arrow.Schema([arrow.Field(name, types.get(kind.word, text), nullable=True) for name, kind in kinds.items()])
