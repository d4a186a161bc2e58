"""Joint: the one manifest of a pipeline that runs in several processes, put together from those of its shares.

Each share replaces a manifest of its own; this one is replaced by whoever started them, so no two processes ever write
the same file. It lists what the shares list, and says nothing they do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.codec.payload import loads
from engine.components.sinks.directory import manifest_name
from engine.components.sinks.parts import PartsDirectory
from engine.errors import OutputError, RecordError
from engine.pipeline.spec import SinkSpec
from engine.record import Share


def write_joint(spec: SinkSpec, shares: Sequence[Share], *, pipeline: str) -> tuple[str, int] | None:
    """Replace `_manifest.json` by what the manifests of the shares say; its path, and how many parts it lists.

    None for a sink without files. Written before the first part too: it says whose the directory is.

    Raises:
        OutputError: the directory cannot be written, belongs to another pipeline, or a share's manifest is damaged.
    """
    if not spec.path:
        return None
    directory = PartsDirectory(spec.path, pipeline=pipeline)
    try:
        found = [said for share in shares if (said := _manifest(directory.path / manifest_name(share.tag))) is not None]
        parts = [part for said in found for part in said["parts"]]
        document = {
            "version": 1,
            "pipeline": pipeline,
            "epoch": max((said["epoch"] for said in found), default=1),
            "rows": sum(said["rows"] for said in found),
            "parts": parts,
        }
        return directory.write_manifest(document), len(parts)
    finally:
        directory.close()


def _manifest(path: Path) -> dict[str, Any] | None:
    try:
        said = loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, RecordError) as exc:
        raise OutputError(f"{path} cannot be read as a manifest", hint="remove it: its share writes it again") from exc
    return dict(said)
