"""Inflate: compressed byte streams made plain piece by piece, under caps, and never trusted to be whole.

gzip with any number of members (RFC 1952 §2.2), zstd with any number of frames (RFC 8878 §3), and
`identity`. A stream that is cut, damaged or followed by garbage is an error here, whatever the length
header said. No files, no sockets; the caller owns both ends.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, Protocol

from engine.errors import BrokenAnswer, CapExceeded

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import ZstdDecompressor, ZstdError

Encoding = Literal["none", "gzip", "zstd"]

PIECE_BYTES = 256 * 1024
# Both libraries copy what they have not used yet, at every piece and at every member: short slices keep
# that copying small, also for a stream of a thousand empty members.
_SLICE_BYTES = 32 * 1024
# A short text may shrink by any factor; past this much output the ratio says something.
_RATIO_GRACE_BYTES = 1024 * 1024


class Inflater(Protocol):
    """Turns one compressed stream into its plain bytes."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The plain bytes that `data` completes, in pieces of at most `PIECE_BYTES`.

        Lazy: what is not taken from the iterator is not inflated. Take all of it before feeding again.

        Raises:
            BrokenAnswer: not a stream of this encoding, damaged, or followed by garbage.
            CapExceeded: more plain bytes, or a higher ratio, than allowed.
        """

    def finish(self) -> None:
        """Say that nothing follows.

        Raises:
            BrokenAnswer: the stream is cut.
        """


class _Decompressor(Protocol):
    """One gzip member or zstd frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def inflate(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """A piece, the bytes not looked at yet, and whether another call without bytes may give more."""


class _GzipMember:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def inflate(self, data: bytes) -> tuple[bytes, bytes, bool]:
        piece = self._inner.decompress(data, PIECE_BYTES)
        # A full piece may hide more inside the library, even when it has swallowed all of its input.
        return piece, self._inner.unconsumed_tail, len(piece) == PIECE_BYTES


class _ZstdFrame:
    def __init__(self) -> None:
        self._inner = ZstdDecompressor()

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def inflate(self, data: bytes) -> tuple[bytes, bytes, bool]:
        piece = self._inner.decompress(data, PIECE_BYTES)
        return piece, b"", not self._inner.eof and not self._inner.needs_input


class _Caps:
    """Counts both sides of an inflater and refuses to go on past the caps."""

    def __init__(self, max_bytes: int | None, max_ratio: float | None) -> None:
        self._max_bytes = max_bytes
        self._max_ratio = max_ratio
        self._taken = 0
        self._given = 0

    def take(self, size: int) -> None:
        self._taken += size

    def give(self, size: int) -> None:
        self._given += size
        if self._max_bytes is not None and self._given > self._max_bytes:
            raise CapExceeded(f"the stream inflates to more than the cap of {self._max_bytes} bytes")
        if (
            self._max_ratio is not None
            and self._given > _RATIO_GRACE_BYTES
            and self._given > self._max_ratio * self._taken
        ):
            raise CapExceeded(
                f"{self._taken} bytes inflate to more than {self._given}, over the ratio cap of {self._max_ratio:g}"
            )


class _Stream:
    """A chain of gzip members or zstd frames; each begins where the one before ended."""

    def __init__(self, name: str, opener: Callable[[], _Decompressor], caps: _Caps) -> None:
        self._name = name
        self._open = opener
        self._caps = caps
        self._member = opener()
        self._fed = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _SLICE_BYTES):
            part = data[start : start + _SLICE_BYTES]
            self._fed += len(part)
            self._caps.take(len(part))
            yield from self._inflate(part)

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        more = True
        while data or more:
            if self._member.eof:
                if not data:
                    return
                self._member = self._open()
            try:
                piece, data, more = self._member.inflate(data)
            except (zlib.error, ZstdError) as exc:
                raise BrokenAnswer(
                    f"the {self._name} stream is damaged or followed by garbage, "
                    f"within its first {self._fed} bytes: {exc}"
                ) from exc
            if self._member.eof:
                data = self._member.unused_data
            if piece:
                self._caps.give(len(piece))
                yield piece

    def finish(self) -> None:
        if not self._member.eof:
            raise BrokenAnswer(f"the {self._name} stream is cut after {self._fed} bytes")


class _Identity:
    """No compression: only the cap on bytes applies."""

    def __init__(self, caps: _Caps) -> None:
        self._caps = caps

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._caps.take(len(data))
        self._caps.give(len(data))
        for start in range(0, len(data), PIECE_BYTES):
            yield data[start : start + PIECE_BYTES]

    def finish(self) -> None:
        """An uncompressed stream cannot tell whether it is whole."""


def inflater(encoding: Encoding, *, max_bytes: int | None = None, max_ratio: float | None = None) -> Inflater:
    """An inflater for one stream.

    `max_bytes` caps the plain bytes; `max_ratio` caps plain bytes per compressed byte once more than
    1 MiB came out (100 suits foreign streams; local files need none).
    """
    caps = _Caps(max_bytes, max_ratio)
    match encoding:
        case "none":
            return _Identity(caps)
        case "gzip":
            return _Stream("gzip", _GzipMember, caps)
        case "zstd":
            return _Stream("zstd", _ZstdFrame, caps)
