"""Asking a route once for each row of a batch: as many at a time as its lane lets through, each row by itself.

A row the platform refuses ends alone; whatever says that nothing can be asked now ends the batch, which is then asked
again as a whole: with the same keys, so that what was taken is not taken twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import msgspec

from engine.client.client import Client
from engine.codec.payload import decode, encode
from engine.contract.catalog import ask_of
from engine.contract.exchange import Trace
from engine.contract.route import Route
from engine.contract.rows import is_repeatable, key_member, row_key
from engine.errors import (
    BrokenAnswer,
    BrokenProof,
    ConnectFailed,
    PlatformError,
    RecordError,
    Retry,
    TransportError,
    Unavailable,
)
from engine.jobs.records import Ended
from engine.store.rows import JobRow
from engine.telemetry.redact import Redactor

_REASON_MAX = 500
UNKNOWN = "request.unknown"
_redact = Redactor()

Prove = Callable[[bytes], Awaitable[None]]


class Asked(msgspec.Struct, gc=False):
    """What asking brought: the answers as JSON text, in the order of their rows, whose keys stand beside them."""

    texts: list[bytes]
    keys: list[str]
    ended: list[Ended]


class Asker:
    """Asks one route for rows; `width` is how many of a batch are under way at once.

    With `into` an answer becomes that member of its row, else it stands for the row. `prove` raises for an answer
    that does not hold. `key` names the rows, and is no part of the question where the route has no such member.
    """

    def __init__(
        self,
        client: Client,
        route: Route[Any, Any],
        *,
        key: str,
        width: int,
        into: str | None = None,
        prove: Prove | None = None,
    ) -> None:
        self._client = client
        self._route = route
        self._width = width
        self._into = into
        self._prove = prove
        self._key_member = key_member(route)
        self._is_repeatable = is_repeatable(route)
        known = {name for field in msgspec.structs.fields(route.ask) for name in (field.name, field.encode_name)}
        self._unasked = None if key in known else key

    async def ask(self, job: JobRow, items: Sequence[bytes], keys: Sequence[str]) -> Asked:
        """Ask for every row of a batch.

        Raises:
            ExceptionGroup of EngineError: credentials, or a platform that does not come back; nothing has landed.
        """
        outcomes: list[bytes | Ended] = [b""] * len(items)
        todo = iter(range(len(items)))

        async def work() -> None:
            for index in todo:
                outcomes[index] = await self._one(job, index, items[index], keys[index])

        async with anyio.create_task_group() as group:
            for _ in range(min(self._width, len(items))):
                group.start_soon(work)
        asked = Asked([], [], [])
        for key, outcome in zip(keys, outcomes, strict=True):
            if isinstance(outcome, Ended):
                asked.ended.append(outcome)
            else:
                asked.texts.append(outcome)
                asked.keys.append(key)
        return asked

    async def _one(self, job: JobRow, index: int, item: bytes, key: str) -> bytes | Ended:
        try:
            row = decode(item, dict)
            ask = ask_of(self._route, self._members(row, job, index, item))
            answer = await self._client.exchange(self._route, ask, trace=Trace(job.trace_id, job.span_id))
            if self._prove is not None:
                await self._prove(answer)
            return answer if self._into is None else encode({**row, self._into: msgspec.Raw(answer)})
        except (PlatformError, TransportError) as exc:
            if not self._is_repeatable and _may_have_been_taken(exc):
                return Ended(key, "dead", "request", UNKNOWN, _why(f"it may have been taken: {exc.message}"))
            if isinstance(exc, PlatformError) and exc.retry is Retry.NEVER:
                return Ended(key, "rejected", "request", f"platform.{exc.status}", _why(exc.message))
            if isinstance(exc, BrokenAnswer):
                return Ended(key, "dead", "request", exc.code, _why(exc.message))
            raise
        except (RecordError, BrokenProof) as exc:
            return Ended(
                key, "dead", "request", exc.code, _why(f"{exc.message}; {exc.hint}" if exc.hint else exc.message)
            )

    def _members(self, row: dict[str, Any], job: JobRow, index: int, item: bytes) -> dict[str, Any]:
        members = {name: value for name, value in row.items() if name != self._unasked}
        if self._key_member is not None:
            members.setdefault(self._key_member, row_key(job.key, index, item))
        return members


def _may_have_been_taken(error: PlatformError | TransportError) -> bool:
    """Whether a request that cannot be repeated may have had its effect, although no good answer came."""
    if isinstance(error, PlatformError):
        return isinstance(error, Unavailable)
    return error.retry is not Retry.HALT and not isinstance(error, ConnectFailed)


def _why(text: str) -> str:
    return _redact(text)[:_REASON_MAX]
