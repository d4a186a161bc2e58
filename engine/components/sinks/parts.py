"""Parts: output files that are whole or not there, in a directory of their own.

Every part is written under a temporary name, made durable, and only then renamed. Names depend on epoch
and number alone, so writing a part again replaces it. The directory is held open and names are looked
up inside it without following links: nothing outside can be reached through it. What stands in a part
is the formats' business.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
import weakref
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from engine import failpoints
from engine.codec import payload
from engine.components.sinks.directory import (
    MANIFEST,
    Compression,
    Directory,
    PartRecord,
    manifest_name,
    manifest_text,
    part_name,
    refuse_owner,
)
from engine.errors import OutputError, RecordError

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdCompressor
else:
    from backports.zstd import ZstdCompressor

# Under the size from which the allocator maps a block of its own: a mapping costs a fault for each of its pages, more
# than the larger number of writes does.
_BUFFER_BYTES = 128 * 1024
_PART = r"part-\d{{4,}}-{tag}\d{{6,}}\.(?:ndjson|csv|parquet)(?:\.gz|\.zst)?"
_TEMPORARY = r"\.(?:part-\d{{4,}}-{tag}\d{{6,}}\.[a-z.]+|{manifest})\.tmp"


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _compressor(compression: Compression) -> _Compressor:
    match compression:
        case "gzip":
            # Level 1 is several times as fast as the default and hardly larger on rows; the header
            # carries no time, so equal rows make equal files.
            return zlib.compressobj(level=1, wbits=31)
        case "zstd":
            return ZstdCompressor()
    return _Plain()


class PartsDirectory:
    """The directory of one sink; created if absent.

    With `tag`, of one share of a pipeline: its parts and its manifest carry it in their names, and it touches no other.

    Raises OutputError where the directory, or a file in it, cannot be written.
    """

    def __init__(self, path: str, *, pipeline: str, tag: str = "") -> None:
        self.path = Path(path)
        self.pipeline = pipeline
        self._tag = f"{tag}-" if tag else ""
        self._manifest = manifest_name(tag)
        self._part = re.compile(_PART.format(tag=self._tag))
        self._temporary = re.compile(_TEMPORARY.format(tag=self._tag, manifest=re.escape(self._manifest)))
        with self._translated("."):
            self.path.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # The seam has no close: the directory is let go with the sink.
        self._let_go = weakref.finalize(self, os.close, self._fd)
        self._refuse_foreign_parts()

    def name_of(self, *, epoch: int, number: int, suffix: str, compression: Compression = "none") -> str:
        """The final name of a part."""
        return part_name(epoch=epoch, number=number, suffix=suffix, compression=compression, tag=self._tag)

    def where(self, name: str) -> str:
        """The path of a file here."""
        return str(self.path / name)

    def create(self, name: str) -> int:
        """Open a new file under the temporary name of `name`; what an earlier run left there goes."""
        temporary = _temporary(name)
        with self._translated(temporary):
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self._fd)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(temporary, flags, 0o666, dir_fd=self._fd)

    def publish(self, fd: int, name: str) -> None:
        """Make the temporary file durable and give it its name; closes `fd`.

        On failure neither name stands.
        """
        temporary = _temporary(name)
        file = "manifest" if name == self._manifest else "sink"
        with self._translated(name):
            try:
                try:
                    with watched(f"{file}:fsync"):
                        os.fsync(fd)
                finally:
                    os.close(fd)
                self._refuse_link(name)
                with watched(f"{file}:rename"):
                    os.rename(temporary, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            except OSError:
                self.remove(temporary)
                raise
            try:
                with watched(f"{file}:dirsync"):
                    os.fsync(self._fd)
            except OSError:
                self.remove(name)
                raise

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self._fd)

    def remove_temporary(self, name: str) -> None:
        """Remove the temporary file of `name` if it is there."""
        self.remove(_temporary(name))

    def sweep(self, keep: set[str]) -> int:
        """Remove temporary files, and parts that are not in `keep`; how many files went."""
        with self._translated("."):
            # By the open directory, not by its path, which may lead elsewhere by now.
            names = os.listdir(self._fd)  # noqa: PTH208
            doomed = [
                name
                for name in names
                if self._temporary.fullmatch(name) or (self._part.fullmatch(name) and name not in keep)
            ]
            for name in doomed:
                os.unlink(name, dir_fd=self._fd)
            if doomed:
                os.fsync(self._fd)
        return len(doomed)

    def write_manifest(self, document: Mapping[str, Any]) -> str:
        """Replace the manifest, durably and at once; its path."""
        body = manifest_text(self.pipeline, document)
        fd = self.create(self._manifest)
        with self._translated(self._manifest):
            try:
                write_all(fd, body)
            except OSError:
                os.close(fd)
                self.remove_temporary(self._manifest)
                raise
        self.publish(fd, self._manifest)
        return str(self.path / self._manifest)

    def close(self) -> None:
        """Let go of the directory."""
        self._let_go()

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise unwritable(str(self.path / name), exc) from exc

    def _refuse_link(self, name: str) -> None:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode):
                raise OSError(0, "something that is no regular file has its name")

    def _refuse_foreign_parts(self) -> None:
        try:
            owner = payload.loads((self.path / MANIFEST).read_bytes())["pipeline"]
        except (OSError, RecordError, KeyError, TypeError):
            return
        if owner != self.pipeline:
            self.close()
            refuse_owner(owner, self.pipeline, str(self.path))


class FilePart:
    """A part of rows encoded elsewhere: buffered, compressed and hashed on the way to its file."""

    def __init__(
        self, directory: Directory, name: str, *, compression: Compression = "none", header: bytes = b""
    ) -> None:
        self.name = name
        self._directory = directory
        self._fd = directory.create(name)
        self._compressor = _compressor(compression)
        self._digest = hashlib.sha256()
        self._chunks = [header] if header else []
        self._held_bytes = len(header)
        self._unwritten = Unwritten()
        self._rows = 0
        self._body_bytes = len(header)
        self._file_bytes = 0
        self._is_flushed = False

    @property
    def rows(self) -> int:
        """Rows appended."""
        return self._rows

    @property
    def body_bytes(self) -> int:
        """Bytes appended, before compression."""
        return self._body_bytes

    def append(self, chunk: bytes, rows: int) -> None:
        """Add encoded rows; writes to the disk 128 KiB or more at once. See `ports.Part.append`."""
        self._chunks.append(chunk)
        self._held_bytes += len(chunk)
        self._rows += rows
        self._body_bytes += len(chunk)
        if self._held_bytes >= _BUFFER_BYTES or self._unwritten:
            self._spill()

    def finish(self) -> PartRecord:
        """See `ports.Part.finish`."""
        self._spill()
        if not self._is_flushed:
            self._is_flushed = True
            self._write(self._compressor.flush())
        fd, self._fd = self._fd, -1
        try:
            self._directory.publish(fd, self.name)
        except OutputError as exc:
            if exc.facts.get("is_away"):
                self._fd = fd
                raise
            # What was written went with the temporary file, so waiting for room would bring nothing back.
            raise OutputError(exc.message, hint=exc.hint, **exc.facts) from None
        return PartRecord(self.name, self._rows, self._file_bytes, self._digest.hexdigest())

    def discard(self) -> None:
        """Remove the temporary file; may be called at any time, also twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._directory.remove_temporary(self.name)

    def _spill(self) -> None:
        data = b"".join(self._chunks)
        self._chunks, self._held_bytes = [], 0
        self._write(self._compressor.compress(data) if data else b"")

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file_bytes += len(data)
        try:
            self._unwritten.write(self._fd, data)
        except OSError as exc:
            raise unwritable(self._directory.where(self.name), exc) from exc


