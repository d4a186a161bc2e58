"""Rows: what lies in a sink's directory and in the inputs, read without the engine's readers or its manifest.

Also what of a row may differ between two runs that nothing disturbed (a time, say), found by comparing two such
runs rather than by being told. Knows no ledger.
"""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from engine.chaos.columns import columns_of

Row = dict[str, Any]
MANIFEST = "_manifest.json"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the sink's directory, and the rows it holds."""

    name: str
    body_bytes: int
    sha256: str
    rows: list[Row]


def parts_in(directory: Path) -> list[Part]:
    """Every file there but the manifest, by name; one that is no whole file of rows has what could be read."""
    if not directory.is_dir():
        return []
    return [part_of(path.name, path.read_bytes()) for path in sorted(directory.iterdir()) if path.name != MANIFEST]


def part_of(name: str, body: bytes) -> Part:
    """A file of this name with these bytes."""
    return Part(name=name, body_bytes=len(body), sha256=hashlib.sha256(body).hexdigest(), rows=list(_rows(name, body)))


def _rows(name: str, body: bytes) -> Iterator[Row]:
    if name.endswith(".gz"):
        name, body = name.removesuffix(".gz"), gzip.decompress(body)
    if name.endswith(".parquet"):
        for row in columns_of(name, body):
            yield {column: _cell(value) for column, value in row.items()}
        return
    text = body.decode("utf-8", "replace")
    if name.endswith(".csv"):
        for row in csv.DictReader(io.StringIO(text, newline="")):
            yield {column: _cell(value) for column, value in row.items()}
    elif name.endswith(".ndjson"):
        for line in text.split("\n"):
            if line:
                yield _object(line)


def _cell(value: Any) -> Any:
    """Nested values stand in a cell of CSV or Parquet as JSON text; and are compared member by member."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _object(line: str) -> Row:
    try:
        value = json.loads(line)
    except ValueError:
        return {"unreadable": line}
    return value if isinstance(value, dict) else {"value": value}


def count_input(patterns: Iterable[str], cwd: Path) -> int | None:
    """Rows in the inputs, counted line by line or record by record; None where that cannot be told simply."""
    total = 0
    for pattern in patterns:
        for name in glob.glob(str(cwd / pattern)):  # noqa: PTH207 - the pattern may be absolute
            path = Path(name)
            count = count_rows(path.name, path.read_bytes())
            if count is None:
                return None
            total += count
    return total


def count_rows(name: str, body: bytes) -> int | None:
    """Rows in a file of this name; None where its name does not say how to count them."""
    if name.endswith(".parquet"):
        return len(columns_of(name, body))
    plain = name.removesuffix(".gz")
    if not plain.endswith((".csv", ".ndjson", ".jsonl")):
        return None
    text = (gzip.decompress(body) if name.endswith(".gz") else body).decode("utf-8", "replace")
    if plain.endswith(".csv"):
        return sum(1 for record in csv.reader(io.StringIO(text, newline="")) if record) - 1
    return sum(1 for line in text.split("\n") if line.strip())


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What an undisturbed run brings: its rows without what changes from run to run, and how many of each.

    `match` is the member that names a row; empty where there is none, and then whole rows are compared.
    """

    match: str
    volatile: frozenset[str]
    rows: Counter[str]
    names: dict[str, str]

    def plain(self, row: Row) -> str:
        """A row without what may change, as text that is equal for equal rows."""
        members = [(path, value) for path, value in _flat(row) if path not in self.volatile]
        return json.dumps(members, sort_keys=True, ensure_ascii=False)

    def name_of(self, row: Row) -> str:
        """What the row is called."""
        return str(row.get(self.match, ""))


def compare_undisturbed(one: list[Row], two: list[Row], *, match: str) -> Reference:
    """The reference of two runs that nothing disturbed.

    Raises:
        ValueError: they differ in more than members of the same rows.
    """
    if not all(match in row for row in one + two):
        match = ""
    volatile: frozenset[str] = frozenset()
    if match:
        by_name = {str(row[match]): set(_flat(row)) for row in two}
        if len(one) != len(two) or {str(row[match]) for row in one} != set(by_name):
            raise ValueError(f"two undisturbed runs brought different rows: {len(one)} and {len(two)}")
        volatile = frozenset(path for row in one for path, _ in set(_flat(row)) ^ by_name[str(row[match])])
    reference = Reference(match=match, volatile=volatile, rows=Counter(), names={})
    for row in one:
        text = reference.plain(row)
        reference.rows[text] += 1
        reference.names[text] = reference.name_of(row)
    if reference.rows != Counter(reference.plain(row) for row in two):
        raise ValueError("two undisturbed runs brought different rows, and no member names them to say which")
    return reference


def _flat(value: Any, path: str = "") -> list[tuple[str, str]]:
    """Every leaf with its path; places in a list have no number, so that `a[].at` is one path."""
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in _flat(inner, f"{path}.{name}" if path else name)]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in _flat(inner, f"{path}[]")]
    return [(path, json.dumps(value))]
