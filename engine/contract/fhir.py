"""FHIR: the forms of R4's datatypes that text must have before it goes into a resource.

Facts of http://hl7.org/fhir/R4/datatypes.html: dateTime, code, uri. No resource is known here.
"""

from __future__ import annotations

import re

from engine.contract.dates import rfc3339_s

_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T([01]\d|2[0-3]):\d\d:\d\d(\.\d+)?(Z|[+-](0\d|1[0-4]):\d\d))?)?)?", re.ASCII)
_CODE = re.compile(r"[^\s\x00-\x1f]+([ ][^\s\x00-\x1f]+)*")


def is_date(text: str) -> bool:
    """Whether this is a dateTime: a year, a month, a day, or a moment with its zone."""
    if not _DATE.fullmatch(text):
        return False
    whole = text + "-01-01"[len(text) - 4 :] if len(text) < 10 else text
    return rfc3339_s(whole) is not None


def is_moment(text: str) -> bool:
    """Whether this is a dateTime to the second at least, with its zone."""
    return "T" in text and is_date(text)


def is_code(text: str) -> bool:
    """Whether these are words with one space between them, as a code is."""
    return bool(_CODE.fullmatch(text))


def is_uri(text: str) -> bool:
    """Whether this may be a URI: words without any space."""
    return is_code(text) and " " not in text
