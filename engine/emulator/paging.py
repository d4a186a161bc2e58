"""Paging: which page of a list is asked for, read alike for every list (contract 9.6, Q21)."""

from __future__ import annotations

from engine.contract.paging import Cursor, clamp_limit, read_cursor
from engine.contract.profile import PROFILE, Profile
from engine.emulator.refusal import invalid
from engine.errors import RecordError


def limit_of(limit: int | None, profile: Profile) -> int:
    """The size of the page, clamped and never refused."""
    return clamp_limit(limit, default=profile.page_limit, ceiling=profile.page_limit_max)


def place_of(cursor: str | None) -> Cursor | None:
    """The last item of the page before, None for the first page.

    Raises:
        Refusal: 422: no cursor of ours.
    """
    try:
        return read_cursor(cursor) if cursor else None
    except RecordError:
        raise invalid("query", PROFILE.page_names["cursor"], "is not a cursor of this list") from None
