"""Dates as the wire writes them: HTTP dates (RFC 9110 section 5.6.7), RFC 3339 and structured fields, in seconds.

Leap seconds count as the second before them plus one, as RFC 9110 and RFC 3339 allow them to be written. A date
without a zone is UTC: what this machine calls local time never matters. No clock is read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

from engine.codec.structured import Date, read_item
from engine.errors import RecordError

_LEAP = re.compile(r"(?<=\d:\d\d:)60(?!\d)")


def http_date_s(text: str) -> float | None:
    """An HTTP date, in any of its three forms; None when it is none."""
    return _seconds(text, parsedate_to_datetime)


def rfc3339_s(text: str) -> float | None:
    """A date and time of RFC 3339; None when it is none."""
    return _seconds(text, datetime.fromisoformat)


def http_date_text(at_s: float) -> str:
    """Seconds since 1970 as an HTTP date, in the one form that may be sent."""
    return format_datetime(datetime.fromtimestamp(int(at_s), UTC), usegmt=True)


def field_date_s(text: str) -> int | None:
    """The Date of a structured field that is one Item (RFC 9651 section 3.3.7): `@1688169599`; None when it is none.

    Parameters are read over, but a broken one makes the whole field broken, as the RFC asks.
    """
    try:
        value = read_item(text).value
    except RecordError:
        return None
    return value.at_s if isinstance(value, Date) else None


def _seconds(text: str, read: Callable[[str], datetime]) -> float | None:
    plain, leaps = _LEAP.subn("59", text.strip())
    try:
        at = read(plain)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() + leaps
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
