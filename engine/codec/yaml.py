"""YAML, written and never read: plain values as a block document that a reader of YAML 1.1 or 1.2 takes alike.

Whatever could be taken for something else stands in double quotes, as JSON writes it. YAML from outside has no
reader here, and needs none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from engine.codec.payload import encode

# What no reader takes for a number, a boolean, a date or a sign; everything else is quoted.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[-./ ][A-Za-z0-9_]+)*")
# JSON may hold these in a string as they are; YAML may not, or takes them for the end of a line.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
# YAML 1.1 reads these as booleans and null, 1.2 some of them.
_WORDS = frozenset("true false yes no on off y n null".split())


def dump_yaml(value: Any) -> str:
    """A document of dicts (with text for keys), lists, text, numbers, booleans and None; ends with a line end."""
    return "\n".join(_lines(value, "")) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, member in value.items():
            yield from _entry(f"{indent}{_scalar(name)}:", member, indent + "  ")
    elif isinstance(value, list | tuple) and value:
        for member in value:
            yield from _entry(f"{indent}-", member, indent + "  ")
    else:
        yield indent + _scalar(value)


def _entry(lead: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict | list | tuple) and value:
        yield lead
        yield from _lines(value, indent)
    else:
        yield f"{lead} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", encode(value).decode())
