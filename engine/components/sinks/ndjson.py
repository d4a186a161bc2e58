"""NDJSON sink: one JSON object per line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.codec import payload
from engine.components.sinks.cells import on_one_line
from engine.components.sinks.directory import Directory
from engine.components.sinks.parts import FilePart
from engine.pipeline.spec import SinkSpec


class NdjsonSink:
    """Writes rows as they are; needs no declared fields."""

    def __init__(self, spec: SinkSpec, directory: Directory) -> None:
        self._spec = spec
        self._directory = directory

    def encode(self, rows: Sequence[Any]) -> bytes:
        """Rows as lines, each with its line end."""
        return lines_of(rows)

    def begin(self, *, epoch: int, number: int) -> FilePart:
        """Open a part."""
        compression = self._spec.compression
        name = self._directory.name_of(epoch=epoch, number=number, suffix="ndjson", compression=compression)
        return FilePart(self._directory, name, compression=compression)

    def sweep(self, keep: set[str]) -> int:
        """See `ports.Sink.sweep`."""
        return self._directory.sweep(keep)

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """See `ports.Sink.write_manifest`."""
        return self._directory.write_manifest(document)


def lines_of(rows: Sequence[Any]) -> bytes:
    """Rows as JSON, one line each."""
    rows = rows if isinstance(rows, list) else list(rows)
    lines = payload.encode_lines(rows)
    if lines.count(b"\n") != len(rows):
        lines = b"".join(on_one_line(payload.encode(row)) + b"\n" for row in rows)
    return lines
