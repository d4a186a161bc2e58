"""Laned: a transport that lets each try of a request wait for its lane, and then for the account's budget.

It sees every try, those too that are tried again, so a lane knows of each push-back. What a lane makes of it is
`lanes`' matter; whether a request is tried again is `retrying`'s, one layer out.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from engine.contract.exchange import Request, Response
from engine.contract.problem import refusal
from engine.errors import EngineError
from engine.jobs.lanes import Lanes
from engine.ports import BodyStream, Transport
from engine.transport.limiting import Budget


class LanedTransport:
    """Wraps `inner`. A place in the lane is held from before the budget's turn until the answer is read."""

    def __init__(self, inner: Transport, lanes: Lanes, budget: Budget) -> None:
        self._inner = inner
        self._lanes = lanes
        self._budget = budget

    async def send(self, request: Request) -> Response:
        """As the inner transport, when the lane and the budget let it.

        Raises:
            EngineError: as the inner transport. OutOfPatience: the lane has been shut for too long.
            PatienceEnded: the lane is shut, and the run is to stop.
        """
        lane = self._lanes.of(request.route)
        if lane is None:
            await self._budget.turn()
            response = await self._inner.send(request)
            self._budget.heed(response.status, response.headers)
            return response
        permit = await lane.enter()
        try:
            await self._budget.turn(lane.name)
            lane.sent(permit)
            response = await self._inner.send(request)
            self._budget.heed(response.status, response.headers)
            lane.answered(permit, response.status, _outage(request, response))
            return response
        except EngineError as exc:
            lane.failed(permit, exc)
            raise
        finally:
            lane.leave(permit)

    def stream(self, request: Request) -> AbstractAsyncContextManager[BodyStream]:
        """As the inner transport, when the budget lets it; bodies go by no lane."""
        return self._streaming(request)

    @asynccontextmanager
    async def _streaming(self, request: Request) -> AsyncIterator[BodyStream]:
        await self._budget.turn()
        async with self._inner.stream(request) as body:
            self._budget.heed(body.status, body.headers)
            yield body

    async def aclose(self) -> None:
        """Close the inner transport."""
        await self._inner.aclose()


def _outage(request: Request, response: Response) -> EngineError | None:
    """What an answer stands for that says the platform cannot answer now."""
    if response.status < 500 and response.status != 408:
        return None
    return refusal(request.route, response.status, response.headers, response.body, now_s=0.0)
