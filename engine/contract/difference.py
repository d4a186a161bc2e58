"""Difference: what another OpenAPI document says of the routes that ours does not, and the other way round.

Pure. It compares what a caller depends on: routes, the members of a question and whether they are required, the
statuses of success, the members of an answer, the scopes. Prose, examples and the order of things are nothing to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from engine.errors import RecordError

_METHODS = frozenset(("get", "put", "post", "delete", "patch"))
_REF = "#/components/"
_DEPTH_MAX = 32


class Difference(msgspec.Struct, frozen=True, gc=False):
    """One thing that one document says and the other does not.

    side   who says it: "theirs", "ours", or "both", with different words
    at     the route, as in `POST /v1/jobs`
    what   the thing: `route`, `body.kind`, `query.limit`, `status.201`, `answer.id`, `scope.argus:jobs:read`
    said   for "both", what ours and what theirs says
    """

    side: Literal["theirs", "ours", "both"]
    at: str
    what: str
    said: str = ""


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[Difference]:
    """Everything in which two OpenAPI documents differ, by route.

    Raises:
        RecordError: `theirs` is no OpenAPI document.
    """
    if not isinstance(theirs.get("openapi"), str) or not isinstance(theirs.get("paths"), dict):
        raise RecordError("not an OpenAPI 3 document", hint="it needs the members openapi and paths")
    mine, other = _routes(ours), _routes(theirs)
    found: list[Difference] = []
    for at in sorted(mine.keys() | other.keys()):
        if at not in other:
            found.append(Difference("ours", at, "route"))
        elif at not in mine:
            found.append(Difference("theirs", at, "route"))
        else:
            found += _compare(at, dict(_facts(ours, mine[at])), dict(_facts(theirs, other[at])))
    return found


def _compare(at: str, mine: dict[str, str], other: dict[str, str]) -> Iterator[Difference]:
    for what in sorted(mine.keys() | other.keys()):
        if what not in other:
            yield Difference("ours", at, what, mine[what])
        elif what not in mine:
            yield Difference("theirs", at, what, other[what])
        elif mine[what] != other[what]:
            yield Difference("both", at, what, f"ours {mine[what]}, theirs {other[what]}")


def _routes(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, item in document["paths"].items()
        if isinstance(item, dict)
        for method, operation in item.items()
        if method in _METHODS and isinstance(operation, dict)
    }


def _facts(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What an operation says, each thing with what is said of it."""
    for raw in _list(operation.get("parameters")):
        parameter = _followed(document, raw)
        where, name = parameter.get("in"), str(parameter.get("name"))
        # Names of headers have no case (RFC 9110 section 5.1).
        yield f"{where}.{name.lower() if where == 'header' else name}", _need(parameter.get("required") is True)
    body = _schema(document, _followed(document, operation.get("requestBody")))
    required = _list(body.get("required"))
    for name in _map(body.get("properties")):
        yield f"body.{name}", _need(name in required)
    for status, raw in _map(operation.get("responses")).items():
        if str(status).startswith(("2", "3")):
            yield f"status.{status}", "answered"
            for name in _map(_schema(document, _followed(document, raw)).get("properties")):
                yield f"answer.{name}", "answered"
    for choice in _list(operation.get("security")):
        for scopes in _map(choice).values():
            yield from ((f"scope.{scope}", "any of") for scope in _list(scopes))


def _need(is_required: bool) -> str:  # noqa: FBT001
    return "required" if is_required else "optional"


def _schema(document: Mapping[str, Any], told: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema of what is told in JSON, its parts put together."""
    content = _map(told.get("content"))
    kind = next((name for name in content if name.partition(";")[0].endswith("json")), None)
    return _whole(document, _map(content.get(kind)).get("schema")) if kind else {}


def _whole(document: Mapping[str, Any], raw: Any) -> Mapping[str, Any]:
    schema = _followed(document, raw)
    parts = [_followed(document, part) for part in _list(schema.get("allOf"))]
    if not parts:
        return schema
    properties: dict[str, Any] = dict(_map(schema.get("properties")))
    required = list(_list(schema.get("required")))
    for part in parts:
        properties |= _map(part.get("properties"))
        required += _list(part.get("required"))
    return {"properties": properties, "required": required}


def _followed(document: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
    """A value, or what its reference leads to; nothing where it leads out of the document or in a circle."""
    for _ in range(_DEPTH_MAX):
        ref = _map(value).get("$ref")
        if not isinstance(ref, str):
            return _map(value)
        if not ref.startswith(_REF):
            return {}
        value = document
        for step in ref[2:].split("/"):
            value = _map(value).get(step.replace("~1", "/").replace("~0", "~"))
    return {}


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
