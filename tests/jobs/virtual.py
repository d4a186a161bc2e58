"""Time for simulations: it jumps to the next moment somebody waits for, as soon as nobody can go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from engine.clock import ManualClock
from engine.contract.exchange import Request, Response
from engine.errors import EngineError
from engine.events import Event

_SETTLE = 40


class JumpingClock(ManualClock):
    """`play` runs a coroutine to its end, however long its naps."""

    async def play(self, work: Callable[[], Awaitable[Any]]) -> None:
        is_done = False

        async def run() -> None:
            nonlocal is_done
            try:
                await work()
            finally:
                is_done = True

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            while True:
                for _ in range(_SETTLE):
                    await anyio.lowlevel.checkpoint()
                if is_done:
                    return
                if self._sleepers:
                    self.advance(max(0.0, self._sleepers[0][0] - self.monotonic()))


class Simulated:
    """A transport that answers after `took_s` with what `answer` says at that moment: a status, or a failure."""

    def __init__(self, clock: ManualClock, answer: Callable[[Request], int | EngineError], *, took_s: float) -> None:
        self._clock = clock
        self._answer = answer
        self._took_s = took_s
        self.sent: list[tuple[float, Request]] = []

    async def send(self, request: Request) -> Response:
        self.sent.append((self._clock.monotonic(), request))
        answer = self._answer(request)
        await self._clock.sleep(self._took_s)
        if isinstance(answer, EngineError):
            raise answer
        return Response(answer, {}, b"")

    def stream(self, request: Request) -> Any:
        raise NotImplementedError

    async def aclose(self) -> None:
        pass


class Recorder:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def notice(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]
