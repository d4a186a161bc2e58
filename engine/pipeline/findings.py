"""Findings: what can be wrong with a configuration, and how a fault gets its place in the text.

A `Fault` knows a key path; `to_findings` turns it into a `Finding` with line, column and the line itself,
secrets masked. The table of codes is here; judging is not.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec

from engine.errors import Finding
from engine.pipeline.locate import KeyPath, Spot, locate

FINDINGS: dict[str, str] = {
    "config.unreadable": "A configuration or pipeline file cannot be opened, or is not UTF-8 text.",
    "config.syntax": "The file is not TOML 1.0. Multi-line inline tables and trailing commas in them are TOML 1.1.",
    "config.unknown_key": "A key is not an option of its table; the options there are listed with the finding.",
    "config.type": "A value is of another type than the option needs.",
    "config.unit": 'A value needs its unit, as text: "30s", "8MiB", "50/s", "1%".',
    "config.choice": "A value is not one of the words the option knows.",
    "config.range": "A value is outside of what the option allows.",
    "config.missing": "An option without a default was not given.",
    "config.unset": "A reference names an environment variable or file that is not there.",
    "config.reference": "A reference is not of the form ${env:X}, ${secret:env:X} or ${secret:file:PATH}.",
    "config.secret": "A secret stands in the open: in the file, where others may read it, or where it may be printed.",
    "config.conflict": "Two options contradict each other, or an option does not belong to the chosen type.",
    "config.unsafe": "What the options ask for together would lose or expose something.",
}

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:secret|token|password|passwd|passphrase|api_?key|private_?key|access_?key)$", re.IGNORECASE
)
# What follows such a name on a line, up to the closing quote or the end: never shown.
_NAMED = r"(?i)((?:secret|token|password|passwd|passphrase|api_?key|private_?key|access_?key)[\"']?\s*=\s*)"
_SECRET_VALUE = re.compile(
    _NAMED + r"""(\"{3}.*?(?:\"{3}|$)|'{3}.*?(?:'{3}|$)|"(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s,}]+)""",
)
_SECRET_BLOCK = re.compile(_NAMED + r"""("{3}|'{3})""")


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong at one key path; `at` a key that is absent means its table."""

    at: KeyPath
    code: str
    message: str
    hint: str = ""
    about: Literal["key", "value"] = "value"
    options: tuple[str, ...] = ()


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A file's name as the user gave it, its text, and where overridden values came from instead."""

    path: str
    text: str
    origins: dict[KeyPath, str] = {}


def is_secret_name(name: str) -> bool:
    """Whether a key of this name would hold a secret."""
    return bool(_SECRET_NAME.search(name))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    known, word = sorted(known), word.lower()
    # Swapped letters first: in a short word they are half of it.
    swapped = [other for other in known if sorted(other) == sorted(word)]
    return next(iter(swapped or difflib.get_close_matches(word, known, n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint for a misspelt word, empty when nothing is near."""
    best = nearest(word, known)
    return f"did you mean `{best}`?" if best else ""


def table_name(at: Sequence[str | int]) -> str:
    """A table as its header writes it, "the file" for the root."""
    names = ".".join(str(part) for part in at if isinstance(part, str))
    return f"[{names}]" if names else "the top level"


def excerpt_of(text: str, line: int) -> str:
    """Line `line` (from 1) as it may be shown: secrets and control characters masked, columns kept."""
    lines = text.split("\n")
    shown = lines[line - 1] if 0 < line <= len(lines) else ""
    if _is_inside_secret("\n".join(lines[: line - 1])):
        return "*" * len(shown.rstrip("\r"))
    shown = _SECRET_VALUE.sub(_mask, shown.rstrip("\r"))
    return "".join(mark if mark.isprintable() else " " for mark in shown)


def _is_inside_secret(before: str) -> bool:
    """Whether a secret of several lines is still open at the end of this text."""
    opened = None
    for opened in _SECRET_BLOCK.finditer(before):  # noqa: B007 - the last one counts
        pass
    return opened is not None and opened[2] not in before[opened.end() :]


def _mask(found: re.Match[str]) -> str:
    name, value = found[1], found[2]
    if "${" in value:
        return found[0]
    return name + value[0] + "*" * (len(value) - 2) + (value[-1] if len(value) > 1 else "")


def to_findings(faults: Iterable[Fault], document: Document) -> list[Finding]:
    """Faults with their places, in order of position; those of the environment and flags come first."""
    faults = list(faults)
    # The text is scanned for positions only when something is wrong with it.
    spots = locate(document.text) if faults and document.text else {}
    found = [_place(fault, document, spots) for fault in faults]
    return sorted(found, key=lambda finding: (finding.line, finding.column, finding.finding_code))


def _place(fault: Fault, document: Document, spots: dict[KeyPath, Spot]) -> Finding:
    facts: dict[str, Any] = {"key": ".".join(str(part) for part in fault.at), "options": list(fault.options)}
    for depth in range(len(fault.at), 0, -1):
        if origin := document.origins.get(fault.at[:depth]):
            return Finding(fault.message, code=fault.code, path=origin, hint=fault.hint, is_outside=True, **facts)
    spot = Spot(line=1, column=1, length=0, value_line=1, value_column=1, value_length=0)
    about = fault.about
    for depth in range(len(fault.at), 0, -1):
        if near := spots.get(fault.at[:depth]):
            spot = near
            about = about if depth == len(fault.at) else "key"
            break
    if about == "key":
        line, column, length = spot.line, spot.column, spot.length
    else:
        line, column, length = spot.value_line, spot.value_column, spot.value_length
    return Finding(
        fault.message,
        code=fault.code,
        path=document.path,
        line=line,
        column=column,
        hint=fault.hint,
        length=length,
        excerpt=excerpt_of(document.text, line),
        **facts,
    )
