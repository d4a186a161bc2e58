"""Rows: a window, or a small document, of JSON objects decoded in one go, or not at all.

A window is taken only where one decoder call proves that every row in it is whole, alone on its line, UTF-8 and
shallow. For anything else the answer is None: reading it row by row, elsewhere, says what is wrong and with which.
"""

from __future__ import annotations

from io import BytesIO
from operator import itemgetter
from typing import Any

import msgspec

from engine.codec.payload import MAX_DEPTH, check_caps, decoder, depth_of, is_utf8
from engine.errors import CapExceeded, RecordError

_first, _last, _last_but_one = itemgetter(0), itemgetter(-1), itemgetter(-2)
_OPEN, _CLOSE = set(b"{"), set(b"}")
_ALL_BUT_OPENINGS = bytes(set(range(256)) - set(b"[{\n"))
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_FAILURES = (msgspec.DecodeError, RecursionError, ValueError)


def line_rows(body: bytes, kind: Any) -> list[Any] | None:
    """The objects on these lines, each ended by a LF, as `kind`; None unless there is exactly one on every line."""
    lines = BytesIO(body).readlines()
    if body[-1:] != b"\n" or set(map(_first, lines)) != _OPEN or set(map(_last_but_one, lines)) != _CLOSE:
        return None
    if not _are_utf8(body, lines):
        return None
    count = len(lines)
    del lines  # Twice the window would not stay in cache.
    return _rows(body, count, kind)


def text_rows(texts: list[bytes], kind: Any) -> list[Any] | None:
    """The objects that these texts of lines are, as `kind`; None unless each is exactly one, with nothing around it."""
    if b"" in texts or set(map(_first, texts)) != _OPEN or set(map(_last, texts)) != _CLOSE:
        return None
    body = b"\n".join(texts)
    return _rows(body, len(texts), kind) if _are_utf8(body, texts) else None


def array_rows(text: bytes, kind: Any) -> list[Any] | None:
    """The elements of a JSON array text as `kind`; its depth is the caller's business."""
    if not is_utf8(text):
        return None
    try:
        rows: list[Any] = decoder(list[kind]).decode(text)
    except _FAILURES:
        return None
    return rows


def nests_deeper(window: bytes, limit: int) -> bool:
    """Whether a valid JSON text is nested deeper than `limit`, decided fast.

    Takes away innermost pairs of brackets, one kind a round, until what is left cannot nest too deep any more; where
    that does not end, a slow count decides. Brackets in strings can be arranged to hide depth from it. What it lets
    through then is still within the decoder's own limit.
    """
    brackets = window.translate(None, _NO_BRACKETS)
    # A round takes one level at most, and half of the brackets open one.
    for left in range(limit, 1, -2):
        if len(brackets) <= 2 * left:
            return False
        shorter = brackets.replace(b"{}", b"")
        if len(shorter) <= 2 * (left - 1):
            return False
        shorter = shorter.replace(b"[]", b"")
        if len(shorter) == len(brackets):
            break
        brackets = shorter
    return depth_of(window, stop_at=limit) > limit


def decode_small(text: bytes, kind: Any) -> Any:
    """Decode a small document of many rows, as `payload.decode` does; its depth is judged as that of a large one.

    Raises:
        CapExceeded, RecordError: see `payload.decode`.
    """
    if nests_deeper(text, MAX_DEPTH):
        raise CapExceeded(f"JSON text is nested deeper than {MAX_DEPTH}")
    try:
        return decoder(kind).decode(text)
    except _FAILURES as exc:
        raise RecordError(f"not valid JSON: {exc}") from exc


def stands_once(text: bytes, name: bytes, value: bytes) -> bool:
    """Whether a name (quoted) stands in an object's text just before its value, and nowhere before or after both."""
    _, found, after = text.partition(name)
    start = after.find(value[:1])
    is_next = bool(found) and after[:start].strip() == b":" and after.startswith(value, start)
    return is_next and name not in after[start + len(value) :]


def _rows(body: bytes, lines: int, kind: Any) -> list[Any] | None:
    # The decoder takes an object over two lines, and two on one. No line end inside an object stands between } and {,
    # and all here do, so the first cannot be; without it, the second shows in the number of rows.
    try:
        rows: list[Any] = decoder(kind).decode_lines(body)
    except _FAILURES:
        return None
    return rows if len(rows) == lines and _are_shallow(body, lines) else None


def _are_utf8(body: bytes, lines: list[bytes]) -> bool:
    """Looks closely at the lines alone that are not ASCII: making text of all takes as long as decoding."""
    return body.isascii() or is_utf8(b"\n".join([line for line in lines if not line.isascii()]))


def _are_shallow(body: bytes, lines: int) -> bool:
    """Whether no line is nested deeper than the cap, told by counting brackets where that is enough."""
    openings = body.translate(None, _ALL_BUT_OPENINGS)
    # Every line has a bracket and a line end, but for the last: what is more could be all on one.
    if len(openings) - 2 * (lines - 1) <= MAX_DEPTH or max(map(len, openings.split(b"\n"))) <= MAX_DEPTH:
        return True
    try:
        for line in body.split(b"\n"):
            check_caps(line, max_bytes=len(line))
    except CapExceeded:
        return False
    return True
