"""A signed URL read to its end: refreshed when it expires, continued with `Range` when the body breaks.

The URL is a lease, never an address to keep: it is asked for again whenever it is refused. Yields the bytes as
they are on the wire; inflating and decoding come after. Whether they are all there is decided by whatever the answers
say: length, `Content-Range`, digests (RFC 9530).
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable

import msgspec

from engine.client.client import Client
from engine.codec.digests import Promise, promise_of
from engine.contract.exchange import Trace
from engine.errors import (
    BrokenAnswer,
    ConnectFailed,
    EngineError,
    Missing,
    PlatformError,
    Retry,
    TimedOut,
    TransportError,
    TrustError,
)
from engine.ports import BodyStream
from engine.transport.patience import Patience, out_of_patience

# Tries in a row that bring nothing new. A body that breaks every MiB may be as long as it likes.
_TRIES = 8
# A try that brings less than this counts as none: who hands out a byte at a time is no storage.
_PROGRESS_BYTES = 16 * 1024
_BACKOFF_S = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
_PAUSE_MAX_S = 300.0
_RANGE = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)")
_UNSATISFIED = re.compile(r"bytes\s+\*/(\d+)")


class Encoding(msgspec.Struct):
    """What the answer said about its body; filled in before the first chunk comes."""

    content_encoding: str = "identity"


class _Reading:
    """How far one body has been read, and what was promised about it."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._failed_at: float | None = None
        self.offset = 0
        self.tag = ""
        self.tries = 0
        self._size: int | None = None
        self._whole: Promise | None = None

    @property
    def if_range(self) -> str | None:
        """The entity tag to continue under; a weak one names no bytes (RFC 9110 section 13.1.5)."""
        return self.tag if self.tag and not self.tag.startswith("W/") else None

    async def read(self, stream: BodyStream, encoding: Encoding) -> AsyncGenerator[bytes, None]:
        """What is new in an answer; counts, and checks what was promised once it has ended."""
        skip = self._open(stream)
        encoding.content_encoding = stream.headers.get("content-encoding", "identity").strip().lower()
        content = promise_of(stream.headers.get("content-digest", ""))
        async for chunk in stream.chunks():
            if content is not None:
                content.feed(chunk)
            if skip:
                # The same bytes as before, from the start: a store without ranges.
                chunk, skip = chunk[skip:], max(0, skip - len(chunk))
            if not chunk:
                continue
            self.offset += len(chunk)
            if self._whole is not None:
                self._whole.feed(chunk)
            yield chunk
        if content is not None and not content.is_kept:
            raise _StartOver(f"the body is not what its Content-Digest ({content.algorithm}) says")
        self._check_end()

    def ends_here(self, error: PlatformError) -> bool:
        """Whether a refusal says that there is nothing past the place reached: it broke after its last byte."""
        found = _UNSATISFIED.fullmatch(str(error.facts.get("content_range", "")))
        if error.status != 416 or not self.offset or found is None or int(found[1]) != self.offset:
            return False
        self._check_end()
        return True

    def count(self, since: int) -> None:
        """A try that began at `since` has failed."""
        is_progress = self.offset - since >= _PROGRESS_BYTES
        self.tries = 1 if is_progress else self.tries + 1
        if is_progress or self._failed_at is None:
            # An outage is counted from the first failure, not from when the read that met it began.
            self._failed_at = self._patience.clock.monotonic()

    def may_try_again(self, error: EngineError) -> bool:
        """Whether another try may bring what the last ones did not."""
        if error.retry is Retry.HALT:
            return False
        if self._is_outage(error):
            return self._left_s > 0
        # What is refused for good does not get better by waiting; what breaks or is busy may.
        is_down = isinstance(error, TransportError) or error.retry is Retry.LATER
        return self.tries < _TRIES or (is_down and self._left_s > 0)

    def pause_s(self, error: EngineError) -> float:
        """How long to wait before the next try; in an outage never past the end of patience."""
        asked_s: float | None = error.retry_after_s if isinstance(error, PlatformError) else None
        backoff_s = _BACKOFF_S[min(self.tries, len(_BACKOFF_S)) - 1]
        if self._is_outage(error):
            return min(backoff_s, max(self._left_s, 0.001))
        return max(backoff_s, min(asked_s or 0.0, _PAUSE_MAX_S))

    def last_word(self, error: EngineError) -> EngineError:
        """What the caller is told when nothing more is tried: a store's refusal is a body that cannot be had."""
        if self._is_outage(error):
            return out_of_patience(error, self._patience)
        if isinstance(error, PlatformError) and error.retry is Retry.NEVER and not isinstance(error, Missing):
            return BrokenAnswer(f"every signed URL of the result was refused; the last with {error.status}")
        return error

    def _is_outage(self, error: EngineError) -> bool:
        """Whether nobody answers at all, and a run waits for that: its patience counts then, and no number of tries."""
        return self._patience.seconds > 0 and isinstance(error, ConnectFailed | TimedOut)

    @property
    def _left_s(self) -> float:
        now = self._patience.clock.monotonic()
        return (now if self._failed_at is None else self._failed_at) + self._patience.seconds - now

    def _open(self, stream: BodyStream) -> int:
        """Check that an answer continues what was read; how many of its first bytes are known already."""
        tag = stream.headers.get("etag", "")
        if not self.offset:
            self.tag = tag
            self._size = _length_of(stream)
            self._whole = promise_of(stream.headers.get("repr-digest", ""))
            return 0
        if stream.status == 200:
            if self.if_range is None or tag != self.tag:
                raise _changed()
            return self.offset
        found = _RANGE.fullmatch(stream.headers.get("content-range", "").strip())
        if found is None or int(found[1]) != self.offset:
            raise BrokenAnswer("the storage answered another range than the one asked for")
        size = None if found[3] == "*" else int(found[3])
        if (tag and tag != self.tag) or (size is not None and self._size is not None and size != self._size):
            raise _changed()
        self._size = self._size if size is None else size
        return 0

    def _check_end(self) -> None:
        if self._size is not None and self.offset != self._size:
            kind = BrokenAnswer if self.offset < self._size else _StartOver
            raise kind(f"the body ended after {self.offset} of {self._size} bytes")
        if self._whole is not None and not self._whole.is_kept:
            raise _StartOver(f"the body is not what its Repr-Digest ({self._whole.algorithm}) says")


