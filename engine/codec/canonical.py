"""Canonical JSON (RFC 8785, JCS): the one byte form over which anything is hashed or signed.

Only this form, only encoding: everyday JSON is `payload`'s. Numbers follow ECMAScript and keys sort by
UTF-16 units, which no everyday encoder does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
import rfc8785

from engine.errors import RecordError

# Byte-equal to RFC 8785 for flat objects of text with ASCII names: its order differs only past ASCII, its numbers
# not at all where there are none.
_flat = msgspec.json.Encoder(order="sorted")
_declared = msgspec.json.Encoder()
_FLAT_TYPES = {str, type(None), bool}


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


def canonical_each(values: Sequence[dict[str, Any]]) -> list[bytes]:
    """The canonical bytes of each of many objects.

    About half a microsecond each where all of them are flat, hold text alone and have ASCII names.

    Raises:
        RecordError: as `canonical`.
    """
    return _each(values, is_flat=_are_flat(values))


def canonical_texts(values: Sequence[msgspec.Struct]) -> list[bytes]:
    """The canonical bytes of each of many Structs whose members are texts, null or UNSET.

    The members have ASCII names and are declared in their order. About a quarter of a microsecond each.

    Raises:
        RecordError: a lone surrogate.
    """
    try:
        return list(map(_declared.encode, values))
    except UnicodeEncodeError as exc:
        raise RecordError(f"no canonical JSON form: {exc}") from exc


def canonical_without(values: Sequence[dict[str, Any]], *names: str) -> list[list[bytes]]:
    """For each of `names` in turn, the canonical bytes of the objects without that member and the ones named before it.

    Quicker than as many calls of `canonical_each`. Every object has all of these members.

    Raises:
        RecordError: as `canonical`.
    """
    is_flat = _are_flat(values)
    rest = [value.copy() for value in values]
    forms = []
    for name in names:
        for value in rest:
            del value[name]
        forms.append(_each(rest, is_flat=is_flat))
    return forms


def _are_flat(values: Sequence[dict[str, Any]]) -> bool:
    """Whether the quick encoder knows the form of all of these: judged at the speed of C, for all at once."""
    types = set(map(type, chain.from_iterable(map(dict.values, values))))
    return types <= _FLAT_TYPES and all(
        type(name) is str and name.isascii() for name in set(chain.from_iterable(values))
    )


def _each(values: Sequence[dict[str, Any]], *, is_flat: bool) -> list[bytes]:
    if is_flat:
        try:
            # No line end stands inside a JSON text of one line: within strings it is an escape.
            return _flat.encode_lines(values).split(b"\n")[:-1]
        except UnicodeEncodeError:
            pass  # a lone surrogate: `canonical` says so
    return [canonical(value) for value in values]
