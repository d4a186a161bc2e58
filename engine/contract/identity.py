"""Identity and app registration (contract 3): routes 1-5."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Nothing, Route


class Scope(msgspec.Struct, frozen=True):
    """A scope an app may ask for."""

    name: str
    description: str = ""


class ScopeList(msgspec.Struct, frozen=True):
    """The catalogue of this tenant."""

    scopes: list[Scope]


class CreateApp(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.app_names):
    """A new app; `redirect_uris` is required with the grant `authorization_code` (Q20)."""

    name: str
    grant_types: list[str]
    scopes: list[str] | UnsetType = UNSET
    redirect_uris: list[str] | UnsetType = UNSET
    client_type: str | UnsetType = UNSET


class App(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=PROFILE.app_names):
    """An app. `client_secret` is there once: in the answer that made it."""

    client_id: str
    name: str
    grant_types: list[str]
    scopes: list[str]
    redirect_uris: list[str] = []
    client_type: str | None = None
    status: str = "active"
    tenant_id: str | None = None
    organization_id: str | None = None
    client_secret: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    governance: dict[str, Any] | None = None


class ListApps(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.page_names):
    """A page of the tenant's apps."""

    cursor: str | None = None
    limit: int | None = None


class AppList(msgspec.Struct, frozen=True, rename=PROFILE.page_names):
    """A page of apps (Q21)."""

    apps: list[App]
    next_cursor: str | None = None
    total_count: int | None = None


class GetApp(msgspec.Struct, frozen=True):
    """One app by its id."""

    client_id: str


class GovernApp(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.governance_names):
    """A JSON merge patch over an app's governance settings (RFC 7396, Q22)."""

    client_id: str
    status: str | UnsetType = UNSET
    allowed_scopes: list[str] | UnsetType | None = UNSET
    allowed_grant_types: list[str] | UnsetType | None = UNSET
    redirect_uris: list[str] | UnsetType | None = UNSET
    rate_limit_per_minute: int | UnsetType | None = UNSET
    data_residency: str | UnsetType | None = UNSET
    notes: str | UnsetType | None = UNSET


LIST_SCOPES = Route(
    number=1, name="identity.scopes", method="GET", path="/v1/platform/scopes", hosts=(Host.AUTH,),
    auth=Auth.BEARER, scopes=PROFILE.admin_scopes, ask=Nothing, answer=ScopeList,
)  # fmt: skip
CREATE_APP = Route(
    number=2, name="identity.create_app", method="POST", path="/v1/platform/apps", hosts=(Host.AUTH,),
    auth=Auth.BEARER, scopes=PROFILE.admin_scopes, ask=CreateApp, answer=App,
    status=tuple(dict.fromkeys((PROFILE.app_created_status, 201, 200))),
)  # fmt: skip
LIST_APPS = Route(
    number=3, name="identity.list_apps", method="GET", path="/v1/platform/apps", hosts=(Host.AUTH,),
    auth=Auth.BEARER, scopes=PROFILE.admin_scopes, ask=ListApps, answer=AppList,
)  # fmt: skip
GET_APP = Route(
    number=4, name="identity.get_app", method="GET", path="/v1/platform/apps/{client_id}", hosts=(Host.AUTH,),
    auth=Auth.BEARER, scopes=PROFILE.admin_scopes, ask=GetApp, answer=App,
)  # fmt: skip
GOVERN_APP = Route(
    number=5, name="identity.govern_app", method="PATCH", path="/v1/platform/apps/{client_id}/governance",
    hosts=(Host.AUTH,), auth=Auth.BEARER, scopes=PROFILE.admin_scopes, ask=GovernApp, answer=App,
)  # fmt: skip

ROUTES = (LIST_SCOPES, CREATE_APP, LIST_APPS, GET_APP, GOVERN_APP)
EXAMPLES = {
    LIST_SCOPES.name: Nothing(),
    CREATE_APP.name: CreateApp(
        name="Case sync connector", grant_types=["client_credentials"], scopes=["webhooks:write"]
    ),
    LIST_APPS.name: ListApps(limit=10),
    GET_APP.name: GetApp("app_123"),
    GOVERN_APP.name: GovernApp(client_id="app_123", notes="reviewed"),
}
