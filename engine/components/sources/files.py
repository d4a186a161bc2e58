"""Files: what every file source does alike: finding inputs, resuming, reading again, marking.

Inputs are read one after the other in the order of their names. A mark is trusted only when the
beginning of its input is still the same. How bytes become records is left to the formats.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path

from engine.codec.lines import HEAD_BYTES as LINE_HEAD
from engine.codec.lines import Lines, LineSplitter
from engine.components.sources.objects import Objects
from engine.components.sources.prefix import Prefix
from engine.components.sources.streams import HEAD_BYTES, READ_BYTES, STDIN, Body, FileBody, InputStream, encoding_of
from engine.errors import InputError, StaleCheckpoint
from engine.pipeline.objects import is_object
from engine.pipeline.spec import SourceSpec
from engine.record import BadRecord, Batch, Mark, Slice

# What the values of one record may take in memory.
VALUES_MAX = 64 * 1024 * 1024


def find_inputs(patterns: Sequence[str], objects: Objects | None = None) -> list[str]:
    """The inputs that paths and globs name, each once, sorted; those in a store through `objects`.

    A path that exists is that file, whatever characters it holds; `**` crosses directories.

    Raises:
        InputError: a pattern matches nothing; the message names the working directory.
    """
    names: set[str] = set()
    for pattern in patterns:
        if objects is not None and is_object(pattern):
            matches = objects.find(pattern)
        elif pattern == STDIN or os.path.lexists(pattern):
            matches = [pattern]
        else:
            # Path.glob takes no absolute patterns.
            found = glob.glob(pattern, recursive=True)  # noqa: PTH207
            matches = [path for path in found if not Path(path).is_dir()]
        if not matches:
            raise InputError(
                f"no object matches `{pattern}`"
                if is_object(pattern)
                else f"no file matches `{pattern}` in {Path.cwd()}",
                hint="check bucket and key" if is_object(pattern) else "paths are relative to the working directory",
                pattern=pattern,
            )
        names.update(path if path == STDIN or is_object(path) else os.path.normpath(path) for path in matches)
    return sorted(names)


class FileSource(ABC):
    """A `ports.Source` over files and stdin; a format says how lines become batches.

    One reader at a time; `mark` and `close` may be called from other threads.
    """

    # CSV needs the CR inside quoted cells.
    keeps_cr = False
    window_bytes = READ_BYTES
    # What leads to a store, where some path does.
    objects: Objects | None = None

    def __init__(self, spec: SourceSpec, *, want_values: bool, values_max: int = VALUES_MAX) -> None:
        self.spec = spec
        self.values_max = values_max
        self.want_values = want_values
        self._stop = threading.Event()
        self._heads: dict[str, bytes] = {}
        self._prefixes: dict[str, Prefix] = {}

    @property
    def can_reread(self) -> bool:
        """Whether every input is a regular file, those that a pattern finds too."""
        paths = self.spec.paths
        found = [name for path in paths for name in glob.iglob(path, recursive=True)]  # noqa: PTH207
        return STDIN not in paths and all(_is_file_or_pattern(name) for name in (*paths, *found))

    @property
    def can_seek(self) -> bool:
        """Whether no input is compressed: those are read from their start to get anywhere."""
        names = [name for path in self.spec.paths for name in (path, *glob.iglob(path, recursive=True))]  # noqa: PTH207
        # What a pattern of a store names is not known without asking; only a whole suffix says it.
        return all(
            encoding_of(name, self.spec.compression) == "none"
            and not (is_object(name) and self.spec.compression == "auto" and name.endswith(("*", "?", "]")))
            for name in names
        )

    def read(self, marks: Mapping[str, Mark]) -> Iterator[Batch]:
        """Read on from `marks`; see `ports.Source.read`."""
        for name in find_inputs(self.spec.paths, self.objects):
            if self._stop.is_set():
                return
            with closing(self._open(name)) as stream:
                offset, line = self._resume(stream, marks.get(name))
                self._begin(stream)
                self._pass(stream, marks.get(name), offset)
                yield from self._batches(stream, self._lines(stream, line, None))

    def reread(self, slices: Sequence[Slice]) -> Iterator[Batch]:
        """Read these slices again; those of one input in ascending order cost one pass over it."""
        stream: InputStream | None = None
        try:
            for piece in slices:
                if stream is None or stream.name != piece.input or stream.position > piece.start:
                    if stream is not None:
                        stream.close()
                    stream = self._open(piece.input)
                    self._begin(stream)
                self._skip(stream, piece.start)
                yield from self._batches(stream, self._lines(stream, piece.line, piece.end))
        finally:
            if stream is not None:
                stream.close()

    def mark(self, name: str, offset: int, line: int) -> Mark:
        """A mark for an input, with the fingerprint of its beginning."""
        head = self._heads.get(name)
        if head is None and name != STDIN:
            with closing(self._open(name)) as stream:
                head = stream.peek(HEAD_BYTES)
        head = head or b""
        fingerprint = _digest(head)
        if (prefix := self._prefixes.get(name)) is not None:
            fingerprint = f"{fingerprint}:{prefix.digest_to(offset)}"
        return Mark(offset=offset, line=line, fingerprint=fingerprint, head=len(head))

    def close(self) -> None:
        """Stop reading within a tenth of a second, also where nothing comes."""
        self._stop.set()

    @abstractmethod
    def _batches(self, stream: InputStream, lines: Iterator[Lines]) -> Iterator[Batch]:
        """Make batches of lines; the first line may be the first of the input."""

    @abstractmethod
    def _begin(self, stream: InputStream) -> None:
        """Look at the beginning of an input, by `peek`, before its records are read."""

    def _open(self, name: str) -> InputStream:
        stream = InputStream(name, encoding_of(name, self.spec.compression), self._stop, self._body(name))
        if stream.prefix is not None:
            self._prefixes[name] = stream.prefix
        return stream

    def _body(self, name: str, stop: threading.Event | None = None) -> Body:
        stop = stop or self._stop
        if self.objects is not None and is_object(name):
            return self.objects.open(name, stop)
        return FileBody(name, stop)

    def _resume(self, stream: InputStream, mark: Mark | None) -> tuple[int, int]:
        if mark is None:
            return 0, 1
        if _digest(stream.peek(mark.head)) == mark.fingerprint.partition(":")[0]:
            return mark.offset, mark.line
        if not stream.is_regular:
            # What comes through a pipe has no identity but its bytes: other bytes, another input.
            return 0, 1
        raise stale(stream.name, f"its first {mark.head} bytes have changed since they were read")

    def _pass(self, stream: InputStream, mark: Mark | None, offset: int) -> None:
        """Go to where reading goes on; of a pipe, prove that what is passed is what was taken."""
        if stream.prefix is None or mark is None or not offset:
            self._skip(stream, offset)
            return
        while (gap := offset - stream.position) > 0 and stream.read(min(gap, READ_BYTES)):
            stream.prefix.digest_to(stream.position)
        is_same = stream.position == offset and stream.prefix.digest_to(offset) == mark.fingerprint.partition(":")[2]
        if not is_same and not self._stop.is_set():
            raise stale(stream.name, f"it begins like the input that was read, but is another within {offset} bytes")

    def _skip(self, stream: InputStream, offset: int) -> None:
        if not stream.skip_to(offset) and not self._stop.is_set():
            raise stale(stream.name, f"it ends before byte {offset}, up to which it was read")

    def _lines(self, stream: InputStream, line: int, end: int | None) -> Iterator[Lines]:
        """The lines from the stream's position to `end`, or to its end."""
        splitter = LineSplitter(self.spec.line_max, offset=stream.position, line=line, keep_cr=self.keeps_cr)
        for window in self._windows(stream, end):
            if lines := splitter.feed(window):
                yield lines
        # What is pending when we are told to stop may be half a record: it is for the next run.
        if not self._stop.is_set() and (lines := splitter.finish()):
            yield lines

    def _windows(self, stream: InputStream, end: int | None) -> Iterator[bytes]:
        """The bytes from the stream's position to `end`, or to its end, or until we are told to stop."""
        while end is None or stream.position < end:
            size = self._window_max(stream.position)
            window = stream.read(size if end is None else min(size, end - stream.position))
            self._heads[stream.name] = stream.head or self._heads.get(stream.name, b"")
            if self._stop.is_set():
                return
            if not window:
                if end is not None:
                    raise stale(stream.name, f"it ends before byte {end}, up to which it was read")
                return
            yield window

    def _window_max(self, position: int) -> int:
        """The most bytes of the window that begins here."""
        return self.window_bytes


def too_long(name: str, lines: Lines, index: int, line_max: int) -> BadRecord:
    """The bad record that an over-long line becomes; `raw` is its head."""
    start, end = lines.extent(index)
    size = max(end - start, len(lines.texts[index]))
    return BadRecord(
        input=name,
        line=lines.line + index,
        start=start,
        end=end,
        raw=lines.texts[index][:LINE_HEAD],
        code="record.too_long",
        reason=f"the line has {size} bytes; `line_max` allows {line_max}",
    )


def _is_file_or_pattern(path: str) -> bool:
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except OSError:
        return True


@lru_cache(maxsize=64)  # Asked for at the end of each job, mostly with the same bytes.
def _digest(head: bytes) -> str:
    return hashlib.sha256(head).hexdigest()


def stale(name: str, why: str) -> StaleCheckpoint:
    """The error for an input that is another than the ledger knows."""
    return StaleCheckpoint(
        f"`{name}` is not the input the ledger knows: {why}",
        hint="bring the old file back, or run with --fresh to read everything from the start",
        input=name,
    )
