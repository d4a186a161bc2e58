"""GraphQL (contract 7.1, 7.8, Q61, Q65): route 19, and the approved documents, route 26 among them.

Operations are approved as whole documents, known by the SHA-256 of their text with each run of white space as one
blank. So there is nothing to plan or to explore: a document is one of these, or it is refused.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Route

GRAPHQL_TYPE = PROFILE.graphql_type
HEALTH_CHECK = "query HealthCheck { viewer { id } }"
ACQI_METRICS = (
    "query AcqiMetrics($fromDate: Date!, $toDate: Date!) { acqiMetrics(fromDate: $fromDate, toDate: $toDate)"
    f" {{ {' '.join(PROFILE.acqi_names.values())} }} }}"
)
INTROSPECTION_DISABLED, OPERATION_NOT_ALLOWED = PROFILE.introspection_code, PROFILE.not_approved_code
BAD_USER_INPUT, BAD_REQUEST, TENANT_NOT_FOUND = "BAD_USER_INPUT", "BAD_REQUEST", PROFILE.other_tenant_code


class Execute(msgspec.Struct, frozen=True, kw_only=True):
    """One approved document with its variables; `tenant_id` goes as X-Tenant-ID, absent it is the token's (Q60)."""

    query: str | UnsetType = UNSET
    variables: dict[str, Any] | None = None
    operation_name: str | None = msgspec.field(default=None, name="operationName")
    tenant_id: str | None = None


class GraphqlError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One error; `extensions.code` says which, `path` where in the data."""

    message: str
    path: list[str | int] | UnsetType = UNSET
    extensions: dict[str, Any] = {}


class Executed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: `data`, `errors`, or both, when a part failed."""

    data: Any = UNSET
    errors: list[GraphqlError] | UnsetType = UNSET


class AcqiMetric(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.acqi_names):
    """One ambulance care quality indicator over a period (Q65): `value` is null where nothing was counted."""

    indicator: str
    code: str
    numerator: int
    denominator: int
    value: float | None
    unit: str
    period_start: str
    period_end: str


def fingerprint(document: str) -> str:
    """The SHA-256 of a document, in hex, however its white space is laid out."""
    return hashlib.sha256(" ".join(document.split()).encode()).hexdigest()


EXECUTE = Route(
    number=19, name="graphql.execute", method="POST", path="/graphql", hosts=(Host.API,), auth=Auth.BEARER,
    scopes=PROFILE.graphql_scopes, ask=Execute, answer=Executed, refusals=(406,),
    status=tuple(dict.fromkeys((200, PROFILE.graphql_unfit_status, PROFILE.other_tenant_status))),
    headers={"tenant_id": "X-Tenant-ID"}, media=(GRAPHQL_TYPE, "application/json"),
)  # fmt: skip

ROUTES = (EXECUTE,)
EXAMPLES = {EXECUTE.name: Execute(query=HEALTH_CHECK, variables={})}