class Unwritten:
    """Bytes on their way to a file. A disk may take a part only: the rest is kept, and goes first next time."""

    def __init__(self) -> None:
        self._rest = b""

    def __bool__(self) -> bool:
        return bool(self._rest)

    def write(self, fd: int, data: bytes = b"") -> None:
        """Write what is left of before, then this; the data is taken over even when the disk refuses."""
        data = self._rest + data if self._rest else data
        done = 0
        try:
            with memoryview(data) as view:
                while done < len(data):
                    done += os.write(fd, view[done:])
        finally:
            self._rest = data[done:]


@contextmanager
def watched(place: str) -> Iterator[None]:
    """A step after which other things are true on the disk than before it: a crash on either side is tried out."""
    failpoints.reach(place, failpoints.BEFORE)
    yield
    failpoints.reach(place, failpoints.AFTER)


def write_all(fd: int, data: bytes) -> None:
    """Write everything; a disk may take a part only."""
    with memoryview(data) as view:
        done = 0
        while done < len(data):
            done += os.write(fd, view[done:])


def unwritable(path: str, exc: OSError) -> OutputError:
    """The error for a path the system refused."""
    return OutputError(
        f"{path} cannot be written: {exc.strerror or exc}",
        hint="check the sink's path, its mode, and the space on its disk",
        path=path,
    )


def _temporary(name: str) -> str:
    return f".{name}.tmp"
