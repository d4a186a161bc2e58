"""What one decoder call reads of a row result: what is matched and counted, and what lands, in one value.

Where a pipeline declares the match or status member as something that cannot serve for both, there is no such type,
and rows are decoded twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Literal, get_origin

import msgspec

# Statuses of rows that have none.
PRESENT = "present"


class Head(msgspec.Struct, gc=False):
    """What is matched and counted of a row that lands as it came; subclassed with the names it has there."""

    key: str | int
    status: str
    error: msgspec.Raw = msgspec.Raw()
    errors: msgspec.Raw = msgspec.Raw()


class OnePass:
    """A type to decode rows into, and what to take from them. `lands` says whether a row of it is what lands."""

    def __init__(self, kind: Any, *, key: str, status: str | None, hidden: tuple[str, ...], lands: bool) -> None:
        self.kind = kind
        self.lands = lands
        self._names = (key, status)
        self._key_of: Callable[[Any], Any] = attrgetter(key)
        self._status_of: Callable[[Any], str] | None = attrgetter(status) if status else None
        self._hidden = hidden

    def of_raw(self) -> OnePass:
        """The same for rows that land as they came, once they have been found to fit."""
        key, status = self._names
        return OnePass(self.kind, key=key, status=status, hidden=(), lands=False)

    def keys(self, rows: Sequence[Any]) -> list[str]:
        """Their keys, as text."""
        keys = list(map(self._key_of, rows))
        return keys if set(map(type, keys)) <= _ONLY_TEXT else list(map(key_text, keys))

    def statuses(self, rows: Sequence[Any]) -> dict[str, int]:
        """How many of them have which status."""
        if self._status_of is None:
            return {PRESENT: len(rows)}
        seen = set(map(self._status_of, rows))
        # Mostly there is one, and then nothing is left to count.
        return {seen.pop(): len(rows)} if len(seen) == 1 else Counter(map(self._status_of, rows))

    def hide(self, rows: Sequence[Any]) -> None:
        """Take out what was read for matching only: absent, it is not written by a sink that writes whole rows."""
        for name in self._hidden:
            for row in rows:
                setattr(row, name, msgspec.UNSET)


def key_text(key: str | int) -> str:
    """A key as text."""
    return key if type(key) is str else str(key)


@cache
def head_type(match: str, status: str | None) -> type[Head]:
    """`Head` with the members' names."""
    fields: list[Any] = [("key", str | int), ("status", str) if status else ("status", str, PRESENT)]
    fields += [("error", msgspec.Raw, msgspec.Raw()), ("errors", msgspec.Raw, msgspec.Raw())]
    rename = {"key": match, "status": status or "\ue000"}
    return msgspec.defstruct("Head", fields, rename=rename, gc=False)  # type: ignore[return-value]


@cache
def one_pass(match: str, status: str | None, row: type[msgspec.Struct] | None) -> OnePass | None:
    """How to read rows that land as `row` (None: as they came); None when it takes two passes."""
    if row is None:
        return OnePass(head_type(match, status), key="key", status=status and "status", hidden=(), lands=False)
    declared = {field.encode_name: field for field in msgspec.structs.fields(row)}
    attributes, added = {}, []
    for name, attribute, plain in ((match, "match_", _KEYS), (status, "status_", _STATUSES)):
        if name is None:
            continue
        if name not in declared:
            attributes[name] = attribute
            added.append((attribute, str | int if name == match else str, name))
        elif _is_plain(declared[name].type, plain) and declared[name].required:
            attributes[name] = declared[name].name
        else:
            return None
    kind: Any = row
    if added:
        fields: list[Any] = [(attribute, annotation) for attribute, annotation, _ in added]
        rename = {attribute: name for attribute, _, name in added}
        kind = msgspec.defstruct(row.__name__, fields, bases=(row,), rename=rename, kw_only=True, gc=False)
    hidden = tuple(attribute for attribute, _, _ in added)
    return OnePass(kind, key=attributes[match], status=status and attributes[status], hidden=hidden, lands=True)


_KEYS: tuple[Any, ...] = (str, int, str | int)
_STATUSES: tuple[Any, ...] = (str,)
_ONLY_TEXT = {str}


def _is_plain(kind: Any, plain: tuple[Any, ...]) -> bool:
    return kind in plain or (get_origin(kind) is Literal and all(isinstance(word, str) for word in kind.__args__))
