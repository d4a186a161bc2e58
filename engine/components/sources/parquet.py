"""Parquet source: rows of columns as JSON objects, a few hundred at a time; the door of arro3 for reading.

Moments become RFC 3339 text in UTC, nested columns JSON, and what is null is null. Columns are read page by page, so
memory is bounded by a page of each column, whatever the size of a row group.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from engine.components.sources.counted import CountedSource
from engine.components.sources.streams import Body
from engine.errors import EngineError, InputError, MissingExtra

_BATCH_ROWS = 512
_MAGIC = b"PAR1"


class ParquetSource(CountedSource):
    """Reads every column of each row."""

    def _texts_of(self, name: str, body: Body) -> Iterator[list[bytes]]:
        arrow = _arro3()
        if body.read(len(_MAGIC)) != _MAGIC:
            raise _damaged(name, "it does not begin as one")
        body.seek(max(body.size - len(_MAGIC), 0))
        if body.read(len(_MAGIC)) != _MAGIC:
            raise _damaged(name, "it does not end as one; it may be cut")
        body.seek(0)
        batches = _guarded(name, lambda: iter(arrow.read_parquet(_Seekable(body), batch_size=_BATCH_ROWS)))
        while (batch := _guarded(name, lambda: next(batches, None))) is not None:
            yield _guarded(name, lambda: _texts(arrow, batch))


class _Seekable(io.RawIOBase):
    """A body as Python's own kind of file."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read some bytes."""
        piece = self._body.read(len(buffer))
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go anywhere."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._body.size}[whence]
        if start + offset != self._at:
            self._at = start + offset
            self._body.seek(self._at)
        return self._at

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at


def _texts(arrow: Any, batch: Any) -> list[bytes]:
    written = io.BytesIO()
    arrow.write_ndjson(batch, written, explicit_nulls=True)
    return written.getvalue().splitlines()


def _guarded(name: str, act: Any) -> Any:
    try:
        return act()
    except EngineError:
        raise
    except BaseException as exc:
        # A damaged file is a panic of the library, which is no Exception.
        if not isinstance(exc, Exception) and type(exc).__name__ != "PanicException":
            raise
        raise _damaged(name, str(exc).partition("\n")[0][:300]) from exc


def _damaged(name: str, why: str) -> InputError:
    return InputError(f"`{name}` cannot be read as Parquet: {why}", hint="replace it by a whole file", input=name)


def _arro3() -> Any:
    try:
        import arro3.io
    except ImportError as exc:
        raise MissingExtra(need='[source] type = "parquet"', extra="parquet") from exc
    return arro3.io
