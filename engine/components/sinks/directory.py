"""Directory: where parts go, whatever that is in, and what parts and manifests are called and hold there.

Names depend on epoch and number alone, and on the share where a pipeline is divided. Nothing is written here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

from engine.codec import payload
from engine.errors import OutputError
from engine.record import RefusedRow

Compression = Literal["none", "gzip", "zstd"]

MANIFEST = "_manifest.json"
_SUFFIXES: dict[Compression, str] = {"none": "", "gzip": ".gz", "zstd": ".zst"}
_PART = re.compile(r"part-\d{4,}-\d{6,}\.(?:ndjson|csv|parquet)(?:\.gz|\.zst)?")


class PartRecord(msgspec.Struct, frozen=True):
    """A finished part, as the manifest lists it; bytes and digest (SHA-256, hex) are of the final file."""

    name: str
    rows: int
    body_bytes: int
    sha256: str
    refused: tuple[RefusedRow, ...] = ()


class Directory(Protocol):
    """Where parts go: files or objects under one name each, whole or not there."""

    @property
    def pipeline(self) -> str:
        """Whose parts are there."""

    def name_of(self, *, epoch: int, number: int, suffix: str, compression: Compression = "none") -> str:
        """The final name of a part."""

    def where(self, name: str) -> str:
        """A name as users see it."""

    def create(self, name: str) -> int:
        """Open an empty file for what will be `name`."""

    def publish(self, fd: int, name: str) -> None:
        """Give an open file its name, durably and as a whole. Closes `fd`, unless it raises that nobody is there."""

    def remove_temporary(self, name: str) -> None:
        """Remove what `create` left behind, if anything."""

    def sweep(self, keep: set[str]) -> int:
        """Remove parts that are not in `keep`, and what is not whole."""

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """Replace the manifest at once; where it is."""


def part_name(*, epoch: int, number: int, suffix: str, compression: Compression, tag: str = "") -> str:
    """The final name of a part; `tag` is that of a share, with its dash."""
    return f"part-{epoch:04d}-{tag}{number:06d}.{suffix}{_SUFFIXES[compression]}"


def is_part(name: str) -> bool:
    """Whether a name is one that we give to parts."""
    return _PART.fullmatch(name) is not None


def manifest_text(pipeline: str, document: Mapping[str, Any]) -> bytes:
    """The manifest as it is written; `version` and `pipeline` are put first."""
    return payload.encode({"version": 1, "pipeline": pipeline, **document}) + b"\n"


def refuse_owner(owner: str, pipeline: str, path: str) -> None:
    """Two pipelines in one place would sweep each other's parts away.

    Raises:
        OutputError: the parts there are another pipeline's.
    """
    if owner != pipeline:
        raise OutputError(
            f"{path} holds the parts of the pipeline `{owner}`",
            hint="give each pipeline a sink path of its own",
            path=path,
        )


def manifest_name(tag: str = "") -> str:
    """What the manifest is called: the whole pipeline's, or that of one share."""
    return f"_manifest.{tag}.json" if tag else MANIFEST
