"""graph.compute: measures, layouts, communities and paths over stored entities (Q73).

Builds the graph from what entities share and name; the mathematics is a graph library's, in `graph_measures`.
The same entities, algorithm and parameters give the same answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from engine.codec.payload import encode, loads
from engine.contract.kinds import GRAPH
from engine.contract.problem import FieldFault
from engine.contract.profile import PROFILE
from engine.contract.provenance import VIEW
from engine.contract.results import GraphNode
from engine.emulator.entities import WITNESS, Effect, Entity, Query
from engine.emulator.graph_measures import LIMITS, Graph, Params, compute
from engine.emulator.work import (
    STEP_ROWS,
    Craft,
    Desk,
    Outcome,
    Task,
    Vouch,
    Work,
    WorkFailed,
    fault,
    notes_of,
    read_payload,
)

# Entities that share a value are joined to this many neighbours in order of id, not each to each: a thousand
# cities of one country would be half a million edges that say nothing more.
_NEIGHBOURS = 3
_SCOPE, _IDS = PROFILE.graph_compute.path

Algorithm = Literal[
    "betweenness", "closeness", "eigenvector", "structural_holes", "layout_fr", "layout_kk", "shortest_path",
    "communities",
]  # fmt: skip


class Scope(msgspec.Struct, kw_only=True, rename={"node_ids": _IDS}):
    """Which entities: by name, or all whose property `investigation_id` is this."""

    node_ids: list[str] | None = None
    investigation_id: str | None = None


class GraphPayload(msgspec.Struct, kw_only=True, rename={"scope": _SCOPE}):
    """The payload; for `params` see `graph_measures.Params`."""

    algorithm: Algorithm
    scope: Scope
    params: Params = msgspec.field(default_factory=Params)


def check(payload: bytes, vouch: Vouch) -> list[FieldFault]:
    """Everything that is wrong with a computation's payload, before a job exists."""
    asked = read_payload(payload, GraphPayload)
    if isinstance(asked, list):
        return asked
    faults = []
    scope = asked.scope
    if (scope.node_ids is None) == (scope.investigation_id is None):
        faults.append(fault(f"give either {_IDS} or investigation_id", _SCOPE))
    limit = LIMITS.get(asked.algorithm, PROFILE.profile_ids_max)
    if scope.node_ids is not None and not 1 <= len(scope.node_ids) <= limit:
        faults.append(fault(f"{asked.algorithm} takes 1 to {limit} nodes", _SCOPE, _IDS))
    if asked.algorithm == "shortest_path" and not (asked.params.source and asked.params.target):
        faults.append(fault("shortest_path needs source and target", "params"))
    return faults


def _chosen(scope: Scope, desk: Desk, limit: int) -> Iterator[list[tuple[str, Entity]]]:
    """The entities of the scope with the name each was asked by, a step at a time."""
    if scope.node_ids is not None:
        names = list(dict.fromkeys(scope.node_ids))
        for at in range(0, len(names), STEP_ROWS):
            found = desk.shelf.find(names[at : at + STEP_ROWS])
            yield [(name, found[name]) for name in names[at : at + STEP_ROWS] if name in found]
        return
    query, after, taken = Query(investigation_id=scope.investigation_id), "", 0
    while page := desk.shelf.page(query, after=after, limit=STEP_ROWS):
        after, taken = page[-1].id, taken + len(page)
        if taken > limit:
            raise WorkFailed("scope_too_large", f"the scope has more than {limit} nodes")
        yield [(entity.id, entity) for entity in page]


class _Builder:
    """Collects nodes, then draws the edges among them."""

    def __init__(self, link_by: list[str]) -> None:
        self._link_by = link_by
        self._name_of: dict[str, str] = {}
        self._groups: dict[tuple[str, str], list[str]] = {}
        self._links: list[tuple[str, str]] = []
        self.nodes: list[str] = []

    def add(self, chosen: list[tuple[str, Entity]]) -> None:
        """Take entities in, each under the name it was asked by; a second name of one entity is left out."""
        for name, entity in chosen:
            if entity.id in self._name_of:
                continue
            self.nodes.append(name)
            self._name_of[entity.id] = self._name_of[entity.external_id] = name
            members = loads(entity.properties)
            for member in self._link_by:
                value = members.get(member)
                if isinstance(value, (str, int)) and value != "":
                    self._groups.setdefault((member, str(value)), []).append(name)
            links = members.get("links")
            if isinstance(links, list):
                self._links += [(name, str(target)) for target in links]

    def graph(self) -> Graph:
        """The nodes and their edges, without doubles and loops, in a fixed order."""
        edges = {
            (one, other): None
            for group in self._groups.values()
            for at, one in enumerate(group)
            for other in group[at + 1 : at + 1 + _NEIGHBOURS]
        }
        for one, target in self._links:
            other = self._name_of.get(target)
            if other is not None and other != one and (other, one) not in edges:
                edges[one, other] = None
        return Graph(self.nodes, list(edges))


def perform(task: Task, desk: Desk) -> Work:
    """Collect the scope, compute on a thread, write the result document."""
    asked = read_payload(task.payload, GraphPayload)
    if isinstance(asked, list):
        raise WorkFailed("invalid_payload", asked[0].msg)
    builder = _Builder(asked.params.link_by)
    effects: list[Effect] = []
    for chosen in _chosen(asked.scope, desk, LIMITS.get(asked.algorithm, PROFILE.profile_ids_max)):
        builder.add(chosen)
        if notes := notes_of(task, VIEW, (entity for _, entity in chosen)):
            effects.append(Effect(WITNESS, [*notes]))
        yield None
    graph = builder.graph()
    seed = task.seed if asked.params.seed is None else asked.params.seed
    nodes, path = yield lambda: compute(asked.algorithm, graph, asked.params, seed)
    requested = len(graph.nodes) if asked.scope.node_ids is None else len(asked.scope.node_ids)
    summary = desk.miscount({PROFILE.graph_compute.total: requested, "computed": len(nodes)})
    document: dict[str, Any] = {
        "job_id": task.job_id,
        "kind": GRAPH,
        PROFILE.result_summary: summary,
        "computed_at": task.now,
    }
    edges = path if asked.algorithm == "shortest_path" else graph.edges if asked.params.edges else None
    if edges is not None:
        document["edges"] = [{"source": one, "target": other} for one, other in edges]
    rows: list[GraphNode] = desk.spoil(nodes)
    page = desk.open("", "application/json")
    page.write(encode(document)[:-1] + b"," + encode(PROFILE.graph_compute.results) + b":" + encode(rows) + b"}")
    page.close()
    return Outcome(effects=effects, summary=summary)


CRAFT = Craft(check, perform, GraphPayload, is_alone=False)
