"""Object directory: parts as objects under a prefix of a bucket, whole or not there, like files in a directory.

A part is made in a file without a name on this machine and uploaded when it is whole; the end of the upload is what a
rename is on a disk. Names, sweeping and the manifest are those of files.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from engine.codec import payload
from engine.components.objects import Absent, Bucket, split
from engine.components.sinks.directory import MANIFEST, Compression, is_part, manifest_text, part_name, refuse_owner
from engine.components.sinks.parts import unwritable, watched
from engine.errors import OutputError, RecordError
from engine.pipeline.objects import SCHEME
from engine.settings import ObjectsSettings


class ObjectDirectory:
    """A `parts.Directory` in a bucket; nothing is asked of the store before it is swept."""

    def __init__(self, path: str, *, pipeline: str, settings: ObjectsSettings) -> None:
        name, prefix = split(path)
        self.pipeline = pipeline
        self._bucket = Bucket(name, settings)
        self._prefix = prefix.rstrip("/") + "/" if prefix.rstrip("/") else ""

    def name_of(self, *, epoch: int, number: int, suffix: str, compression: Compression = "none") -> str:
        """The name of a part under the prefix."""
        return part_name(epoch=epoch, number=number, suffix=suffix, compression=compression)

    def where(self, name: str) -> str:
        """The URL of an object of ours."""
        return f"{SCHEME}{self._bucket.name}/{self._prefix}{name}"

    def create(self, name: str) -> int:
        """Open a file without a name, which is gone with the process."""
        try:
            fd, path = tempfile.mkstemp()
        except OSError as exc:
            raise unwritable(tempfile.gettempdir(), exc) from exc
        Path(path).unlink()
        return fd

    def publish(self, fd: int, name: str) -> None:
        """Upload the file under its name; closes `fd`, unless the store is away: then call again."""
        try:
            with watched("sink:upload"), _with_bucket():
                self._bucket.upload(self._prefix + name, fd)
        except OutputError as exc:
            if not exc.facts.get("is_away"):
                os.close(fd)
            raise
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)

    def remove_temporary(self, name: str) -> None:
        """Nothing here has a temporary name."""

    def sweep(self, keep: set[str]) -> int:
        """Remove parts that are not in `keep`; how many objects went.

        Raises:
            OutputError: the prefix holds the parts of another pipeline, or there is no such bucket.
        """
        with _with_bucket():
            self._refuse_foreign_parts()
            names = [found.key.removeprefix(self._prefix) for found in self._bucket.find(self._prefix)]
            doomed = [name for name in names if is_part(name) and name not in keep]
            for name in doomed:
                self._bucket.remove(self._prefix + name)
        return len(doomed)

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """Replace the manifest at once; its URL."""
        with watched("manifest:upload"), _with_bucket():
            self._bucket.put(self._prefix + MANIFEST, manifest_text(self.pipeline, document))
        return self.where(MANIFEST)

    def _refuse_foreign_parts(self) -> None:
        with suppress(Absent, RecordError, KeyError, TypeError):
            owner = payload.loads(self._bucket.whole(self._prefix + MANIFEST))["pipeline"]
            refuse_owner(owner, self.pipeline, self.where(""))


@contextmanager
def _with_bucket() -> Iterator[None]:
    """Where an object is written, what is absent is the bucket itself."""
    try:
        yield
    except Absent as exc:
        raise OutputError(str(exc), hint="create the bucket, or mend `path` in [sink]") from exc
