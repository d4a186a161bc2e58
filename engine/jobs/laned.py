"""Laned: a transport that lets each try of a request wait for its lane, and then for the account's budget.

It sees every try, those too that are tried again, so a lane knows of each push-back. What a lane makes of it is
`lanes`' matter; whether a request is tried again is `retrying`'s, one layer out.
"""

from __future__ import annotations

from engine.contract.exchange import Request, Response
from engine.contract.problem import refusal
from engine.errors import EngineError
from engine.jobs.lanes import Lanes
from engine.ports import Transport
from engine.transport.limiting import Budget, LimitingTransport


class LanedTransport(LimitingTransport):
    """Wraps `inner`. A place in the lane is held from before the budget's turn until the answer is read.

    What has no lane, bodies among it, waits for the budget alone.
    """

    def __init__(self, inner: Transport, lanes: Lanes, budget: Budget) -> None:
        super().__init__(inner, budget)
        self._lanes = lanes

    async def send(self, request: Request) -> Response:
        """As the inner transport, when the lane and the budget let it.

        Raises:
            EngineError: as the inner transport. OutOfPatience: the lane has been shut for too long.
            PatienceEnded: the lane is shut, and the run is to stop.
        """
        lane = self._lanes.of(request.route)
        if lane is None:
            return await super().send(request)
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


def _outage(request: Request, response: Response) -> EngineError | None:
    """What an answer stands for that says the platform cannot answer now."""
    if response.status < 500 and response.status != 408:
        return None
    return refusal(request.route, response.status, response.headers, response.body, now_s=0.0)
