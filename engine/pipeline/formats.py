"""What the formats of input files allow: options that only one of them has, and inputs that some cannot read.

Pure, like `check`.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.pipeline.findings import Fault
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import SourceSpec

# Read by going to and fro, or by passing what was taken: a pipe allows neither.
_WHOLE_FILES = ("json", "parquet")


def check_formats(source: SourceSpec) -> Iterator[Fault]:
    """Options of a format other than the source's, and stdin where it cannot be read."""
    if source.type in _WHOLE_FILES and "-" in source.paths:
        yield _fault(("source", "paths"), f"{source.type} is read from files, not from stdin")
    if source.type == "parquet" and source.compression != "auto":
        yield _fault(("source", "compression"), "a parquet file says itself how its columns are compressed")
    if source.type != "json" and source.rows is not None:
        yield _fault(("source", "rows"), f"a {source.type} source has no `rows`")


def _fault(at: KeyPath, message: str) -> Fault:
    return Fault(at=at, code="config.conflict", message=message)
