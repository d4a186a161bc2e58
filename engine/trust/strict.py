"""The encodings inside a token, read so that exactly one text stands for each value.

Two readers that disagree about a signed text are the start of most token attacks, so this reads base64url
without padding, spare bits or other alphabets, and JSON without duplicate names or NaN. The decoders of the
JSON door keep the last of two equal names in silence, hence the standard library here. Signed texts only;
everything else goes through `codec.payload`.
"""

from __future__ import annotations

import binascii
import json
from typing import Any

from engine.codec.payload import check_caps, dumps, loads
from engine.errors import CapExceeded, MalformedToken, RecordError

_DEPTH_MAX = 16
# What only the other alphabet has, and the padding, become a byte that no alphabet has.
_TO_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")
# By the length's remainder: the padding to add, and the last characters that leave no bit over.
_ENDS = (
    (b"", b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
    (b"", b""),
    (b"==", b"AQgw"),
    (b"=", b"AEIMQUYcgkosw048"),
)


def base64url(text: bytes, *, what: str) -> bytes:
    """Decode base64url (RFC 4648 section 5, unpadded as in RFC 7515 section 2).

    Raises:
        MalformedToken: padded, of another alphabet, or with bits beyond the last byte.
    """
    padding, lasts = _ENDS[len(text) % 4]
    if text and text[-1] not in lasts:
        raise _not_base64url(text, what)
    try:
        return binascii.a2b_base64(text.translate(_TO_STANDARD) + padding, strict_mode=True)
    except ValueError as exc:
        raise _not_base64url(text, what) from exc


def _not_base64url(text: bytes, what: str) -> MalformedToken:
    if not text.isascii():
        return MalformedToken(f"the {what} is not ASCII text")
    return MalformedToken(f"the {what} is not base64url in its one strict form (no padding, no spare bits)")


class _Ambiguous(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _Ambiguous("a name appears twice")
    return members


def _refuse_constant(text: str) -> Any:
    raise _Ambiguous(f"{text} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def json_object(data: bytes, *, what: str) -> dict[str, Any]:
    """Decode a JSON object whose names are unique at every level.

    Raises:
        MalformedToken: not UTF-8, not JSON, not an object, a name twice, or nested deeper than 16.
    """
    try:
        value = _as_written(data)
        if value is None:
            check_caps(data, max_depth=_DEPTH_MAX)
            value = _decoder.decode(data.decode("utf-8"))
    except CapExceeded as exc:
        raise MalformedToken(f"the {what} is nested deeper than {_DEPTH_MAX}") from exc
    except _Ambiguous as exc:
        raise MalformedToken(f"the {what} is ambiguous: {exc}") from exc
    except (ValueError, RecursionError) as exc:
        raise MalformedToken(f"the {what} is not JSON in UTF-8") from exc
    if not isinstance(value, dict):
        raise MalformedToken(f"the {what} is not a JSON object but a {type(value).__name__}")
    return value


def _as_written(data: bytes) -> Any:
    """The value of a compact and shallow text, or None of any other text, also of a good one.

    Written again it is the same bytes, so no name was dropped: there is no other reading of it.
    """
    if data.count(b"{") + data.count(b"[") > _DEPTH_MAX:
        return None
    try:
        value = loads(data)
        return value if dumps(value) == data else None
    except RecordError:
        return None
