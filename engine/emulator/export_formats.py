"""How exported entities look in each format: JSON lines, JSON, CSV (RFC 4180), GEXF 1.3.

Rows in, bytes out, piece by piece: a head, runs of rows, a tail. Nothing here reads entities or writes files.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar
from xml.sax.saxutils import quoteattr

import msgspec

from engine.codec.payload import dumps, encode, encode_lines
from engine.contract.results import ExportRow

_FIXED = ("id", "external_id", "entity_type", "label", "updated_at")
_COLUMNS = [field.encode_name for field in msgspec.structs.fields(ExportRow) if field.name in _FIXED]
# Members that name or reach a person, in any spelling of the words.
_PII = re.compile(
    r"(^|_)(e?mail|phone|mobile|address|street|ssn|passport|iban|(first|last|full|sur|given|family)_?name"
    r"|birth\w*|dob|national_id|tax_id)($|_)",
    re.IGNORECASE,
)
# Characters that XML 1.0 cannot hold at all, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def masked(row: ExportRow) -> ExportRow:
    """The row without what names or reaches a person; equal values stay recognisable as equal."""
    properties = {name: _mask(value) if _PII.search(name) else value for name, value in row.properties.items()}
    label = _mask(row.label) if row.entity_type == "person" and row.label else row.label
    return msgspec.structs.replace(row, properties=properties, label=label)


def _mask(value: Any) -> str | None:
    return None if value is None else "masked:" + hashlib.sha256(dumps(value)).hexdigest()[:12]


class Format(ABC):
    """One format. `columns` is set before the head is asked for where `needs_columns`."""

    suffix: ClassVar[str]
    media_type: ClassVar[str]
    needs_columns: ClassVar[bool] = False

    def __init__(self) -> None:
        self.columns: list[str] = []

    def head(self) -> bytes:
        """What comes before the first row."""
        return b""

    @abstractmethod
    def rows(self, rows: list[ExportRow], is_first: bool) -> bytes:  # noqa: FBT001 - position says it
        """A run of at least one row."""

    def tail(self) -> bytes:
        """What comes after the last row."""
        return b""


class _Jsonl(Format):
    suffix = "jsonl"
    media_type = "application/x-ndjson"

    def rows(self, rows: list[ExportRow], is_first: bool) -> bytes:  # noqa: FBT001
        return encode_lines(rows)


class _Json(Format):
    suffix = "json"
    media_type = "application/json"

    def head(self) -> bytes:
        return b"["

    def rows(self, rows: list[ExportRow], is_first: bool) -> bytes:  # noqa: FBT001
        inside = encode(rows)[1:-1]
        return inside if is_first else b"," + inside

    def tail(self) -> bytes:
        return b"]"


class _Csv(Format):
    suffix = "csv"
    media_type = "text/csv; charset=utf-8"
    needs_columns = True

    def head(self) -> bytes:
        return self._lines([[*_COLUMNS, *self.columns, "enrichment_score"]])

    def rows(self, rows: list[ExportRow], is_first: bool) -> bytes:  # noqa: FBT001
        return self._lines(
            [
                *(_cell(getattr(row, name)) for name in _FIXED),
                *(_cell(row.properties.get(name)) for name in self.columns),
                _cell((row.enrichment or {}).get("score")),
            ]
            for row in rows
        )

    def _lines(self, lines: Any) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerows(lines)
        return text.getvalue().encode()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else dumps(value).decode()


class _Gexf(Format):
    """Nodes with their properties as text; a property `links` (a list of names) becomes edges."""

    suffix = "gexf"
    media_type = "application/gexf+xml"
    needs_columns = True

    def __init__(self) -> None:
        super().__init__()
        self._edges: list[tuple[str, str]] = []
        self._ids: dict[str, str] = {}

    def head(self) -> bytes:
        self._edges = []
        names = ["entity_type", *(name for name in self.columns if name != "links")]
        self._ids = {name: str(number) for number, name in enumerate(names)}
        declared = "".join(
            f'<attribute id="{number}" title={_quoted(name)} type="string"/>' for name, number in self._ids.items()
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n<gexf xmlns="http://gexf.net/1.3" version="1.3">'
            '<graph mode="static" defaultedgetype="undirected">'
            f'<attributes class="node">{declared}</attributes><nodes>'
        ).encode()

    def rows(self, rows: list[ExportRow], is_first: bool) -> bytes:  # noqa: FBT001
        return "".join(map(self._node, rows)).encode()

    def _node(self, row: ExportRow) -> str:
        links = row.properties.get("links")
        if isinstance(links, list):
            self._edges += [(row.id, str(target)) for target in links]
        values = {"entity_type": row.entity_type, **row.properties}
        facts = "".join(
            f'<attvalue for="{number}" value={_quoted(_cell(values[name]))}/>'
            for name, number in self._ids.items()
            if values.get(name) is not None
        )
        return f"<node id={_quoted(row.id)} label={_quoted(row.label or row.id)}><attvalues>{facts}</attvalues></node>"

    def tail(self) -> bytes:
        edges = "".join(
            f'<edge id="{number}" source={_quoted(one)} target={_quoted(other)}/>'
            for number, (one, other) in enumerate(self._edges)
        )
        return f"</nodes><edges>{edges}</edges></graph></gexf>\n".encode()


def _quoted(text: str) -> str:
    return quoteattr(_NOT_XML.sub("", text))


FORMATS: dict[str, Callable[[], Format]] = {"jsonl": _Jsonl, "json": _Json, "csv": _Csv, "gexf": _Gexf}
