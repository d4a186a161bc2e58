"""Rows: a window of JSON objects decoded in one go, or not at all.

A window is taken only where one decoder call proves that every row in it is whole, alone on its line, UTF-8 and
shallow. For anything else the answer is None: reading it row by row, elsewhere, says what is wrong and with which.
"""

from __future__ import annotations

from io import BytesIO
from operator import itemgetter
from typing import Any

import msgspec

from engine.codec.payload import MAX_DEPTH, check_caps, decoder, is_utf8
from engine.errors import CapExceeded

_first, _last, _last_but_one = itemgetter(0), itemgetter(-1), itemgetter(-2)
_OPEN, _CLOSE = set(b"{"), set(b"}")
_ALL_BUT_OPENINGS = bytes(set(range(256)) - set(b"[{\n"))
_FAILURES = (msgspec.DecodeError, RecursionError, ValueError)


def line_rows(body: bytes, kind: Any) -> list[Any] | None:
    """The objects on these lines, each ended by a LF, as `kind`; None unless there is exactly one on every line."""
    lines = BytesIO(body).readlines()
    if body[-1:] != b"\n" or set(map(_first, lines)) != _OPEN or set(map(_last_but_one, lines)) != _CLOSE:
        return None
    return _rows(body, lines, kind)


def text_rows(texts: list[bytes], kind: Any) -> list[Any] | None:
    """The objects that these texts of lines are, as `kind`; None unless each is exactly one, with nothing around it."""
    if b"" in texts or set(map(_first, texts)) != _OPEN or set(map(_last, texts)) != _CLOSE:
        return None
    return _rows(b"\n".join(texts), texts, kind)


def array_rows(text: bytes, kind: Any) -> list[Any] | None:
    """The elements of a JSON array text as `kind`; its depth is the caller's business."""
    if not is_utf8(text):
        return None
    try:
        rows: list[Any] = decoder(list[kind]).decode(text)
    except _FAILURES:
        return None
    return rows


def _rows(body: bytes, lines: list[bytes], kind: Any) -> list[Any] | None:
    # The decoder takes an object over two lines, and two on one. No line end inside an object stands between } and {,
    # and all here do, so the first cannot be; without it, the second shows in the number of rows.
    if not is_utf8(body):
        return None
    try:
        rows: list[Any] = decoder(kind).decode_lines(body)
    except _FAILURES:
        return None
    return rows if len(rows) == len(lines) and _are_shallow(body, lines) else None


def _are_shallow(body: bytes, lines: list[bytes]) -> bool:
    """Whether no line is nested deeper than the cap, told by counting brackets where that is enough."""
    openings = body.translate(None, _ALL_BUT_OPENINGS)
    # Every line has a bracket and a line end, but for the last: what is more could be all on one.
    if len(openings) - 2 * (len(lines) - 1) <= MAX_DEPTH or max(map(len, openings.split(b"\n"))) <= MAX_DEPTH:
        return True
    try:
        for line in lines:
            check_caps(line, max_bytes=len(line))
    except CapExceeded:
        return False
    return True
