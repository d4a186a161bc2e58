"""Canonical JSON (RFC 8785, JCS): the one byte form over which anything is hashed or signed.

Only this form, only encoding: everyday JSON is `payload`'s. Numbers follow ECMAScript and keys sort by
UTF-16 units, which no everyday encoder does.
"""

from __future__ import annotations

from typing import Any

import rfc8785

from engine.errors import RecordError


def canonical(value: Any) -> bytes:
    """The canonical bytes of plain JSON values (dict, list, str, int, float, bool, None).

    Raises:
        RecordError: no canonical form: an integer beyond 2^53, NaN, an infinity, a lone surrogate, a key that
            is not a string, or another type.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError) as exc:
        raise RecordError(f"no canonical JSON form: {exc}") from exc
