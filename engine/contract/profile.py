"""The contract profile: every open question of the vendor's documents, answered in one place.

The contract leaves points open (`[?]`, table B). Our default for each is one member here, named after
what it decides and marked with its question. Learning a fact changes one member; nothing else in the
package may hard-code one of these values. What no value can decide is in `NOT_ROWS`, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from engine.contract import kinds
from engine.contract.deprecation import Deprecated
from engine.contract.kinds import Kind

LIVE_AUTH = "https://auth.knogin.com"
LIVE_API = "https://api.knogin.com"
SANDBOX_API = "https://sandbox-api.knogin.com"
DOCS = "https://knogin.com"

Names = Mapping[str, str]


def named(*same: str, **other: str) -> Names:
    """How members are called on the wire, by the name they have with us: those of `same` alike, others as said."""
    return MappingProxyType({name: name for name in same} | other)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Our answers. Durations in seconds, sizes in bytes; `named` rows give members their names on the wire."""

    # 1.2: documented
    version: str = "2026.4.0"

    # Q1: error bodies, and the statuses of what cannot be parsed and of what is parsed and wrong
    problem_type: str = "application/problem+json"
    problem_names: Names = named("detail", "code", "trace_id", "errors")
    malformed_status: int = 400
    invalid_status: int = 422
    # Q2: what the challenge of a 401 and of a 403 says (RFC 6750 section 3)
    token_error: str = "invalid_token"
    scope_error: str = "insufficient_scope"
    challenge_scope: str = "scope"
    # Q4: paths that are not there, and methods that a path does not take
    no_path_status: int = 404
    no_method_status: int = 405
    # Q5: how large a body may be
    body_max: int = 1024 * 1024
    # Q3: rate limits; None is off
    rate_limit_per_minute: int | None = None
    # Q10, tokens
    issuer: str = LIVE_AUTH
    audience: str = LIVE_API
    sandbox_audience: str = "sandbox"
    token_type: str = "at+jwt"
    leeway_s: int = 60
    # Q11: scopes the documents do not name
    admin_scopes: tuple[str, ...] = ("argus:platform:admin",)
    jobs_read_scopes: tuple[str, ...] = ("argus:jobs:read",)
    jobs_write_scopes: tuple[str, ...] = ("argus:jobs:write",)
    discovery_scopes: tuple[str, ...] = ("argus:discovery:read",)
    traces_read_scopes: tuple[str, ...] = ("argus:observability:read",)
    provenance_read_scopes: tuple[str, ...] = ("argus:provenance:read",)
    devices_read_scopes: tuple[str, ...] = ("argus:devices:read", "argus:devices:write")
    devices_write_scopes: tuple[str, ...] = ("argus:devices:write",)
    graphql_scopes: tuple[str, ...] = ("argus:graphql:execute",)
    # Whoever may run the approved documents is an approved partner (contract 2.1).
    partner_scopes: tuple[str, ...] = ("argus:graphql:execute",)
    epcr_read_scopes: tuple[str, ...] = ("argus:epcr:read",)
    epcr_write_scopes: tuple[str, ...] = ("argus:epcr:write",)
    webhooks_read_scopes: tuple[str, ...] = ("webhooks:read", "webhooks:write")
    webhooks_write_scopes: tuple[str, ...] = ("webhooks:write",)
    # Q12, Q23: lifetimes
    token_ttl_s: int = 3600
    token_ttl_min_s: int = 60
    token_ttl_max_s: int = 86_400
    code_ttl_s: int = 60
    # Q13: the grants on offer, and the life of a refresh token that is used or lost
    grant_types: tuple[str, ...] = ("client_credentials", "authorization_code", "refresh_token")
    refresh_ttl_s: int = 30 * 86_400
    # Q14: key set: its type, how long it is fresh, and how long a key is published after it signed last
    jwks_type: str = "application/json"
    jwks_max_age_s: int = 300
    jwks_overlap_s: int = 86_400
    # Q15: where the authorization server describes itself; None is nowhere
    oauth_metadata_path: str | None = "/.well-known/oauth-authorization-server"
    # Q20: what an app is, and what making one answers
    app_names: Names = named("scopes", "redirect_uris", "client_type", "client_secret")
    app_created_status: int = 201
    app_name_max: int = 200
    # Q21, lists: how a page is asked for and told, and how long it is
    page_names: Names = named("cursor", "limit", "next_cursor", "total_count")
    page_limit: int = 50
    page_limit_max: int = 200
    # Q22: the settings of an app's governance, which are a merge patch
    governance_names: Names = named(
        "status", "allowed_scopes", "allowed_grant_types", "redirect_uris", "rate_limit_per_minute", "data_residency",
        "notes",
    )  # fmt: skip
    # Q23: service tokens
    service_token_names: Names = named("token", "scopes", "ttl_seconds", "expires_at", "expires_in", "audience")
    # Q24: rotate-secret, and the overlap after it
    rotation_names: Names = named("grace_seconds", "rotated_at", "previous_secret_expires_at")
    secret_grace_s: int = 0
    secret_grace_max_s: int = 86_400
    # Q25: secrecy levels, in rising order
    secrecy_levels: tuple[str, ...] = ("standard", "restricted", "confidential", "secret")
    # 9.2: documented
    idempotency_window_s: int = 86_400
    # Q40
    idempotency_key_max: int = 255
    # Q41: a result that is not ready, with the wait that is asked for; of a job that failed; past its retention
    result_not_ready_status: int = 409
    result_not_ready_code: str = "job_not_ready"
    result_retry_after_s: int = 1
    result_failed_status: int = 409
    result_expired_status: int = 410
    # Q42: a job's error, and of which ends a callback tells
    job_error_names: Names = named("code", "message", "retryable")
    callback_statuses: tuple[str, ...] = ("succeeded", "failed", "cancelled")
    # Q43, 9.1
    reaper_attempts: int = 3
    heartbeat_s: float = 30.0
    heartbeat_lost_s: float = 120.0
    # Q44
    profile_ids_max: int = 10_000
    # Q45
    signed_url_ttl_s: float = 900.0
    # Q46: cancelling a job that is queued, that runs, that was cancelled before, that has ended
    cancel_queued_status: int = 200
    cancel_running_status: int = 202
    cancel_again_status: int = 200
    cancel_ended_status: int = 409
    # Q48: what stands between the statuses a list is asked for, None where it takes one; and whether it refuses others
    status_separator: str | None = None
    refuses_unknown_status: bool = True
    # 6.1, 6.3: what is told of a webhook beside the documented, and when one is made or forgotten
    webhook_names: Names = named("status", "created_at", "updated_at")
    webhook_created_status: int = 201
    webhook_deleted_status: int = 204
    # Q30: whether a webhook must bring its secret
    webhook_secret_required: bool = False
    # Q31: whether a change of a webhook may leave members out
    webhook_put_is_partial: bool = True
    # Q34: the families of Standard Webhooks headers that are taken; the first is the one that is sent
    webhook_families: tuple[str, ...] = ("webhook", "svix")
    # Q35: the envelope of an event
    event_names: Names = named("id", "type", "timestamp", "data")
    # Q38: whose secret signs callbacks, and how its text becomes a key: its UTF-8, or as Standard Webhooks read it
    callback_secret_of: Literal["app", "tenant"] = "app"
    callback_key: Literal["text", "standard"] = "text"
    # Q39: which bytes are signed: those on the wire, which are canonical then, or the canonical form of any
    callback_signs: Literal["body", "canonical"] = "body"
    # Q36: callback delivery, delays between attempts
    callback_delays_s: tuple[float, ...] = (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    callback_timeout_s: float = 15.0
    callback_gone_status: int = 410
    # 6.6: failures in a row that open a webhook's circuit, and for how long
    webhook_circuit_failures: int = 5
    webhook_circuit_s: float = 60.0
    # Q32: delivery attempts: their members, how long and how many are kept
    delivery_names: Names = named("attempt", "status", "response_status", "duration_ms", "error", "attempted_at")
    delivery_retention_s: int = 30 * 86_400
    deliveries_max: int = 1000
    # Q33, Q37: events
    test_status: int = 202
    test_event: str = "webhook.test"
    job_event_prefix: str = "job."
    incident_event: str = "incident.updated"
    incident_type: str = "incident"
    # Q47
    job_retention_s: int = 30 * 86_400
    result_retention_s: int = 7 * 86_400
    # Q50
    live_on_sandbox: str = "live-token-on-sandbox-host"
    sandbox_on_live: str = "sandbox-token-on-live-host"
    # Q51: whether a token for a scenario that nobody knows is refused, or minted without it
    refuses_unknown_scenario: bool = True
    # Q54: canned entities of a scenario, and how names begin that no scenario knows
    canned_entities: int = 25
    canned_unknown: str = "missing"
    # Q56: whether the sandbox calls back
    sandbox_callbacks: bool = True
    # Q52
    scenarios_claim: str = "scenarios"
    # Q53
    sandbox_scopes: tuple[str, ...] = (
        "argus:profiles:read", "argus:profiles:write", "argus:jobs:read", "argus:jobs:write",
    )  # fmt: skip
    # Q55
    sandbox_now: str = "2026-05-08T12:00:00Z"
    # Q60: another tenant than the token's, in the header of GraphQL
    other_tenant_status: int = 404
    other_tenant_code: str = "TENANT_NOT_FOUND"
    # Q61: GraphQL over HTTP
    graphql_type: str = "application/graphql-response+json"
    graphql_unfit_status: int = 400
    introspection_code: str = "INTROSPECTION_DISABLED"
    not_approved_code: str = "OPERATION_NOT_ALLOWED"
    # Q62: what is told of an encounter
    encounter_names: Names = named(
        "incident_id", "status", "started_at", "ended_at", "chief_complaint", "triage", "patient", "vitals",
        "interventions", "medications", "disposition",
    )  # fmt: skip
    # Q65: care quality indicators, whose names are in their GraphQL document too
    acqi_names: Names = named(
        "indicator", "code", "numerator", "denominator", "value", "unit", period_start="periodStart",
        period_end="periodEnd",
    )  # fmt: skip
    # Q66: what a trace says of itself while spans are in flight, and then
    ingestion_pending: str = "pending"
    ingestion_stored: str = "stored"
    # Q67: is X-Argus-Sandbox sent as false on live
    sandbox_header_on_live: bool = False
    # Q37, Q56: jobs of the sandbox are events too, which say so in their data and by X-Argus-Sandbox
    sandbox_events: bool = True
    # 12.1: routes that the API's descriptor leaves out, by how their paths begin
    openapi_hidden: tuple[str, ...] = ("/v1/platform/",)
    # Q90
    yaml_type: str = "application/yaml"
    # 12.1: how long public documents may be kept
    documents_max_age_s: int = 3600
    # Q91: a data schema as it is listed
    schema_names: Names = named("id", "version", "title", "kind", "required_scopes", "schema")
    # Q93: the hosts with an entry of their own in the API catalogue, in its order
    catalog_hosts: tuple[Literal["api", "auth", "sandbox"], ...] = ("api", "auth", "sandbox")
    # Q92: the deprecation matrix, and the answer after a sunset
    deprecations: tuple[Deprecated, ...] = ()
    after_sunset: int = 410
    # Q94: who may read public documents from a browser; None is nobody else
    cors_origin: str | None = "*"
    # Q63
    fhir_type: str = "application/fhir+json"
    bundle_type: str = "collection"
    # Q64: devices and what they measure
    device_names: Names = named(
        "manufacturer", "model", "serial_number", "type_code", "status", "enrolled_at", "last_seen_at", "udi",
        "encounter_id",
    )  # fmt: skip
    observation_names: Names = named("code", "code_system", "value", "unit", "effective_at", "encounter_id")
    # Q64: the system of a code that names none, and how long after its last word a device counts as offline
    device_code_system: str = "urn:iso:std:iso:11073:10101"
    device_offline_after_s: int = 3600
    # Q70, Q71, Q72, Q73: payloads and results of the four kinds
    enrich_bulk: Kind = kinds.ENRICH_BULK
    export_bulk: Kind = kinds.EXPORT_BULK
    import_bulk: Kind = kinds.IMPORT_BULK
    graph_compute: Kind = kinds.GRAPH_COMPUTE
    result_summary: str = "summary"
    export_file_names: Names = named("name", "format", "rows", "bytes", "sha256", "url")
    # Q80: the verdict on a transcript
    verdict_names: Names = named("valid", "failures", "root_signature_valid", "record_count", "verified_at")
    # Q82: the type of a public key, and how long its document is fresh
    provenance_key_type: str = "AKP"
    provenance_keys_max_age_s: int = 3600
    # Q83
    provenance_salt: str = "argus-provenance-v1"
    provenance_version: str = "2026.4"
    # Q84: what is done to evidence, which entities are it, and who acts where a job does
    deed_names: Names = named(
        create="evidence.create", update="evidence.update", view="evidence.view", export="evidence.export"
    )
    evidence_types: tuple[str, ...] = ("evidence",)
    job_actor_kind: str = "service"
    # Q85: the highest secrecy level of evidence that callers are cleared for, and what is said above it
    too_secret_status: int = 404
    clearance: str = "confidential"

    @property
    def kinds(self) -> dict[str, Kind]:
        """The job kinds by their names."""
        every = (self.import_bulk, self.enrich_bulk, self.export_bulk, self.graph_compute)
        return {kind.name: kind for kind in every}


PROFILE = Profile()

# Open questions that no value decides, and why: learning the truth means writing code, in one place as well.
NOT_ROWS: Final[Names] = MappingProxyType(
    {
        "3.1": "the catalogue of scopes is not paged: a question without a cursor, as Q87",
        "9.1": "progress that never falls is how work counts its rows; the client believes whatever comes",
        "9.2": "a refused create leaves no key because nothing was stored; Location is sent, and read by nobody",
        "Q16": "not offered is no row of `ROUTES`; to offer it is to write its route",
        "Q81": "which bytes are signed is a construction, which is code: `trust.signers` and `trust.transcript`",
        "Q86": "how a partner gets the key happens outside of the API; here it is a setting, and may be absent",
        "Q87": "not paged is a question without a cursor; to page is to write members and the loop that follows them",
    }
)
