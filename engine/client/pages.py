"""Pages: a cursor list as one stream of items, page after page, with an end that is certain.

The cursor is opaque. A platform that repeats one, or never stops handing out new ones, ends in an error
here and not in an endless loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from engine.client.call import Answered
from engine.errors import BrokenAnswer, CapExceeded

PAGES_MAX = 10_000
_CURSOR_CHARS_MAX = 8192


class Page(Protocol):
    """Any list answer of the contract (Q21)."""

    @property
    def next_cursor(self) -> str | None:
        """Where to go on; None (or empty) on the last page."""


Item = TypeVar("Item")
APage = TypeVar("APage", bound=Page)


async def pages(
    ask: Callable[[str | None], Awaitable[Answered[APage]]], *, start: str | None = None, pages_max: int = PAGES_MAX
) -> AsyncIterator[APage]:
    """Every page from `start` on; `ask` gets one by its cursor (None: the first). One request per page.

    Raises:
        BrokenAnswer: a cursor came a second time, or is no cursor by its size.
        CapExceeded: more than `pages_max` pages.
    """
    cursor = start
    seen: set[bytes] = set()
    for _ in range(pages_max):
        page = (await ask(cursor)).answer
        yield page
        cursor = page.next_cursor
        if not cursor:
            return
        if len(cursor) > _CURSOR_CHARS_MAX:
            raise BrokenAnswer(f"a list's cursor has {len(cursor)} characters, more than {_CURSOR_CHARS_MAX}")
        digest = hashlib.sha256(cursor.encode("utf-8", "surrogatepass")).digest()[:16]
        if digest in seen:
            raise BrokenAnswer("a list repeats a cursor, so its pages would never end", pages=len(seen) + 1)
        seen.add(digest)
    raise CapExceeded(f"a list has more than {pages_max} pages; narrow it down")


async def items(
    ask: Callable[[str | None], Awaitable[Answered[APage]]],
    of: Callable[[APage], Sequence[Item]],
    *,
    pages_max: int = PAGES_MAX,
) -> AsyncIterator[Item]:
    """Every item of every page, as `pages` finds them."""
    async for page in pages(ask, pages_max=pages_max):
        for item in of(page):
            yield item
