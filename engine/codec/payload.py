"""The JSON door: every JSON text of the engine is decoded and encoded here, under caps.

msgspec for typed work, orjson for untyped bulk. Foreign JSON is checked for size and depth first:
both decoders recurse, and a deep text ends in RecursionError or worse (msgspec issue 1033).
Never canonical JSON (that is `canonical`), never files.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeVar

import msgspec
import orjson

from engine.errors import CapExceeded, RecordError

T = TypeVar("T")

MAX_DEPTH = 128
MAX_BYTES = 64 * 1024 * 1024

_PIECE_BYTES = 1024 * 1024
# Of CPython on 64 bits: an empty dict with room for a few, a list, a slot with a small text or number and its name.
_OBJECT_COST, _LIST_COST, _VALUE_COST = 232, 88, 130

_encoder = msgspec.json.Encoder()
_ESCAPES = re.compile(rb"\\.", re.DOTALL)
_STRINGS = re.compile(rb'"[^"]*"?')
_ALL_BUT_BRACKETS_AND_QUOTES = bytes(set(range(256)) - set(b'[]{}"'))
_ALL_BUT_COLONS_AND_QUOTES = bytes(set(range(256)) - set(b':"'))
_NESTING = {dict, list}
_ONE_BRACKET = bytes.maketrans(b"{}", b"[]")


@cache
def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """The one decoder for a type, built on first use."""
    return msgspec.json.Decoder(kind)


def _decoder_of(kind: type[T]) -> msgspec.json.Decoder[T]:
    return decoder(kind)  # type: ignore[arg-type]


def decode(data: bytes, kind: type[T], *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> T:
    """Decode foreign JSON into `kind`.

    Raises:
        CapExceeded: larger than `max_bytes`, or nested deeper than `max_depth`.
        RecordError: not JSON, or not of this type; the message carries msgspec's path (`$.a[1]`).
    """
    check_caps(data, max_bytes=max_bytes, max_depth=max_depth)
    return _decode(data, kind)


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return _decoder_of(kind).decode(data)
    except msgspec.ValidationError as exc:
        raise RecordError(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as exc:
        raise RecordError(f"not valid JSON: {exc}") from exc


def decode_level(data: bytes, kind: type[T], *, max_bytes: int = MAX_BYTES) -> T:
    """As `decode`, for a kind that itself bounds the depth, so that nobody needs to count brackets.

    It names every member (`forbid_unknown_fields`) and has none that may be anything: then the decoder stops at the
    first bracket that stands too deep.
    """
    check_caps(data, max_bytes=max_bytes, max_depth=len(data))
    return _decode(data, kind)


def check_caps(data: bytes, *, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> None:
    """Refuse JSON text that is too large or too deep, before any decoder sees it."""
    if len(data) > max_bytes:
        raise CapExceeded(f"JSON text of {len(data)} bytes is over the cap of {max_bytes}")
    if len(data) <= max_depth:
        return
    # Cheap upper bound first: most texts do not even hold that many opening brackets.
    if data.count(b"{") + data.count(b"[") <= max_depth:
        return
    if depth_of(data, stop_at=max_depth) > max_depth:
        raise CapExceeded(f"JSON text is nested deeper than {max_depth}")


def depth_of(data: bytes, *, stop_at: int = MAX_DEPTH) -> int:
    """How deep a JSON text is nested; stops counting just past `stop_at`. Brackets in strings do not count.

    Exact for well-formed texts; for others never too small. Works on whole texts at a time: escapes go, then all but
    brackets and quotes, then strings; what is left loses its innermost pairs, one level a round.
    """
    if b"\\" in data:
        data = _ESCAPES.sub(b"", data)
    # Two quotes side by side are a string without brackets, or the seam of two strings: either way they may go at
    # once. What is left for the slow removal are strings with brackets in them, which are few.
    left = data.translate(_ONE_BRACKET, _ALL_BUT_BRACKETS_AND_QUOTES).replace(b'""', b"")
    left = _STRINGS.sub(b"", left)
    rounds = 0
    while b"[]" in left:
        left = left.replace(b"[]", b"")
        rounds += 1
        if rounds > stop_at:
            return rounds
    return rounds + left.count(b"[")


def encode(value: Any) -> bytes:
    """Encode a value of ours as compact JSON."""
    return _encoder.encode(value)


def encode_lines(values: list[Any]) -> bytes:
    """Encode values as NDJSON, each with its line end."""
    return _encoder.encode_lines(values)


def loads(data: bytes) -> Any:
    """Decode JSON that we wrote ourselves, or that passed `check_caps`, without a type.

    Raises:
        RecordError: not JSON.
    """
    try:
        return orjson.loads(data)
    except (orjson.JSONDecodeError, RecursionError) as exc:
        raise RecordError(f"not valid JSON: {exc}") from exc


def dumps(value: Any) -> bytes:
    """Encode untyped values compactly; faster than `encode` for dicts.

    Raises:
        RecordError: it holds what JSON has no form for, or is nested too deep.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        # Whole numbers past 64 bits, and depths over 254, are refused there; the other encoder takes them.
        try:
            return _encoder.encode(value)
        except (TypeError, ValueError, RecursionError, OverflowError) as exc:
            raise RecordError(f"cannot be written as JSON: {exc}") from exc


