"""A signed URL read to its end: refreshed when it expires, continued with `Range` when the body breaks.

The URL is a lease, never an address to keep: it is asked for again whenever it is refused. Yields the bytes as
they are on the wire; inflating and decoding come after.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from engine.client.client import Client
from engine.contract.exchange import Trace
from engine.errors import BrokenAnswer, Missing, PlatformError, TransportError
from engine.transport.patience import Patience

_TRIES = 8
# So many bytes in one go are progress, and renew the tries; fewer could be a server that gives a byte a connection.
_PROGRESS_BYTES = 64 * 1024
_PAUSE_MAX_S = 5.0


class Encoding(msgspec.Struct):
    """What the answer said about its body; filled in before the first chunk comes."""

    content_encoding: str = "identity"


class _Tries:
    """How often a body may break, and for how long nothing may come, before it is given up."""

    def __init__(self, patience: Patience) -> None:
        self._clock = patience.clock
        self._patience = patience
        self._count = 0
        self._leases = 0
        self._mark = 0
        self._since = self._clock.monotonic()

    def progressed(self, offset: int) -> None:
        if offset - self._mark >= _PROGRESS_BYTES:
            self._mark, self._count, self._leases, self._since = offset, 0, 0, self._clock.monotonic()

    def may_try_again(self, error: TransportError | PlatformError) -> bool:
        self._count += 1
        if isinstance(error, Missing):
            # Nothing is down here: a lease that is over as soon as it is given will not get better by waiting.
            self._leases += 1
            return self._leases < _TRIES
        return self._count < _TRIES or self._clock.monotonic() - self._since < self._patience.seconds

    async def pause(self) -> None:
        await self._patience.pause(min(_PAUSE_MAX_S, 0.05 * 2 ** min(self._count, 10)))


async def read_lease(
    client: Client,
    lease: Callable[[], Awaitable[str]],
    *,
    trace: Trace,
    patience: Patience,
    encoding: Encoding,
) -> AsyncIterator[bytes]:
    """Yield the whole body, in pieces, exactly once.

    `lease` answers a fresh URL each time. A break costs a reconnection that continues at the byte reached, guarded
    by the entity tag (`If-Range`, RFC 9110 section 13.1.5): a body that changed in between starts the read over, which
    only the caller can do, so it is an error here. Eight breaks without progress are allowed, and as many more as
    `patience` lasts.

    Raises:
        BrokenAnswer: the body kept breaking, or is no longer the same one.
        Missing: the result is past its retention. PatienceEnded: the run is to stop.
    """
    offset, tag, tries = 0, "", _Tries(patience)
    url = await lease()
    while True:
        is_over = False
        try:
            async with client.fetch(url, range_from=offset or None, if_range=tag or None, trace=trace) as stream:
                is_same = not offset or stream.status == 206
                if is_same:
                    tag = stream.headers.get("etag", "") or tag
                    encoding.content_encoding = stream.headers.get("content-encoding", "identity").lower()
                    async for chunk in stream.chunks():
                        offset += len(chunk)
                        yield chunk
                        tries.progressed(offset)
                    return
        except (TransportError, PlatformError) as exc:
            if not tries.may_try_again(exc):
                raise
            is_over = isinstance(exc, Missing)
        else:
            raise BrokenAnswer("the result changed while it was being read", hint="it is fetched again from its start")
        if is_over:
            url = await lease()
        else:
            await tries.pause()
