"""Prefix: the running digest of everything a pipe has given, up to any record's end.

A file can be looked at again; of what came through a pipe only a digest is left, and it must cover all of
it: two pipes that begin alike may still differ where the rows are. Fed by the reading thread, asked by the loop's.
"""

from __future__ import annotations

import hashlib
import threading


class Prefix:
    """SHA-256 of the first n bytes, for n that never goes back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hash = hashlib.sha256()
        self._reached = 0
        self._ahead: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """More has come; it is held until a mark passes it."""
        with self._lock:
            self._ahead.append(piece)

    def digest_to(self, offset: int) -> str:
        """The digest (hex) of everything before `offset`, and let go of it."""
        with self._lock:
            while self._ahead and self._reached < offset:
                piece = self._ahead[0]
                taken = piece[: offset - self._reached]
                self._hash.update(taken)
                self._reached += len(taken)
                if len(taken) == len(piece):
                    del self._ahead[0]
                else:
                    self._ahead[0] = piece[len(taken) :]
            return self._hash.hexdigest()
