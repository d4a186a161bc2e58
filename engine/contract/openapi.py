"""OpenAPI: the document that describes routes, made from the routes themselves and the types they speak.

Pure, and complete by construction: whoever adds a route adds it here, because nothing below names one. The schemas
are msgspec's, so what is described is what is decoded. OpenAPI 3.1, whose schemas are JSON Schema 2020-12.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from engine.codec.payload import schemas_of, to_wire
from engine.contract.deprecation import row_of
from engine.contract.problem import OAuthError, Problem
from engine.contract.profile import PROFILE, Profile
from engine.contract.route import Auth, Host, Nothing, Route, Text
from engine.contract.titles import title_of

VERSION = "3.1.0"
_REF = "#/components/schemas/{name}"
_JSON = "application/json"
_CONDITION = "If-None-Match"
_COMMON = {
    "traceparent": "W3C Trace Context. A malformed one starts a new trace and fails nothing.",
    _CONDITION: "The ETag of before: an unchanged document is not sent again.",
}
_TRACE_HEADERS = {
    "X-Argus-Trace-ID": ("The trace of this request, 32 hex digits.", "^[0-9a-f]{32}$"),
    "X-Argus-Span-ID": ("The server's span of this request, 16 hex digits.", "^[0-9a-f]{16}$"),
    "traceparent": ("W3C Trace Context with the server's span.", "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"),
}


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Base URLs of the platform that is described, without a trailing slash."""

    auth: str
    api: str
    sandbox: str
    docs: str

    def of(self, host: Host) -> str:
        """Where a host is."""
        return {Host.AUTH: self.auth, Host.API: self.api, Host.SANDBOX: self.sandbox, Host.DOCS: self.docs}[host]


def published(routes: Iterable[Route[Any, Any]], profile: Profile = PROFILE) -> list[Route[Any, Any]]:
    """The routes of the API's own descriptor: those of its host, less what the profile hides (contract 12.1)."""
    return [route for route in routes if Host.API in route.hosts and not route.path.startswith(profile.openapi_hidden)]


