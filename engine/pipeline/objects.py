"""Paths that name objects of a store in place of files, and what may be said of them.

Pure, like `check`: whether a bucket exists shows at run time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.pipeline.findings import Fault
from engine.pipeline.locate import KeyPath
from engine.pipeline.spec import SinkSpec, SourceSpec

SCHEME = "s3://"
_ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def is_object(path: str) -> bool:
    """Whether a path leads to an object store."""
    return path.startswith(SCHEME)


def check_objects(source: SourceSpec | None, sink: SinkSpec | None) -> Iterator[Fault]:
    """Paths with a scheme that we do not know, or without a bucket."""
    for index, path in enumerate(source.paths if source else ()):
        yield from _path(path, ("source", "paths", index))
    if sink:
        yield from _path(sink.path, ("sink", "path"))


def _path(path: str, at: KeyPath) -> Iterator[Fault]:
    scheme = _ANY_SCHEME.match(path)
    if scheme is None:
        return
    if scheme[0] != SCHEME:
        hint = f"{SCHEME}BUCKET/KEY is for every store that speaks S3; `endpoint` in [objects] says where it is"
        yield Fault(at=at, code="config.choice", message=f"`{scheme[0]}` is no kind of store", hint=hint)
    elif not _BUCKET.fullmatch(path.removeprefix(SCHEME).partition("/")[0]):
        message = f"`{path}` names no bucket"
        yield Fault(at=at, code="config.range", message=message, hint=f"write {SCHEME}BUCKET/KEY")
