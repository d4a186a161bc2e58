"""Schemas: the JSON Schemas a caller can reach, made from the types that are spoken (contract 12.4, Q91).

Pure, and complete by construction: what routes ask and answer, what jobs take and give, and what a callback says.
Which of them a caller sees follows from its scopes alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from engine.codec.payload import schemas_of
from engine.contract.discovery import DataSchema
from engine.contract.jobs import Callback
from engine.contract.kinds import ENRICH, EXPORT, GRAPH, IMPORT
from engine.contract.profile import PROFILE, Profile
from engine.contract.results import EnrichRow, ExportFile, ExportRow, GraphNode, ImportRow
from engine.contract.route import Auth, Nothing, Route, Text

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ID = "https://schema.knogin.com/argus/v1/"
_ROWS: dict[str, tuple[type, ...]] = {
    IMPORT: (ImportRow,), ENRICH: (EnrichRow,), EXPORT: (ExportFile, ExportRow), GRAPH: (GraphNode,),
}  # fmt: skip


def all_schemas(
    routes: Iterable[Route[Any, Any]], payloads: Mapping[str, type], profile: Profile = PROFILE
) -> list[DataSchema]:
    """Every schema, by id. `payloads` are the types of the jobs' payloads by kind."""
    write, read = profile.jobs_write_scopes, profile.jobs_read_scopes
    found = [_schema(f"job.{kind}.payload", "job_payload", shape, write, profile) for kind, shape in payloads.items()]
    found += [
        _schema(f"job.{kind}.{shape.__name__}", "entity", shape, read, profile)
        for kind, shapes in _ROWS.items()
        for shape in shapes
    ]
    found.append(_schema("event.job.ended", "event", Callback, read, profile))
    for (group, shape), scopes in _spoken(routes).items():
        found.append(_schema(f"{group}.{shape.__name__}", "resource", shape, sorted(scopes), profile))
    return sorted(found, key=lambda schema: schema.id)


def reachable(schemas: Iterable[DataSchema], scopes: Collection[str]) -> list[DataSchema]:
    """Those that a caller with these scopes can reach; what needs no scope is everybody's."""
    held = frozenset(scopes)
    return [one for one in schemas if not one.required_scopes or not held.isdisjoint(one.required_scopes)]


def _spoken(routes: Iterable[Route[Any, Any]]) -> dict[tuple[str, type], set[str]]:
    """What routes ask in a body and what they answer, each with the scopes that any route wants for it."""
    found: dict[tuple[str, type], set[str]] = {}
    for route in routes:
        if route.auth not in (Auth.BEARER, Auth.SANDBOX):
            continue
        asked = () if route.method in ("GET", "DELETE") else (route.ask,)
        for shape in (*asked, route.answer):
            if isinstance(shape, type) and issubclass(shape, msgspec.Struct) and shape not in (Nothing, Text):
                found.setdefault((route.group, shape), set()).update(route.scopes)
    return found


def _schema(name: str, kind: str, shape: type, scopes: Iterable[str], profile: Profile) -> DataSchema:
    (schema,), named = schemas_of([shape], ref="#/$defs/{name}")
    title = (named.get(shape.__name__, {}).get("description") or shape.__name__).partition("\n")[0]
    whole = {"$schema": _DIALECT, "$id": f"{_ID}{name}.json", **schema}
    return DataSchema(
        id=f"argus.{name}",
        version=profile.version.rpartition(".")[0],
        title=title,
        kind=kind,
        required_scopes=list(scopes),
        schema=whole | ({"$defs": named} if named else {}),
    )
