"""Columns: the rows of a Parquet file as the auditor reads them; a door of arro3.

Column by column, where the engine's own source reads rows of JSON, so that a mistake of one is seen by the other.
A file that is not whole is one unreadable row, which no undisturbed run has.
"""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

from engine.errors import MissingExtra


def columns_of(name: str, body: bytes) -> list[dict[str, Any]]:
    """The rows of a file of this name; moments are RFC 3339 text."""
    try:
        import arro3.io
    except ImportError as exc:
        raise MissingExtra(need="an audit of Parquet files", extra="parquet") from exc
    try:
        table = arro3.io.read_parquet(io.BytesIO(body)).read_all()
        columns = [table.column(index).to_pylist() for index in range(table.num_columns)]
    except BaseException as exc:
        # A damaged file is a panic of the library, which is no Exception.
        if not isinstance(exc, Exception) and type(exc).__name__ != "PanicException":
            raise
        return [{"unreadable": name}]
    return [dict(zip(table.column_names, map(_plain, row), strict=True)) for row in zip(*columns, strict=True)]


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.date) else value
