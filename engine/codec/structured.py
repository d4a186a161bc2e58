"""Structured fields of HTTP (RFC 9651): items, lists and dictionaries read from header text.

Strict, as the RFC asks: a field is read whole or not at all. Only reading; what a field means is its reader's.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from engine.errors import RecordError

_SPACES = re.compile(r" *")
_BLANKS = re.compile(r"[ \t]*")
_KEY = re.compile(r"[a-z*][a-z0-9_.*-]*")
_NUMBER = re.compile(r"-?([0-9]+)(?:\.([0-9]*))?")
_STRING = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
_BYTES = re.compile(r":([A-Za-z0-9+/=]*):")
_BOOLEAN = re.compile(r"\?([01])")
_DATE = re.compile(r"@(-?[0-9]{1,15})(?![0-9.])")
_DISPLAY = re.compile(r'%"((?:[ !#$&-~]|%[0-9a-f]{2})*)"')
_ESCAPED = re.compile(r'\\(["\\])')
_INTEGER_DIGITS, _WHOLE_DIGITS, _FRACTION_DIGITS = 15, 12, 3


class Token(str):
    """A word without quotes, which is not the string of the same letters."""

    __slots__ = ()


class Date(msgspec.Struct, frozen=True):
    """A moment in whole seconds since 1970."""

    at_s: int


class Item(msgspec.Struct, frozen=True):
    """A value and its parameters. Values are int, float, str (also of display strings), Token, bytes, bool or Date."""

    value: Any
    parameters: dict[str, Any]


class InnerList(msgspec.Struct, frozen=True):
    """Items in brackets, with parameters of their own."""

    items: list[Item]
    parameters: dict[str, Any]


Member = Item | InnerList
_T = TypeVar("_T")


def read_item(text: str) -> Item:
    """A field that is one Item.

    Raises:
        RecordError: it is something else; so of the others here.
    """
    return _whole(text, _item)


def read_list(text: str) -> list[Member]:
    """A field that is a List; several lines of it joined by commas. Empty where there is nothing."""
    return _whole(text, _list)


def read_dictionary(text: str) -> dict[str, Member]:
    """A field that is a Dictionary, as `read_list`; of two members of one name the last counts."""
    return _whole(text, _dictionary)


class _Text:
    """A text, and how far it has been read."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def take(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """What the pattern matches here."""
        match = pattern.match(self.text, self.at)
        if match is None:
            raise self.refusal()
        self.at = match.end()
        return match

    def has(self, sign: str) -> bool:
        """Whether this sign stands here; it is passed then."""
        if not self.text.startswith(sign, self.at):
            return False
        self.at += len(sign)
        return True

    @property
    def is_read(self) -> bool:
        """Whether nothing is left."""
        return self.at == len(self.text)

    def refusal(self) -> RecordError:
        """That what stands here cannot stand here."""
        return RecordError(f"not a structured field (RFC 9651) at sign {self.at + 1}")


def _whole(text: str, read: Callable[[_Text], _T]) -> _T:
    rest = _Text(text.strip(" "))
    value = read(rest)
    if not rest.is_read:
        raise rest.refusal()
    return value


def _list(rest: _Text) -> list[Member]:
    members: list[Member] = []
    while not rest.is_read:
        members.append(_member(rest))
        _pass_comma(rest)
    return members


def _dictionary(rest: _Text) -> dict[str, Member]:
    members: dict[str, Member] = {}
    while not rest.is_read:
        name = rest.take(_KEY)[0]
        members[name] = _member(rest) if rest.has("=") else Item(True, _parameters(rest))
        _pass_comma(rest)
    return members


def _pass_comma(rest: _Text) -> None:
    rest.take(_BLANKS)
    if rest.is_read:
        return
    if not rest.has(","):
        raise rest.refusal()
    rest.take(_BLANKS)
    if rest.is_read:
        # A comma at the end announces what never comes.
        raise rest.refusal()


def _member(rest: _Text) -> Member:
    return _inner_list(rest) if rest.has("(") else _item(rest)


def _inner_list(rest: _Text) -> InnerList:
    items: list[Item] = []
    rest.take(_SPACES)
    while not rest.has(")"):
        items.append(_item(rest))
        if not rest.take(_SPACES)[0] and not rest.text.startswith(")", rest.at):
            raise rest.refusal()
    return InnerList(items, _parameters(rest))


def _item(rest: _Text) -> Item:
    return Item(_bare(rest), _parameters(rest))


def _parameters(rest: _Text) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while rest.has(";"):
        rest.take(_SPACES)
        name = rest.take(_KEY)[0]
        found[name] = _bare(rest) if rest.has("=") else True
    return found


def _bare(rest: _Text) -> Any:
    sign = rest.text[rest.at : rest.at + 1]
    if sign == "-" or (sign.isascii() and sign.isdigit()):
        return _number(rest)
    if sign.isascii() and (sign.isalpha() or sign == "*"):
        return Token(rest.take(_TOKEN)[0])
    read = _BY_SIGN.get(sign)
    if read is None:
        raise rest.refusal()
    return read(rest)


def _number(rest: _Text) -> int | float:
    match = rest.take(_NUMBER)
    whole, fraction = match[1], match[2]
    if fraction is None and len(whole) <= _INTEGER_DIGITS:
        return int(match[0])
    if fraction and len(whole) <= _WHOLE_DIGITS and len(fraction) <= _FRACTION_DIGITS:
        return float(match[0])
    raise rest.refusal()


def _bytes(rest: _Text) -> bytes:
    try:
        return base64.b64decode(rest.take(_BYTES)[1], validate=True)
    except binascii.Error as exc:
        raise rest.refusal() from exc


def _display(rest: _Text) -> str:
    try:
        return unquote_to_bytes(rest.take(_DISPLAY)[1]).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise rest.refusal() from exc


_BY_SIGN: dict[str, Callable[[_Text], Any]] = {
    '"': lambda rest: _ESCAPED.sub(r"\1", rest.take(_STRING)[1]),
    ":": _bytes,
    "?": lambda rest: rest.take(_BOOLEAN)[1] == "1",
    "@": lambda rest: Date(int(rest.take(_DATE)[1])),
    "%": _display,
}
