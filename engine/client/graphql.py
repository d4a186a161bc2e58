"""GraphQL, as asked (contract 7.1, 7.8): route 19, and the approved operation that is route 26."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import UNSET

from engine.client.call import Answered, Caller
from engine.codec.payload import from_plain
from engine.contract import graphql
from engine.contract.exchange import Trace
from engine.contract.graphql import AcqiMetric, Execute, Executed
from engine.errors import BrokenAnswer, Rejected


class Graphql:
    """Approved operations over POST /graphql."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def execute(
        self,
        query: str,
        variables: Mapping[str, Any] | None = None,
        *,
        tenant_id: str | None = None,
        allow_partial: bool = False,
        trace: Trace | None = None,
    ) -> Answered[Executed]:
        """Run one approved document. Data that comes with errors is an error too, unless `allow_partial`.

        Raises:
            Rejected: the platform answered with errors; the first one's message and code are told.
            BrokenAnswer: neither data nor errors came.
        """
        ask = Execute(query=query, variables=dict(variables or {}), tenant_id=tenant_id)
        answered = await self._caller.call(graphql.EXECUTE, ask, trace=trace)
        errors, has_data = answered.answer.errors, answered.answer.data is not UNSET
        if errors is not UNSET and not (allow_partial and has_data and answered.answer.data is not None):
            first = errors[0] if errors else None
            said = first.message if first else "an empty list of errors"
            code = str(first.extensions.get("code", "")) if first else ""
            raise Rejected(f"graphql.execute: {said}", status=answered.status, code=code)
        if errors is UNSET and not has_data:
            raise BrokenAnswer("graphql.execute: the answer has neither data nor errors")
        return answered

    async def acqi_metrics(
        self, from_date: str, to_date: str, *, tenant_id: str | None = None, trace: Trace | None = None
    ) -> Answered[list[AcqiMetric]]:
        """Care quality indicators from one day to another, both included, as YYYY-MM-DD (route 26).

        Raises:
            Rejected: the dates are none, or in the wrong order.
        """
        dates = {"fromDate": from_date, "toDate": to_date}
        answered = await self.execute(graphql.ACQI_METRICS, dates, tenant_id=tenant_id, trace=trace)
        metrics = from_plain(answered.answer.data["acqiMetrics"], list[AcqiMetric])
        return Answered(metrics, answered.status, answered.headers, answered.trace_id)
