"""GraphQL: approved documents over HTTP, and the care quality indicators (contract 7.1, 7.8, routes 19 and 26).

Statuses follow GraphQL over HTTP: with `application/graphql-response+json` a request that cannot be run is 400, with
`application/json` it is 200; an error while running is 200 in both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from msgspec import UNSET

from engine.codec.payload import to_wire
from engine.contract import epcr as records
from engine.contract import graphql as contract
from engine.contract.dates import rfc3339_s
from engine.contract.epcr import Encounter
from engine.contract.graphql import AcqiMetric, Executed, GraphqlError
from engine.emulator import epcr
from engine.emulator.call import Call, Handler, Reply
from engine.emulator.refusal import Refusal
from engine.emulator.state import State

_JSON = "application/json"
_INTROSPECTION = re.compile(r"\b__(?:schema|type)\b")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_SOON_S = 600.0


class _Unfit(Exception):
    """The operation cannot be run (`is_request`), or failed while it ran."""

    def __init__(self, code: str, message: str, *, is_request: bool = True) -> None:
        super().__init__(message)
        self.code, self.is_request = code, is_request


def handlers(state: State) -> dict[str, Handler]:
    """Route 19, which runs route 26 too."""
    routes = _Routes(state)
    return {contract.EXECUTE.name: routes.execute}


class _Routes:
    def __init__(self, state: State) -> None:
        self._state = state
        self._approved: dict[str, tuple[str, str, Callable[[Call], Any]]] = {
            contract.fingerprint(contract.HEALTH_CHECK): ("HealthCheck", "viewer", self._viewer),
            contract.fingerprint(contract.ACQI_METRICS): ("AcqiMetrics", "acqiMetrics", self._metrics),
        }

    def execute(self, call: Call) -> Reply:
        """Run an approved document."""
        media = _media(call.headers.get("accept", ""))
        tenant_id = call.ask.tenant_id
        if tenant_id is not None and tenant_id != call.known.tenant_id:
            # Another tenant is as unknown as one that never was (contract 1.5, Q60).
            return _failed(
                _Unfit(contract.TENANT_NOT_FOUND, "No such tenant."), self._state.profile.other_tenant_status, media
            )
        field = ""
        try:
            name, field, run = self._find(call.ask)
            if call.ask.operation_name not in (None, name):
                raise _Unfit(contract.BAD_REQUEST, "The document has no operation of this name.")
            return Reply(body=Executed(data={field: run(call)}), content_type=media)
        except _Unfit as unfit:
            is_unfit = unfit.is_request and media == contract.GRAPHQL_TYPE
            status = self._state.profile.graphql_unfit_status if is_unfit else 200
            return _failed(unfit, status, media, [] if unfit.is_request else [field])

    def _find(self, ask: contract.Execute) -> tuple[str, str, Callable[[Call], Any]]:
        if ask.query is UNSET or not ask.query.strip():
            raise _Unfit(contract.BAD_REQUEST, "The request has no query.")
        found = self._approved.get(contract.fingerprint(ask.query))
        if found is None and _INTROSPECTION.search(ask.query):
            raise _Unfit(contract.INTROSPECTION_DISABLED, "Introspection is not part of this API.")
        if found is None:
            raise _Unfit(contract.OPERATION_NOT_ALLOWED, "This document is not approved.")
        return found

    def _viewer(self, call: Call) -> Any:
        return {"id": call.known.client_id}

    def _metrics(self, call: Call) -> Any:
        variables = call.ask.variables or {}
        first, last = _day(variables, "fromDate"), _day(variables, "toDate")
        if first > last:
            raise _Unfit(contract.BAD_USER_INPUT, "fromDate is after toDate.", is_request=False)
        since = datetime.combine(first, time(), UTC)
        until = datetime.combine(last, time(), UTC).timestamp() + timedelta(days=1).total_seconds()
        found = epcr.between(self._state, call.known.tenant_id, since.timestamp(), until)
        return to_wire(indicators(found, first.isoformat(), last.isoformat()))


def indicators(encounters: Sequence[Encounter], first: str, last: str) -> list[AcqiMetric]:
    """The care quality indicators of these encounters (Q65)."""
    finished = [one for one in encounters if one.status == records.FINISHED]
    measured = [one for one in encounters if one.vitals]
    counts = (
        ("vitals_recorded", "ACQI-1", len(measured), len(encounters)),
        ("vitals_within_10_minutes", "ACQI-2", sum(map(_is_soon, measured)), len(measured)),
        ("triage_recorded", "ACQI-3", sum(one.triage is not None for one in encounters), len(encounters)),
        ("disposition_recorded", "ACQI-4", sum(one.disposition is not None for one in finished), len(finished)),
    )
    return [
        AcqiMetric(
            indicator=indicator, code=code, numerator=part, denominator=whole, unit="%", period_start=first,
            period_end=last, value=round(100 * part / whole, 2) if whole else None,
        )
        for indicator, code, part, whole in counts
    ]  # fmt: skip


def _is_soon(encounter: Encounter) -> bool:
    begun = rfc3339_s(encounter.started_at) or 0.0
    return min(rfc3339_s(vital.taken_at) or 0.0 for vital in encounter.vitals) - begun <= _SOON_S


def _day(variables: dict[str, Any], name: str) -> date:
    text = variables.get(name)
    try:
        if isinstance(text, str) and _DAY.fullmatch(text) and text < "9999":
            return date.fromisoformat(text)
    except ValueError:
        pass
    raise _Unfit(contract.BAD_USER_INPUT, f"${name} must be a Date, YYYY-MM-DD.")


def _media(accept: str) -> str:
    """The media type to answer in; whoever names none gets plain JSON, as clients of old expect."""
    named = [part.partition(";")[0].strip().lower() for part in accept.split(",") if part.strip()]
    if contract.GRAPHQL_TYPE in named:
        return contract.GRAPHQL_TYPE
    if not named or {_JSON, "application/*", "*/*"} & set(named):
        return _JSON
    raise Refusal(406, "not_acceptable", f"Answers come as {contract.GRAPHQL_TYPE} or {_JSON}.")


def _failed(unfit: _Unfit, status: int, media: str, path: list[str | int] | None = None) -> Reply:
    error = GraphqlError(message=str(unfit), extensions={"code": unfit.code}, path=path or UNSET)
    answer = Executed(data=None, errors=[error]) if path else Executed(errors=[error])
    return Reply(status=status, body=answer, content_type=media)
