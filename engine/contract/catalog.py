"""ROUTES: every route the package speaks, by name, with one example question each; and questions from plain members."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec

from engine.codec.payload import from_plain
from engine.contract import (
    devices,
    discovery,
    epcr,
    graphql,
    identity,
    jobs,
    keys,
    oauth,
    provenance,
    reference,
    sandbox,
    tracing,
    webhooks,
)
from engine.contract.route import Route
from engine.errors import RecordError

_GROUPS = (
    identity,
    oauth,
    keys,
    webhooks,
    graphql,
    epcr,
    devices,
    tracing,
    jobs,
    sandbox,
    provenance,
    discovery,
    reference,
)

ROUTES: dict[str, Route[Any, Any]] = {
    route.name: route for route in sorted((r for group in _GROUPS for r in group.ROUTES), key=lambda r: r.number)
}
EXAMPLES: dict[str, Any] = {name: ask for group in _GROUPS for name, ask in group.EXAMPLES.items()}


def route_of(name: str) -> Route[Any, Any]:
    """A route by its name.

    Raises:
        RecordError: there is none of that name.
    """
    route = ROUTES.get(name)
    if route is None:
        raise RecordError(f"no route is called {name[:80]!a}", hint=f"routes: {', '.join(ROUTES)}")
    return route


def ask_of(route: Route[Any, Any], members: Mapping[str, Any]) -> Any:
    """A route's question from plain members. Text is read as a number or boolean where one is expected.

    Raises:
        RecordError: a member the question does not have, lacks, or has of another type.
    """
    kind: Any = route.ask
    written = _names(kind)
    members = {written.get(name, name): value for name, value in members.items()}
    known = written.values()
    if strange := [name for name in members if name not in known]:
        has = ", ".join(known) or "no members"
        raise RecordError(f"{route.name} has no member {', '.join(strange)[:80]!a}", hint=f"it has {has}")
    return from_plain(dict(members), route.ask, strict=False)


@cache
def _names(ask: type[msgspec.Struct]) -> dict[str, str]:
    """The members of a question, by our names for them, as they are written: `device_id` is `deviceId`.

    Looked up once for each type: pipelines ask for every row.
    """
    return {field.name: field.encode_name for field in msgspec.structs.fields(ask)}
