"""Titles: what the documents call a route, by method and path; and the topics they are told in (contract 2).

Facts of the vendor's published index, kept apart from the routes: a section without a route is not shown, and a
route without a section still is, under a title of its own.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine.contract.route import Route

LAST_UPDATED = "2026-05-08"


class Section(msgspec.Struct, frozen=True):
    """One heading of a topic: methods in the order they are named, a path, and what it is for."""

    methods: tuple[str, ...]
    path: str
    title: str

    @property
    def heading(self) -> str:
        """As it stands in the index."""
        return f"{'/'.join(self.methods)} {self.path} · {self.title}"

    def is_about(self, route: Route[Any, Any]) -> bool:
        """Whether this section tells of the route."""
        return route.path == self.path and route.method in self.methods


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic of the documents. `groups` are the routes' groups that belong here when no section names them."""

    id: str
    title: str
    description: str
    groups: tuple[str, ...]
    sections: tuple[Section, ...] = ()


def _section(line: str) -> Section:
    call, _, title = line.partition(" · ")
    methods, _, path = call.partition(" ")
    return Section(tuple(methods.split("/")), path, title)


def _sections(text: str) -> tuple[Section, ...]:
    return tuple(_section(line.strip()) for line in text.strip().splitlines())


REFERENCE = Topic(
    id="api-reference",
    title="Knogin External Integration API",
    description="What the external integration surface is, where it lives, and how to begin.",
    groups=("reference",),
)
TOPICS: tuple[Topic, ...] = (
    REFERENCE,
    Topic(
        id="identity-app-registration",
        title="Identity and app registration",
        description="Register an app, see which scopes it may have, and govern it.",
        groups=("identity",),
        sections=_sections("""
            GET /v1/platform/scopes · List available scopes
            GET/POST /v1/platform/apps · Create and list platform apps
            GET /v1/platform/apps/{client_id} · Inspect an integration app
            PATCH /v1/platform/apps/{client_id}/governance · Update app governance
        """),
    ),
    Topic(
        id="oauth-service-tokens",
        title="OAuth and service tokens",
        description="Get tokens by authorization code or client credentials, mint them for an app, replace its secret.",
        groups=("oauth",),
        sections=_sections("""
            GET /v1/oauth/authorize · Start OAuth authorization code flow
            POST /v1/oauth/token · Exchange or mint access tokens
            POST /v1/platform/apps/{client_id}/service-token · Mint a service token
            POST /v1/platform/apps/{client_id}/rotate-secret · Rotate an app secret
        """),
    ),
    Topic(
        id="jwks-token-verification",
        title="JWKS and token verification",
        description="Prove tokens with the published public keys.",
        groups=("keys",),
        sections=_sections("""
            GET /.well-known/jwks.json · OpenID-compatible JWKS discovery
            GET /v1/auth/jwks.json · Versioned JWKS endpoint
        """),
    ),
    Topic(
        id="event-delivery-webhooks",
        title="Event delivery and webhooks",
        description="Subscribe to events, test a subscription, and see how its deliveries went.",
        groups=("webhooks",),
        sections=_sections("""
            GET/POST /v1/webhooks · Create and list webhooks
            GET/PUT/DELETE /v1/webhooks/{webhook_id} · Inspect, update, or delete a webhook
            GET /v1/webhooks/{webhook_id}/deliveries · Review delivery attempts
            POST /v1/webhooks/{webhook_id}/test · Send a test webhook
        """),
    ),
    Topic(
        id="graphql-transport-contract",
        title="GraphQL transport contract",
        description="The GraphQL transport with its tenant header, patient care records, and medical devices.",
        groups=("graphql", "epcr", "devices"),
        sections=_sections("""
            POST /graphql · Use the shared GraphQL transport
            GET /api/v1/epcr/encounters/{encounterId} · Fetch an ePCR encounter
            GET /api/v1/epcr/encounters/{encounterId}/fhir-bundle · Export encounter as FHIR R4 Bundle
            POST /api/v1/epcr/encounters · Create an ePCR encounter
            GET /api/v1/devices · List medical devices
            POST /api/v1/devices/enrol · Enrol a medical device
            POST /api/v1/devices/{deviceId}/observations · Submit a PHD observation
        """),
    ),
    Topic(
        id="observability-and-tracing",
        title="Observability and tracing",
        description="W3C Trace Context on every route, trace headers on every answer, and a look-up of traces.",
        groups=("tracing",),
        sections=_sections("GET /v1/observability/traces/{trace_id} · Look up a recorded trace"),
    ),
    Topic(
        id="async-jobs",
        title="Async jobs",
        description="Enqueue long work, ask how it goes, fetch its result, cancel it, and be called when it is done.",
        groups=("jobs",),
        sections=_sections("""
            POST /v1/jobs · Enqueue an async job
            GET /v1/jobs/{id} · Get job status
            GET /v1/jobs/{id}/result · Get job result
            DELETE /v1/jobs/{id} · Cancel a job
            GET /v1/jobs · List jobs
        """),
    ),
    Topic(
        id="sandbox-environment",
        title="Sandbox environment",
        description="Tokens for the sandbox, and the situations it can play; neither world takes the other's tokens.",
        groups=("sandbox",),
        sections=_sections("""
            POST /v1/platform/apps/{client_id}/sandbox-token · Issue a sandbox token
            GET /v1/sandbox/scenarios · List sandbox scenarios
        """),
    ),
    Topic(
        id="provenance-and-compliance",
        title="Provenance and compliance",
        description="Signed, chained transcripts of what was done to a piece of evidence, and how to verify them.",
        groups=("provenance",),
        sections=_sections("""
            GET /v1/evidence/{evidence_id}/provenance · Get evidence provenance transcript
            POST /v1/evidence/{evidence_id}/provenance/verify · Verify a provenance transcript
            GET /.well-known/provenance-keys/{algorithm} · Fetch a provenance verify key
        """),
    ),
    Topic(
        id="discovery-and-governance",
        title="Discovery and governance",
        description="The OpenAPI descriptor, the API catalogue, the schemas a caller can reach, and deprecations.",
        groups=("discovery",),
        sections=_sections("""
            GET /.well-known/openapi.json · Fetch the OpenAPI well-known descriptor (JSON)
            GET /.well-known/openapi.yaml · Fetch the OpenAPI well-known descriptor (YAML)
            GET /.well-known/api-catalog · Fetch the API catalog link-set
            GET /v1/discovery/data-schemas · List visible data schemas for the caller
        """),
    ),
)


def title_of(route: Route[Any, Any]) -> str:
    """What the documents call a route; one they do not name is called by its own name."""
    for topic in TOPICS:
        for section in topic.sections:
            if section.is_about(route):
                return section.title
    verb = route.name.partition(".")[2].replace("_", " ")
    return f"{route.group.capitalize()}: {verb}"


def topic_of(route: Route[Any, Any]) -> Topic:
    """The topic that tells of a route: the one that names it, else the one of its group, else the reference."""
    for topic in TOPICS:
        if any(section.is_about(route) for section in topic.sections):
            return topic
    return next((topic for topic in TOPICS if route.group in topic.groups), REFERENCE)
