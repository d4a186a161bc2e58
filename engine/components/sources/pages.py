"""Pages source: a listing of the platform as records, page after page, with a place to go on from.

Records are counted from the front of the list, and that count is their offset. A place is remembered as the cursor of
its page and the record it comes after, because lists grow at their front: what came after a listing was begun is for
the next epoch. A listing that was read to its end is done; `--fresh` reads it again.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError as Cancelled
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlencode

import msgspec

from engine.client.client import Client
from engine.codec.lines import Lines
from engine.codec.payload import decode, decoder, encode
from engine.components.sources.files import VALUES_MAX
from engine.components.sources.once import OnceSource
from engine.contract.catalog import ask_of, route_of
from engine.contract.profile import PROFILE
from engine.contract.rows import CURSOR, Listing, ListPage, listing_of, page_of
from engine.errors import BrokenAnswer, ConfigError, StaleCheckpoint
from engine.pipeline.spec import SourceSpec
from engine.record import Batch, Mark

_CURSOR_CHARS_MAX = 8192
_LOOK_EVERY_S = 0.1


class Gate:
    """Where a listing is asked, once the platform is open: the loop's client, for a source on its thread."""

    def __init__(self) -> None:
        self._client: Client | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def connect(self, client: Client, loop: asyncio.AbstractEventLoop) -> None:
        """From now on pages can be asked for."""
        self._client, self._loop = client, loop

    def ask(self, name: str, members: Mapping[str, Any]) -> Future[bytes]:
        """The text of one answer, some time."""
        if self._client is None or self._loop is None:
            raise ConfigError("a listing was read before the platform was open", hint="report this: a bug")
        route = route_of(name)
        return asyncio.run_coroutine_threadsafe(self._client.exchange(route, ask_of(route, members)), self._loop)


class _Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a mark holds: the page's cursor, the record taken last there (nothing of the page: None), or the end."""

    cursor: str | None = None
    after: str | None = None
    is_done: bool = False


class _Page(msgspec.Struct, frozen=True):
    """A page that was read: the offset of its first record, its cursor, and what each record is known by."""

    start: int
    cursor: str | None
    names: list[str]
    is_last: bool


class PagesSource(OnceSource):
    """A `ports.Source` over one listing route; `gate` is connected before anything is read."""

    def __init__(self, spec: SourceSpec, gate: Gate, *, want_values: bool, values_max: int = VALUES_MAX) -> None:
        super().__init__(spec, want_values=want_values, values_max=values_max)
        self._gate = gate
        self._route = route_of(spec.route or "")
        listing = listing_of(self._route)
        if listing is None:
            raise ConfigError(f"{self._route.name} does not list anything")
        self._listing: Listing = listing
        self._name = self._route.name + ("?" + urlencode(spec.members) if spec.members else "")
        self._name_of: Any = _key_decoder(spec.key)
        self._pages: deque[_Page] = deque()

    def read(self, marks: Mapping[str, Mark]) -> Iterator[Batch]:
        """Read on from the mark; one batch for each page.

        Raises:
            StaleCheckpoint: the record that was taken last is no longer in the list.
        """
        mark = marks.get(self._name)
        place = decode(mark.fingerprint.encode(), _Place) if mark else _Place()
        if place.is_done:
            return
        offset, passed = (mark.offset if mark else 0), place.after is None
        for cursor, page in self._from(place.cursor):
            names = [self._known_as(bytes(item)) for item in page.items]
            first = 0
            if not passed:
                if place.after not in names:
                    continue  # New records at the front have pushed it on to a later page.
                first, passed = names.index(place.after) + 1, True
            texts = [_one_line(bytes(item)) for item in page.items[first:]]
            if not texts:
                continue
            self._pages.append(_Page(offset - first, cursor, names, is_last=not page.next_cursor))
            lines = Lines(start=offset, line=offset + 1, texts=texts, ends=[offset + n + 1 for n in range(len(texts))])
            offset += len(texts)
            yield self._whole(self._name, lines) or self._line_by_line(self._name, lines)
        if not passed and not self._stop.is_set():
            raise StaleCheckpoint(
                f"{self._name}: the record taken last, {place.after!r}, is no longer in the list",
                hint="run with --fresh to read the list from its start",
                input=self._name,
            )

    def mark(self, name: str, offset: int, line: int) -> Mark:
        """The mark after a record: the cursor of its page, and what it is known by."""
        while len(self._pages) > 1 and self._pages[0].start + len(self._pages[0].names) < offset:
            self._pages.popleft()
        page = self._pages[0]
        taken = offset - page.start
        is_done = page.is_last and taken >= len(page.names)
        place = _Place(cursor=page.cursor, after=page.names[taken - 1] if taken else None, is_done=is_done)
        return Mark(offset=offset, line=line, fingerprint=encode(place).decode(), head=0)

    def _from(self, cursor: str | None) -> Iterator[tuple[str | None, ListPage]]:
        """The pages from a cursor on, each with its own."""
        seen: set[bytes] = set()
        while not self._stop.is_set():
            page = self._ask(cursor)
            if page is None:
                return
            yield cursor, page
            cursor = page.next_cursor
            if not cursor or not self._listing.is_paged:
                return
            if len(cursor) > _CURSOR_CHARS_MAX:
                raise BrokenAnswer(f"{self._name}: a cursor has {len(cursor)} characters")
            digest = hashlib.sha256(cursor.encode("utf-8", "surrogatepass")).digest()[:16]
            if digest in seen:
                raise BrokenAnswer(f"{self._name} repeats a cursor, so its pages would never end")
            seen.add(digest)

    def _ask(self, cursor: str | None) -> ListPage | None:
        """One page; None when the source was closed meanwhile."""
        members: dict[str, Any] = dict(self.spec.members)
        if self._listing.is_paged:
            members.setdefault("limit", PROFILE.page_limit_max)
            if cursor is not None:
                members[CURSOR] = cursor
        answer = self._gate.ask(self._route.name, members)
        while not self._stop.is_set():
            try:
                return page_of(self._listing, answer.result(_LOOK_EVERY_S))
            except TimeoutError:
                continue
            except Cancelled:
                return None
        answer.cancel()
        return None

    def _known_as(self, text: bytes) -> str:
        """What a record is found again by: its key, or where it has none the digest of its text."""
        try:
            key = self._name_of(text).key
        except (msgspec.DecodeError, UnicodeDecodeError):
            key = None
        return str(key) if isinstance(key, str | int) else hashlib.sha256(text).hexdigest()


def _one_line(text: bytes) -> bytes:
    # A line end inside JSON text is a blank.
    return text.replace(b"\n", b" ").replace(b"\r", b" ")


def _key_decoder(key: str) -> Any:
    kind: Any = msgspec.defstruct("Named", [("key", Any, None)], rename={"key": key}, gc=False)
    return decoder(kind).decode
