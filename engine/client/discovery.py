"""Discovery, as asked (contract 12): routes 38-41. With an ETag of before, an unchanged document is not sent again."""

from __future__ import annotations

from msgspec import UNSET

from engine.client.call import Answered, Caller
from engine.contract import discovery
from engine.contract.discovery import ApiCatalog, AskDocument, DataSchemaList, OpenApi
from engine.contract.exchange import Trace
from engine.contract.route import Text


class Discovery:
    """The API as documents. With `etag`, status 304 and no answer mean that it is still the same."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def openapi(self, *, etag: str | None = None, trace: Trace | None = None) -> Answered[OpenApi]:
        """The OpenAPI 3.1 descriptor."""
        return await self._caller.call(discovery.OPENAPI, _ask(etag), trace=trace)

    async def openapi_yaml(self, *, etag: str | None = None, trace: Trace | None = None) -> Answered[Text]:
        """The same descriptor as YAML text, which is not read."""
        return await self._caller.call(discovery.OPENAPI_YAML, _ask(etag), trace=trace)

    async def catalog(self, *, etag: str | None = None, trace: Trace | None = None) -> Answered[ApiCatalog]:
        """The API catalogue: a link set for each host."""
        return await self._caller.call(discovery.CATALOG, _ask(etag), trace=trace)

    async def schemas(self, *, etag: str | None = None, trace: Trace | None = None) -> Answered[DataSchemaList]:
        """The JSON Schemas that the caller's scopes reach."""
        return await self._caller.call(discovery.SCHEMAS, _ask(etag), trace=trace)


def _ask(etag: str | None) -> AskDocument:
    return AskDocument(if_none_match=UNSET if etag is None else etag)
