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
from engine.ports import Clock

_TRIES = 8


class Encoding(msgspec.Struct):
    """What the answer said about its body; filled in before the first chunk comes."""

    content_encoding: str = "identity"


async def read_lease(
    client: Client, lease: Callable[[], Awaitable[str]], *, trace: Trace, clock: Clock, encoding: Encoding
) -> AsyncIterator[bytes]:
    """Yield the whole body, in pieces, exactly once.

    `lease` answers a fresh URL each time. A break costs a reconnection that continues at the byte reached, guarded
    by the entity tag (`If-Range`, RFC 9110 section 13.1.5): a body that changed in between starts the read over, which
    only the caller can do, so it is an error here.

    Raises:
        BrokenAnswer: the body kept breaking, or is no longer the same one.
        Missing: the result is past its retention.
    """
    offset, tag, tries = 0, "", 0
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
                    return
        except (TransportError, PlatformError) as exc:
            tries += 1
            if tries >= _TRIES:
                raise
            is_over = isinstance(exc, Missing)
        else:
            raise BrokenAnswer("the result changed while it was being read", hint="it is fetched again from its start")
        if is_over:
            url = await lease()
        else:
            await clock.sleep(min(5.0, 0.05 * 2**tries))