def describe(
    routes: Sequence[Route[Any, Any]],
    places: Places,
    profile: Profile = PROFILE,
    examples: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The OpenAPI document of these routes, as plain values. `examples` are example questions by route name."""
    types = [kind for route in routes for kind in (route.ask, route.answer) if kind not in (Nothing, Text)]
    kinds = list(dict.fromkeys([*types, Problem, OAuthError]))
    refs, named = schemas_of(kinds, ref=_REF)
    schemas = dict(zip(kinds, refs, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        example = to_wire(examples[route.name]) if examples and route.name in examples else {}
        described = _Operation(route, schemas, named, example, profile).describe()
        if route.hosts != (Host.API,):
            described["servers"] = [{"url": places.of(host)} for host in route.hosts]
        paths.setdefault(route.path, {})[route.method.lower()] = described
    document = {
        "openapi": VERSION,
        "info": {
            "title": "Argus External API",
            "version": profile.version,
            "description": "The curated external integration surface. A token of one tenant sees that tenant alone.",
        },
        "servers": [{"url": places.api}],
        "tags": [{"name": group} for group in dict.fromkeys(route.group for route in routes)],
        "paths": paths,
    }
    return document | {"components": _components(document, named, places)}


class _Operation:
    """One route as an Operation Object. A question's members are spread over path, headers, query and body."""

    def __init__(
        self,
        route: Route[Any, Any],
        schemas: Mapping[Any, dict[str, Any]],
        named: Mapping[str, Any],
        example: Mapping[str, Any],
        profile: Profile,
    ) -> None:
        self._route = route
        self._example = example
        self._schemas = schemas
        self._profile = profile
        self._row = row_of(profile.deprecations, route.method, route.path)
        # A type without a name of its own (an empty question) has no members.
        asked = named[_name_of(schemas[route.ask])] if route.ask in schemas else {}
        self._members: dict[str, Any] = asked.get("properties", {})
        self._required: list[str] = asked.get("required", [])
        self._about: str = asked.get("description", "")
        in_path = [name for name in self._members if "{" + name + "}" in route.path]
        in_headers = [name for name in route.headers if name in self._members]
        self._in_path, self._in_headers = in_path, in_headers
        self._rest = [name for name in self._members if name not in (*in_path, *in_headers)]
        self._has_body = route.method not in ("GET", "DELETE")

    def describe(self) -> dict[str, Any]:
        route = self._route
        described: dict[str, Any] = {
            "operationId": route.name,
            "summary": title_of(route),
            "tags": [route.group],
        }
        if self._about:
            described["description"] = self._about
        if self._row is not None:
            described["deprecated"] = True
        if parameters := self._parameters():
            described["parameters"] = parameters
        if self._has_body and self._rest:
            described["requestBody"] = self._body()
        described["responses"] = self._responses()
        described["security"] = _security(route)
        return described

    def _parameters(self) -> list[dict[str, Any]]:
        route = self._route
        found = [self._parameter(name, name, "path") for name in self._in_path]
        if not self._has_body:
            found += [self._parameter(name, name, "query") for name in self._rest]
        found += [self._parameter(name, route.headers[name], "header") for name in self._in_headers]
        common = ["traceparent"]
        if 304 in route.status and _CONDITION not in route.headers.values():
            common.append(_CONDITION)
        return found + [{"$ref": f"#/components/parameters/{name}"} for name in common]

    def _parameter(self, member: str, name: str, where: str) -> dict[str, Any]:
        schema = _not_null(self._members[member])
        if where == "path" and schema.get("type") == "string":
            schema = {**schema, "minLength": 1}
        is_required = where == "path" or (member in self._required and not self._route.redirect)
        parameter = {"name": name, "in": where, "required": is_required, "schema": schema}
        example = self._example.get(member)
        return parameter if example is None else parameter | {"example": example}

    def _body(self) -> dict[str, Any]:
        schema = {
            "type": "object",
            "properties": {name: self._members[name] for name in self._rest},
            "required": [name for name in self._required if name in self._rest],
        }
        kind = "application/x-www-form-urlencoded" if self._route.form else _JSON
        example = {name: value for name, value in self._example.items() if name in self._rest}
        content = {"schema": schema} | ({"example": example} if example else {})
        told = {kind: content}
        if self._route.whole is not None:
            told[self._route.whole[1]] = {"schema": {"type": "object"}}
        return {"required": bool(schema["required"]), "content": told}

    def _responses(self) -> dict[str, Any]:
        route = self._route
        responses = {str(status): self._success(status) for status in route.status}
        error = OAuthError if route.auth is Auth.CLIENT else Problem
        media = _JSON if route.auth is Auth.CLIENT else self._profile.problem_type
        content = {media: {"schema": self._schemas[error]}}
        for status in self._refusals():
            headers = _header_refs("Retry-After") if status in (429, 503) else {}
            responses.setdefault(
                str(status),
                {"description": _phrase(status), "headers": _trace_refs() | headers, "content": content},
            )
        responses["default"] = {"description": "Any other refusal", "headers": _trace_refs(), "content": content}
        return responses

    def _success(self, status: int) -> dict[str, Any]:
        route = self._route
        headers = _trace_refs() | (_header_refs("ETag", "Cache-Control") if 304 in route.status else {})
        if self._row is not None:
            headers |= _header_refs("Deprecation", "Sunset", "Link")
        described: dict[str, Any] = {"description": _phrase(status), "headers": headers}
        if status == 302:
            headers |= _header_refs("Location")
        elif status not in (204, 304) and route.answer is not Nothing:
            described["content"] = {media: {"schema": self._answer(media)} for media in route.media}
            if status >= 400:
                # The route tells its own errors in an answer; what comes before the route is told as ever.
                described["content"][self._profile.problem_type] = {"schema": self._schemas[Problem]}
        return described

    def _answer(self, media: str) -> dict[str, Any]:
        route = self._route
        if route.answer in self._schemas and (media == _JSON or media.endswith("+json")):
            return self._schemas[route.answer]
        # A reader of YAML makes values of it; other text stays text.
        return {"type": "string"} if media.startswith("text/") else {}

    def _refusals(self) -> list[int]:
        """The statuses that follow from how the route is laid out, and those it names."""
        route, profile = self._route, self._profile
        found = {408, 429, 503, *route.refusals}
        # A public route does not ask for a token, but one of the other world is refused there too.
        found |= {403} if route.auth is Auth.PUBLIC else {401, 403}
        if self._in_path:
            found |= {404, profile.invalid_status}
        if self._rest or self._in_headers:
            found |= {profile.malformed_status, profile.invalid_status}
        if self._has_body:
            found |= {profile.malformed_status, 413, 415, profile.invalid_status}
        if self._row is not None and self._row.sunset_at is not None:
            found.add(profile.after_sunset)
        return sorted(found)


def _components(document: dict[str, Any], named: Mapping[str, Any], places: Places) -> dict[str, Any]:
    return {
        "schemas": _used(document, named),
        "parameters": {
            name: {"name": name, "in": "header", "required": False, "description": about, "schema": {"type": "string"}}
            for name, about in _COMMON.items()
        },
        "headers": {
            name: {"description": about, "schema": {"type": "string", "pattern": pattern}}
            for name, (about, pattern) in _TRACE_HEADERS.items()
        }
        | {
            name: {"schema": {"type": "string"}}
            for name in ("ETag", "Cache-Control", "Location", "Link", "Retry-After", "Deprecation", "Sunset")
        },
        "securitySchemes": {
            "bearer": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": f"RS256; its key is in {places.auth}/.well-known/jwks.json.",
            },
            "client": {"type": "http", "scheme": "basic", "description": "Client id and secret, or both in the form."},
        },
    }


def _used(document: Any, named: Mapping[str, Any]) -> dict[str, Any]:
    """The named schemas that something refers to, and what these refer to in turn."""
    used: dict[str, Any] = {}
    waiting: list[Any] = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(ref := value.get("$ref"), str) and ref.startswith(_REF.partition("{")[0]):
                name = _name_of(value)
                if name not in used:
                    used[name] = named[name]
                    waiting.append(named[name])
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return dict(sorted(used.items()))


def _name_of(schema: Mapping[str, Any]) -> str:
    ref: str = schema["$ref"]
    return ref.rpartition("/")[2]


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without its null: a member of path, query or header is there or is not."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    plain = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    if not choices:
        return plain
    return plain | (choices[0] if len(choices) == 1 else {"anyOf": choices})


def _security(route: Route[Any, Any]) -> list[dict[str, list[str]]]:
    if route.auth is Auth.PUBLIC:
        return []
    if route.auth is Auth.CLIENT:
        return [{"client": []}, {}]
    # Any one of the scopes is enough.
    return [{"bearer": [scope]} for scope in route.scopes] or [{"bearer": []}]


def _trace_refs() -> dict[str, Any]:
    return _header_refs(*_TRACE_HEADERS)


def _header_refs(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase
