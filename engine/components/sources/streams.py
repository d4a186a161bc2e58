"""Streams: one input as plain bytes, forward from its start, whatever it is stored in or comes through.

Regular files, stdin, named pipes and whatever else has a body; plain, gzip or zstd. Offsets count plain bytes.
Finding inputs is the business of `files`, what the bytes mean that of the formats.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from collections.abc import Iterator
from typing import Literal, Protocol

from engine.codec.inflate import Encoding, inflater
from engine.components.sources.prefix import Prefix
from engine.errors import BrokenAnswer, InputError

STDIN = "-"
READ_BYTES = 256 * 1024
# How much of an input's beginning identifies it.
HEAD_BYTES = 4096
_COMPRESSED_READ_BYTES = 64 * 1024
_LOOK_UP_MS = 100


def encoding_of(name: str, compression: Literal["auto", "none", "gzip", "zstd"]) -> Encoding:
    """The encoding of an input; `auto` goes by the suffix (`.gz`, `.zst`)."""
    if compression != "auto":
        return compression
    if name.endswith(".gz"):
        return "gzip"
    return "zstd" if name.endswith((".zst", ".zstd")) else "none"


class Body(Protocol):
    """The bytes of an input as they are stored; blocking."""

    @property
    def is_regular(self) -> bool:
        """Whether it can be gone to anywhere, and read again."""

    @property
    def size(self) -> int:
        """Bytes, where it is regular."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end, or once a stop was asked for."""

    def seek(self, offset: int) -> None:
        """Go on there, where it is regular."""

    def close(self) -> None:
        """Let go of it."""


class FileBody:
    """A `Body` over a file, a pipe or stdin."""

    def __init__(self, name: str, stop: threading.Event) -> None:
        self._name = name
        self._stop = stop
        self._fd = _open(name)
        self.is_regular = stat.S_ISREG(os.fstat(self._fd).st_mode)

    @property
    def size(self) -> int:
        """As the file is now; it may be growing."""
        return os.fstat(self._fd).st_size

    def read(self, size: int) -> bytes:
        """See `Body.read`."""
        try:
            if not self.is_regular and not self._wait():
                return b""
            return b"" if self._stop.is_set() else os.read(self._fd, size)
        except OSError as exc:
            raise _unreadable(self._name, exc) from exc

    def seek(self, offset: int) -> None:
        """See `Body.seek`."""
        os.lseek(self._fd, offset, os.SEEK_SET)

    def close(self) -> None:
        """Let go of the file; stdin stays open, it is not ours."""
        if self._name != STDIN and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _wait(self) -> bool:
        """Wait for bytes or the end of a pipe; False when told to stop."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        while not self._stop.is_set():
            if poll.poll(_LOOK_UP_MS):
                return True
        return False


class InputStream:
    """The plain bytes of one input. Blocking; `stop`, set from anywhere, ends it like an end of file.

    Raises InputError from any reading call: unreadable, damaged, or a compressed stream that is cut;
    everything before that place has been given out by then.
    """

    def __init__(self, name: str, encoding: Encoding, stop: threading.Event, body: Body) -> None:
        self.name = name
        self._stop = stop
        self._body = body
        self._encoding = encoding
        self._pieces = self._inflated() if encoding != "none" else None
        self._pending = b""
        self._pulled = 0
        self._head = b""
        self.prefix = None if self.is_regular else Prefix()

    @property
    def is_regular(self) -> bool:
        """A file that is there to be read again, not a pipe or a terminal."""
        return self._body.is_regular and self.name != STDIN

    @property
    def position(self) -> int:
        """Offset of the next byte that `read` gives."""
        return self._pulled - len(self._pending)

    @property
    def head(self) -> bytes:
        """The first bytes of the input, up to `HEAD_BYTES`, as far as they were seen."""
        return self._head

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        if not self._pending:
            self._pending = self._pull()
        piece, self._pending = self._pending[:size], self._pending[size:]
        return piece

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, or fewer at the end, without passing them."""
        while len(self._pending) < size and (piece := self._pull()):
            self._pending += piece
        return self._pending[:size]

    def skip_to(self, offset: int) -> bool:
        """Go on at `offset`, which lies ahead; False when the input ends before."""
        if self._encoding == "none" and self._body.is_regular:
            if offset > self._body.size:
                return False
            self._body.seek(offset)
            self._pending, self._pulled = b"", offset
            return True
        while (gap := offset - self.position) > 0:
            if not self.read(min(gap, READ_BYTES)):
                return False
        return True

    def close(self) -> None:
        """Let go of it."""
        self._body.close()

    def _pull(self) -> bytes:
        piece = self._body.read(READ_BYTES) if self._pieces is None else next(self._pieces, b"")
        if len(self._head) < HEAD_BYTES and self._pulled == len(self._head):
            self._head += piece[: HEAD_BYTES - len(self._head)]
        self._pulled += len(piece)
        if self.prefix is not None and piece:
            self.prefix.add(piece)
        return piece

    def _inflated(self) -> Iterator[bytes]:
        # No caps: a file of the operator's own may be as dense as it likes, and pieces are small.
        stream = inflater(self._encoding)
        try:
            while raw := self._body.read(_COMPRESSED_READ_BYTES):
                yield from stream.feed(raw)
            if not self._stop.is_set():
                stream.finish()
        except BrokenAnswer as exc:
            raise InputError(
                f"`{self.name}` cannot be read past byte {self._pulled} (decompressed): {exc.message}",
                hint="replace the file by a whole one and run again; records before that byte are kept",
                input=self.name,
                offset=self._pulled,
            ) from exc


def _open(name: str) -> int:
    if name == STDIN:
        return 0
    try:
        # Without O_NONBLOCK, opening a pipe nobody writes to would block where no stop can reach it.
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        raise _unreadable(name, exc) from exc
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.close(fd)
        raise InputError(f"`{name}` is a directory", hint=f"write `{name}/*` for the files in it", input=name)
    return fd


def _unreadable(name: str, exc: OSError) -> InputError:
    return InputError(f"`{name}` cannot be read: {exc.strerror or exc}", hint="check the path and its mode", input=name)
