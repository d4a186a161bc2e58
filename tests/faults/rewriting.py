"""Answers that are changed on their way out of an emulator, and questions on their way in, beyond any fault script."""

from __future__ import annotations

import gzip
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from engine.emulator.server import Emulator
from engine.transport.incoming import Handle, Incoming, Outgoing

Change = Callable[[Incoming, Outgoing], Outgoing | None]


def rewrite(emulator: Emulator, change: Change, *, ask: Callable[[Incoming], Incoming] | None = None) -> list[str]:
    """Pass every answer through `change`; None leaves it as it is. Grows by the path of each that was changed."""
    changed: list[str] = []
    for listener in emulator._listeners:
        listener.handle = _changed(listener.handle, change, ask, changed)
    return changed


def _changed(
    handle: Handle, change: Change, ask: Callable[[Incoming], Incoming] | None, changed: list[str]
) -> Callable[[Incoming], Awaitable[Outgoing]]:
    async def answer(incoming: Incoming) -> Outgoing:
        outgoing = await handle(ask(incoming) if ask else incoming)
        outgoing = await _whole(outgoing)
        other = change(incoming, outgoing)
        if other is None:
            return outgoing
        changed.append(incoming.path)
        return other

    return answer


async def _whole(outgoing: Outgoing) -> Outgoing:
    if outgoing.body is None or isinstance(outgoing.body, bytes):
        return outgoing
    return msgspec.structs.replace(outgoing, body=b"".join([piece async for piece in outgoing.body]))


def document(outgoing: Outgoing) -> Any:
    """The JSON of an answer, packed or not; None when it holds none."""
    body = outgoing.body
    try:
        if isinstance(body, bytes) and outgoing.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        return json.loads(body) if isinstance(body, bytes) else None
    except (ValueError, OSError):
        return None


def with_document(outgoing: Outgoing, value: Any) -> Outgoing:
    """The same answer with another document, its length and checks left out."""
    kept = {
        name: text for name, text in outgoing.headers.items() if name.lower() in ("content-type", "x-argus-trace-id")
    }
    return msgspec.structs.replace(outgoing, headers=kept, body=json.dumps(value).encode())


def with_headers(outgoing: Outgoing, **headers: str) -> Outgoing:
    """The same answer with more headers."""
    return msgspec.structs.replace(outgoing, headers={**outgoing.headers, **headers})
