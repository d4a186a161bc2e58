"""A batch as a request body: the kind's envelope, built once, with rows or keys joined into it as bytes.

Nothing is decoded to be encoded again: a record that only passes through keeps its bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from engine.codec.payload import encode, encode_lines
from engine.contract.kinds import Kind

_SLOT = "\ue000rows\ue000"  # A private-use text that no contract value holds.


class Packing(Protocol):
    """How rows of a pipeline are put together: as the body of a job, or as lines where there are no jobs."""

    @property
    def name(self) -> str:
        """What a batch of them is called in the ledger: the job kind, or the route asked for each row."""

    @property
    def keeps_keys(self) -> bool:
        """Whether the keys of a batch are needed beside its body."""

    @property
    def envelope_bytes(self) -> int:
        """What every body costs before its first row."""

    def items(self, raws: Sequence[bytes], keys: Sequence[str]) -> Sequence[bytes]:
        """What travels for each row."""

    def body(self, items: Sequence[bytes]) -> bytes:
        """A batch as one value, of which digest and key are taken."""


class Lines(msgspec.Struct, frozen=True):
    """Rows that travel each by itself: a batch is their lines."""

    name: str
    keeps_keys: bool = True
    envelope_bytes: int = 0

    def items(self, raws: Sequence[bytes], keys: Sequence[str]) -> Sequence[bytes]:
        """The rows."""
        return raws

    def body(self, items: Sequence[bytes]) -> bytes:
        """Their lines, without the last line end; no row holds one."""
        return b"\n".join(items)


class Packer(msgspec.Struct, frozen=True):
    """Builds bodies of one job kind: `prefix` + items joined by commas + `suffix`."""

    kind: Kind
    prefix: bytes
    suffix: bytes
    keeps_keys: bool = False

    @property
    def name(self) -> str:
        """The job kind."""
        return self.kind.name

    @property
    def envelope_bytes(self) -> int:
        """What every body costs before its first row."""
        return len(self.prefix) + len(self.suffix)

    def items(self, raws: Sequence[bytes], keys: Sequence[str]) -> Sequence[bytes]:
        """What travels for each row: the record itself, or its key as JSON."""
        if self.kind.carries == "rows":
            return raws
        # All at once: no JSON text of a key holds a line end.
        return encode_lines(list(keys)).split(b"\n")[:-1]

    def body(self, items: Sequence[bytes]) -> bytes:
        """The request body."""
        return b"".join((self.prefix, b",".join(items), self.suffix))


def packer_of(kind: Kind, payload: dict[str, Any], *, secrecy_level: str | None = None) -> Packer:
    """The packer of a pipeline's jobs; `payload` members win over the kind's defaults."""
    document: dict[str, Any] = {"kind": kind.name, "payload": _merge(kind.defaults, payload)}
    if secrecy_level is not None:
        document["secrecy_level"] = secrecy_level
    at = document["payload"]
    for step in kind.path[:-1]:
        at[step] = dict(at.get(step) or {})
        at = at[step]
    at[kind.path[-1]] = [_SLOT]
    prefix, _, suffix = encode(document).partition(encode(_SLOT))
    return Packer(kind, prefix, suffix)


def with_callback(body: bytes, url: str | None) -> bytes:
    """The body as it is sent: with the URL to call when the job has ended.

    Put in last, because a receiver's port may be another one after a restart, and neither the digest of a body nor
    the key derived from it may change with it.
    """
    return body if url is None else b'{"callback_url":' + encode(url) + b"," + body[1:]


def _merge(defaults: dict[str, Any], payload: dict[str, Any]) -> dict[str, Any]:
    return {**defaults, **payload}


def digest_body(body: bytes) -> bytes:
    """SHA-256 of a body: part of its key, and how a changed input is noticed on restart."""
    return hashlib.sha256(body).digest()
