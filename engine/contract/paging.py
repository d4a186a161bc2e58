"""Keyset paging (contract 9.6, Q21): opaque cursors to the client, `{"created_at","id"}` to the emulator."""

from __future__ import annotations

import base64
import binascii

import msgspec

from engine.codec.payload import decode, encode
from engine.errors import RecordError

_CURSOR_MAX = 4096


class Cursor(msgspec.Struct, frozen=True):
    """The last item of the page before: what follows is older, then smaller by id."""

    created_at: str
    id: str


def write_cursor(cursor: Cursor) -> str:
    """Base64 (padded, as in the vendor's sample) of the JSON."""
    return base64.b64encode(encode(cursor)).decode()


def read_cursor(text: str) -> Cursor:
    """Read a cursor we wrote.

    Raises:
        RecordError: not one of ours.
    """
    try:
        raw = base64.b64decode(text.encode(), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise RecordError("not a cursor") from exc
    return decode(raw, Cursor, max_bytes=_CURSOR_MAX)


def clamp_limit(limit: int | None, *, default: int, ceiling: int) -> int:
    """A page size inside [1, ceiling] (Q21: clamped, never refused)."""
    return default if limit is None else max(1, min(limit, ceiling))
