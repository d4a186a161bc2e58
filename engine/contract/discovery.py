"""Discovery (contract 12): routes 38-41, the API as documents that machines read."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Route, Text


class AskDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document, unless it is still the one of `if_none_match` (an ETag): then the answer is 304 and empty."""

    if_none_match: str | UnsetType = UNSET


class OpenApi(msgspec.Struct, frozen=True, kw_only=True):
    """An OpenAPI 3.1 document; its inside is OpenAPI's own affair."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    servers: list[dict[str, Any]] = []
    tags: list[dict[str, Any]] = []
    components: dict[str, Any] = {}


class LinkTarget(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A target of a link set (RFC 9264 section 4.2.3). `rel` is an extension: an array there, read as text too."""

    href: str
    type: str | None = None
    rel: list[str] | str | None = None


class LinkContext(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="kebab"):
    """What one host of the API says about itself (RFC 9727): descriptors, documentation, and more about it."""

    anchor: str
    service_desc: list[LinkTarget] = []
    service_doc: list[LinkTarget] = []
    service_meta: list[LinkTarget] = []


class ApiCatalog(msgspec.Struct, frozen=True):
    """The API catalogue: a link set, the API's own host first."""

    linkset: list[LinkContext]


class DataSchema(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.schema_names):
    """One JSON Schema (2020-12), and which scopes reach what it describes; any one of them is enough (Q91).

    `kind` is `job_payload`, `entity`, `event` or `resource`.
    """

    id: str
    version: str
    title: str
    kind: str
    required_scopes: list[str]
    schema: dict[str, Any]


class DataSchemaList(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.page_names):
    """The schemas that this caller can reach, by id."""

    schemas: list[DataSchema]
    total_count: int | None = None


_CONDITION = {"if_none_match": "If-None-Match"}
OPENAPI = Route(
    number=38, name="discovery.openapi", method="GET", path="/.well-known/openapi.json", hosts=(Host.API,),
    auth=Auth.PUBLIC, ask=AskDocument, answer=OpenApi, status=(200, 304), headers=_CONDITION,
)  # fmt: skip
OPENAPI_YAML = Route(
    number=39, name="discovery.openapi_yaml", method="GET", path="/.well-known/openapi.yaml", hosts=(Host.API,),
    auth=Auth.PUBLIC, ask=AskDocument, answer=Text, status=(200, 304), headers=_CONDITION,
    media=(PROFILE.yaml_type,),
)  # fmt: skip
CATALOG = Route(
    number=40, name="discovery.catalog", method="GET", path="/.well-known/api-catalog", hosts=(Host.API,),
    auth=Auth.PUBLIC, ask=AskDocument, answer=ApiCatalog, status=(200, 304), headers=_CONDITION,
    media=("application/linkset+json",),
)  # fmt: skip
SCHEMAS = Route(
    number=41, name="discovery.schemas", method="GET", path="/v1/discovery/data-schemas", hosts=(Host.API,),
    auth=Auth.BEARER, scopes=PROFILE.discovery_scopes, ask=AskDocument, answer=DataSchemaList, status=(200, 304),
    headers=_CONDITION,
)  # fmt: skip

ROUTES = (OPENAPI, OPENAPI_YAML, CATALOG, SCHEMAS)
EXAMPLES = {route.name: AskDocument() for route in ROUTES}
