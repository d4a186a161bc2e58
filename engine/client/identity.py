"""Identity and app registration, as asked (contract 3): routes 1-5."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from msgspec import UNSET, UnsetType

from engine.client.call import Answered, Caller
from engine.client.pages import items
from engine.contract import identity
from engine.contract.exchange import Trace
from engine.contract.identity import App, AppList, CreateApp, GetApp, GovernApp, ListApps, ScopeList
from engine.contract.route import Nothing


class Identity:
    """Apps and scopes of the tenant. Needs an administrator's scope (Q11)."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def scopes(self, *, trace: Trace | None = None) -> Answered[ScopeList]:
        """The scopes an app of this tenant may ask for."""
        return await self._caller.call(identity.LIST_SCOPES, Nothing(), trace=trace)

    async def create_app(
        self,
        name: str,
        grant_types: Sequence[str],
        *,
        scopes: Sequence[str] | UnsetType = UNSET,
        redirect_uris: Sequence[str] | UnsetType = UNSET,
        client_type: str | UnsetType = UNSET,
        trace: Trace | None = None,
    ) -> Answered[App]:
        """Register an app. Its `client_secret` is in this answer and never again. Twice makes two apps."""
        ask = CreateApp(
            name=name,
            grant_types=list(grant_types),
            scopes=UNSET if scopes is UNSET else list(scopes),
            redirect_uris=UNSET if redirect_uris is UNSET else list(redirect_uris),
            client_type=client_type,
        )
        return await self._caller.call(identity.CREATE_APP, ask, trace=trace)

    async def list_apps(
        self, *, cursor: str | None = None, limit: int | None = None, trace: Trace | None = None
    ) -> Answered[AppList]:
        """One page of apps."""
        return await self._caller.call(identity.LIST_APPS, ListApps(cursor=cursor, limit=limit), trace=trace)

    def every_app(self, *, limit: int | None = None, trace: Trace | None = None) -> AsyncIterator[App]:
        """Every app, page after page of `limit`."""
        return items(lambda cursor: self.list_apps(cursor=cursor, limit=limit, trace=trace), lambda page: page.apps)

    async def get_app(self, client_id: str, *, trace: Trace | None = None) -> Answered[App]:
        """One app."""
        return await self._caller.call(identity.GET_APP, GetApp(client_id), trace=trace)

    async def govern_app(self, patch: GovernApp, *, trace: Trace | None = None) -> Answered[App]:
        """Change an app's governance by a merge patch (RFC 7396): UNSET stays, None removes."""
        return await self._caller.call(identity.GOVERN_APP, patch, trace=trace)