class _StartOver(BrokenAnswer):
    """The bytes read so far are not the beginning of what lies there; only the caller can begin again."""


def _changed() -> _StartOver:
    return _StartOver("the result changed while it was being read", hint="it is fetched again from its start")


async def read_lease(
    client: Client, lease: Callable[[], Awaitable[str]], *, trace: Trace, patience: Patience, encoding: Encoding
) -> AsyncGenerator[bytes, None]:
    """Yield the whole body, in pieces, exactly once.

    `lease` answers a fresh URL each time. A break costs a reconnection that continues at the byte reached, guarded
    by the entity tag (`If-Range`, RFC 9110 section 13.1.5): a body that changed in between starts the read over, which
    only the caller can do, so it is an error here. A store without ranges is read past what is known already. What
    keeps breaking is tried eight times, and for as long as `patience` lasts; where nobody answers, patience alone
    counts, unless there is none.

    Raises:
        BrokenAnswer: the body kept breaking, is not what its digest says, or is no longer the same one.
        OutOfPatience: the storage did not come back in time.
        Missing: the result is past its retention. TrustError: the URL leads where results do not lie.
        PatienceEnded: the run is to stop.
    """
    reading = _Reading(patience)
    url = await lease()
    while True:
        since = reading.offset
        try:
            async with client.fetch(
                url, range_from=reading.offset or None, if_range=reading.if_range, trace=trace
            ) as stream:
                async for chunk in reading.read(stream, encoding):
                    yield chunk
                return
        except _StartOver:
            raise
        except (TransportError, PlatformError, TrustError) as exc:
            if isinstance(exc, PlatformError) and reading.ends_here(exc):
                return
            reading.count(since)
            if not reading.may_try_again(exc):
                raise reading.last_word(exc) from exc
            error = exc
        if isinstance(error, TransportError) or error.retry is Retry.LATER:
            await patience.pause(reading.pause_s(error))
        else:
            # Refused for good, as far as this URL goes: some stores say 400 of an expired one.
            url = await lease()


def _length_of(stream: BodyStream) -> int | None:
    """The size of the whole body, where the first answer says it."""
    text = stream.headers.get("content-length", "").strip()
    return int(text) if text.isascii() and text.isdigit() else None