def cost_of(text: bytes) -> int:
    """About how many bytes of memory the values of a JSON text take once decoded, counted without decoding it."""
    return len(text) + _OBJECT_COST * text.count(b"{") + _LIST_COST * text.count(b"[") + _VALUE_COST * text.count(b",")


def is_utf8(text: bytes) -> bool:
    """Whether the bytes are UTF-8; a large text is looked at in pieces, for as text it may take four times the room."""
    if len(text) <= _PIECE_BYTES:
        return text.isascii() or _decodes(text)
    if text.isascii():
        return True
    reader = codecs.getincrementaldecoder("utf-8")()
    with memoryview(text) as view:
        try:
            for start in range(0, len(view), _PIECE_BYTES):
                reader.decode(view[start : start + _PIECE_BYTES])
            reader.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _decodes(text: bytes) -> bool:
    try:
        str(text, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def has_twice(text: bytes, name: str) -> bool:
    """Whether a JSON object has a member of this name twice at its top level, which decoders do not tell.

    For one object in valid JSON, the name written without escapes; cheap where the name stands there once.
    """
    quoted = _encoder.encode(name)
    if text.count(quoted) < 2:
        return False
    plain = _ESCAPES.sub(b"..", text) if b"\\" in text else text
    found = depth = reached = 0
    for match in re.finditer(re.escape(quoted) + rb"\s*:", plain):
        between = plain[reached : match.start()].translate(_ONE_BRACKET, _ALL_BUT_BRACKETS_AND_QUOTES)
        between = _STRINGS.sub(b"", between.replace(b'""', b""))
        depth += between.count(b"[") - between.count(b"]")
        reached = match.start()
        found += depth == 1
        if found > 1:
            return True
    return False


def schemas_of(kinds: Sequence[Any], *, ref: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """JSON Schemas (2020-12) of types: one for each, and the named ones they refer to by `ref` (`#/…/{name}`).

    A type that msgspec has no schema for may be anything.
    """
    schemas, named = msgspec.json.schema_components(kinds, schema_hook=_anything, ref_template=ref)
    return list(schemas), named


def _anything(kind: type) -> dict[str, Any]:
    # An empty schema would say the same, but msgspec takes it for none.
    return {"title": kind.__name__}


def check_single(text: bytes, value: Any) -> None:
    """Refuse a JSON text in which an object has a member twice; `value` is what the text was decoded into.

    Decoders keep the last one without a word, and others the first. Counts colons outside strings, for whole texts
    at a time.

    Raises:
        RecordError: some object has a member twice.
    """
    left = _ESCAPES.sub(b"", text) if b"\\" in text else text
    left = left.translate(None, _ALL_BUT_COLONS_AND_QUOTES).replace(b'""', b"")
    # What stands between two quotes is every other piece.
    if sum(piece.count(b":") for piece in left.split(b'"')[::2]) != _members_of(value):
        raise RecordError("an object has a member twice")


def _members_of(value: Any) -> int:
    """How many members the objects in a plain value have, itself included; a depth at a time."""
    count, level = 0, [value]
    while level:
        objects = [one for one in level if type(one) is dict]
        count += sum(map(len, objects))
        inner = list(chain.from_iterable(map(dict.values, objects)))
        inner += chain.from_iterable(one for one in level if type(one) is list)
        # Most hold no more objects, which is quickly seen for all of them together.
        level = [one for one in inner if type(one) in _NESTING] if not _NESTING.isdisjoint(map(type, inner)) else []
    return count


def to_wire(value: Any) -> Any:
    """A Struct as plain dicts and lists, absent (UNSET) members left out."""
    return msgspec.to_builtins(value)


def replaced(value: T, members: dict[str, Any]) -> T:
    """A Struct with some of its members changed."""
    return msgspec.structs.replace(value, **members) if members else value  # type: ignore[type-var]


def from_plain(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """Plain dicts and lists as `kind`.

    Raises:
        RecordError: not of this type; the message carries the path.
    """
    try:
        return msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as exc:
        raise RecordError(str(exc)) from exc
