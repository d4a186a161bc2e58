"""Discovery: the API's descriptor, its catalogue, and the schemas a caller can reach (contract 12, routes 38-41).

Everything is made from the routes that are handed in, with the emulator's own addresses in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.codec.payload import dumps, encode
from engine.codec.yaml import dump_yaml
from engine.contract import discovery as contract
from engine.contract.discovery import ApiCatalog, DataSchemaList, LinkContext, LinkTarget
from engine.contract.openapi import Places, describe, published
from engine.contract.route import Route
from engine.contract.schemas import all_schemas, reachable
from engine.emulator.call import Call, Handler, Reply
from engine.emulator.crafts import CRAFTS
from engine.emulator.documents import document
from engine.emulator.refusal import Refusal
from engine.emulator.state import State

_PROVENANCE_KEYS = "/.well-known/provenance-keys/"
_PROFILE = 'profile="https://www.rfc-editor.org/info/rfc9727"'


def places_of(state: State) -> Places:
    """Where the emulator plays the platform's hosts: three on one origin, the sandbox on another."""
    return Places(auth=state.base_url, api=state.base_url, sandbox=state.sandbox_url, docs=state.base_url)


def handlers(state: State, routes: Mapping[str, Route[Any, Any]], examples: Mapping[str, Any]) -> dict[str, Handler]:
    """Routes 38 to 41, over these routes."""
    public = f"public, max-age={state.profile.documents_max_age_s}"
    schemas = all_schemas(routes.values(), {kind: craft.payload for kind, craft in CRAFTS.items()}, state.profile)
    made: dict[str, bytes] = {}

    def described(form: str) -> bytes:
        # Addresses are known only once the listeners are; they do not change after that.
        if not made:
            told = published(routes.values(), state.profile)
            plain = describe(told, places_of(state), state.profile, examples)
            made["json"], made["yaml"] = dumps(plain), dump_yaml(plain).encode()
        return made[form]

    def openapi(call: Call) -> Reply:
        return document(call, described("json"), "application/json", public)

    def openapi_yaml(call: Call) -> Reply:
        return document(call, described("yaml"), state.profile.yaml_type, public)

    def catalog(call: Call) -> Reply:
        reply = document(
            call,
            encode(_catalog(routes, places_of(state), state.profile.catalog_hosts)),
            f"application/linkset+json; {_PROFILE}",
            public,
        )
        # Where it stands, for whoever asks with HEAD (RFC 9727 section 2).
        reply.headers["Link"] = f'<{call.base_url}{contract.CATALOG.path}>; rel="api-catalog"'
        return reply

    def data_schemas(call: Call) -> Reply:
        if call.caller is None:
            raise Refusal(401, "unauthorized", "This route needs a bearer token.")
        seen = reachable(schemas, call.caller.scopes)
        body = encode(DataSchemaList(schemas=seen, total_count=len(seen)))
        reply = document(call, body, "application/json", "private, no-cache")
        reply.headers["Vary"] = "Authorization"
        return reply

    return {
        contract.OPENAPI.name: openapi,
        contract.OPENAPI_YAML.name: openapi_yaml,
        contract.CATALOG.name: catalog,
        contract.SCHEMAS.name: data_schemas,
    }


def _catalog(routes: Mapping[str, Route[Any, Any]], places: Places, hosts: Sequence[str]) -> ApiCatalog:
    """One entry for each of these hosts (Q93); hosts on one origin share theirs."""
    docs = [LinkTarget(href=f"{places.docs}/api/docs/api-reference", type="application/json")]
    forms = ((contract.OPENAPI, "application/json"), (contract.OPENAPI_YAML, contract.OPENAPI_YAML.media[0]))
    described = [LinkTarget(href=places.api + route.path, type=kind) for route, kind in forms]
    meta = [LinkTarget(href=f"{places.auth}/.well-known/jwks.json", type="application/json")]
    if any(route.path.startswith(_PROVENANCE_KEYS) for route in routes.values()):
        href = f"{places.api}{_PROVENANCE_KEYS}ml-dsa-65"
        meta.append(LinkTarget(href=href, type="application/json", rel=["provenance-verify-keys"]))
    # The descriptor tells of the API's routes, the sandbox's among them; the auth host has none of its own.
    descriptors = {places.auth: [], places.sandbox: described, places.api: described}
    anchors = dict.fromkeys(getattr(places, host) for host in hosts)
    return ApiCatalog(
        [
            LinkContext(anchor=f"{anchor}/", service_desc=descriptors[anchor], service_doc=docs, service_meta=meta)
            for anchor in anchors
        ]
    )
