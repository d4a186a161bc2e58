"""The contract profile: every open question of the vendor's documents, answered in one place.

The contract leaves points open (`[?]`, table B). Our default for each is one member here, named after
what it decides and marked with its question. Learning a fact changes one member; nothing else in the
package may hard-code one of these values.
"""

from __future__ import annotations

import msgspec

from engine.contract.deprecation import Deprecated

LIVE_AUTH = "https://auth.knogin.com"
LIVE_API = "https://api.knogin.com"
SANDBOX_API = "https://sandbox-api.knogin.com"
DOCS = "https://knogin.com"


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """Our answers. Durations in seconds, sizes in bytes."""

    version: str = "2026.4.0"

    # Q1, Q5: error bodies and sizes
    problem_type: str = "application/problem+json"
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
    # Q14: key set
    jwks_max_age_s: int = 300
    # Q21, lists
    page_limit: int = 50
    page_limit_max: int = 200
    # Q24: overlap after rotate-secret
    secret_grace_s: int = 0
    secret_grace_max_s: int = 86_400
    # Q25: secrecy levels, in rising order
    secrecy_levels: tuple[str, ...] = ("standard", "restricted", "confidential", "secret")
    # 9.2: documented
    idempotency_window_s: int = 86_400
    # Q40
    idempotency_key_max: int = 255
    # Q41: wait asked for when a result is not ready
    result_retry_after_s: int = 1
    # Q43, 9.1
    reaper_attempts: int = 3
    heartbeat_s: float = 30.0
    heartbeat_lost_s: float = 120.0
    # Q44
    profile_ids_max: int = 10_000
    # Q45
    signed_url_ttl_s: float = 900.0
    # Q36: callback delivery, delays between attempts
    callback_delays_s: tuple[float, ...] = (0, 5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    callback_timeout_s: float = 15.0
    # 6.6: failures in a row that open a webhook's circuit, and for how long
    webhook_circuit_failures: int = 5
    webhook_circuit_s: float = 60.0
    # Q32: how long, and how many, delivery attempts are kept
    delivery_retention_s: int = 30 * 86_400
    deliveries_max: int = 1000
    # Q33, Q37: events
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
    # Q52
    scenarios_claim: str = "scenarios"
    # Q53
    sandbox_scopes: tuple[str, ...] = (
        "argus:profiles:read", "argus:profiles:write", "argus:jobs:read", "argus:jobs:write",
    )  # fmt: skip
    # Q55
    sandbox_now: str = "2026-05-08T12:00:00Z"
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
    # Q92: the deprecation matrix, and the answer after a sunset
    deprecations: tuple[Deprecated, ...] = ()
    after_sunset: int = 410
    # Q94: who may read public documents from a browser; None is nobody else
    cors_origin: str | None = "*"
    # Q63
    fhir_type: str = "application/fhir+json"
    # Q64: the system of a code that names none, and how long after its last word a device counts as offline
    device_code_system: str = "urn:iso:std:iso:11073:10101"
    device_offline_after_s: int = 3600
    # Q82
    provenance_keys_max_age_s: int = 3600
    # Q83
    provenance_salt: str = "argus-provenance-v1"
    provenance_version: str = "2026.4"
    # Q84: which entities are evidence, and who acts where a job does
    evidence_types: tuple[str, ...] = ("evidence",)
    job_actor_kind: str = "service"
    # Q85: the highest secrecy level of evidence that callers of the external API are cleared for; above it, 404
    clearance: str = "confidential"


PROFILE = Profile()
