"""Digests of bodies as HTTP announces them (RFC 9530), checked while the bytes pass.

`Repr-Digest` is over the whole representation, `Content-Digest` over what one answer carries. Knows SHA-256 and
SHA-512; an algorithm it does not know proves nothing and is ignored, as the RFC says. No sockets.
"""

from __future__ import annotations

import hashlib
from hmac import compare_digest
from typing import Any

from engine.codec.structured import Item, read_dictionary
from engine.errors import RecordError

# Strongest first: one is enough.
_ALGORITHMS = (("sha-512", hashlib.sha512), ("sha-256", hashlib.sha256))


class Promise:
    """What a digest field promises of the bytes that are fed here."""

    def __init__(self, algorithm: str, digest: bytes, running: Any) -> None:
        self.algorithm = algorithm
        self._digest = digest
        self._running = running

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        self._running.update(data)

    @property
    def is_kept(self) -> bool:
        """Whether the bytes so far are what was promised."""
        return compare_digest(self._running.digest(), self._digest)


def promise_of(field: str) -> Promise | None:
    """The promise of a digest field (a dictionary of byte sequences, RFC 9651); None where it holds none we know."""
    try:
        members = read_dictionary(field)
    except RecordError:
        # Broken anywhere, it says nothing, as the RFC asks.
        return None
    for name, new in _ALGORITHMS:
        member = members.get(name)
        digest = member.value if isinstance(member, Item) else None
        if isinstance(digest, bytes) and len(digest) == new().digest_size:
            return Promise(name, digest, new())
    return None
