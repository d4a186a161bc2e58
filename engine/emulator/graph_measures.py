"""What can be computed on a graph: centralities, roles, layouts, communities, paths, by networkx.

Pure and seeded: runs on a thread, touches nothing but its arguments. The graph library is the extra `graph`; it
is imported when a computation runs.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec

from engine.contract.results import GraphNode
from engine.emulator.work import WorkFailed

# Most nodes per algorithm where its cost grows faster than the graph; what is not here takes the general limit.
LIMITS = {"closeness": 3000, "structural_holes": 3000, "layout_kk": 500, "layout_fr": 3000}
# Beyond this many nodes, betweenness is estimated from as many seeded pivots (Brandes and Pich, 2007).
_PIVOTS = 300
_OUTSTANDING = 2.0

Edge = tuple[str, str]


class Params(msgspec.Struct, kw_only=True):
    """What tunes a computation; members an algorithm does not know are left alone.

    link_by         properties whose equal values make an edge
    seed            for layouts, communities and pivots; the emulator's own when absent
    edges           True: the result lists the edges too
    source, target  ends of a shortest path, by the names of the scope
    iterations      steps of the Fruchterman-Reingold layout
    width, height   the canvas of a layout, with the origin in its middle
    resolution      of communities: above 1 more and smaller ones
    """

    link_by: list[str] = msgspec.field(default_factory=lambda: ["country", "timezone"])
    seed: int | None = None
    edges: bool = False
    source: str | None = None
    target: str | None = None
    iterations: int = 50
    width: float = 2.0
    height: float = 2.0
    resolution: float = 1.0


class Graph(msgspec.Struct, frozen=True):
    """An undirected graph: names, and pairs of names."""

    nodes: list[str]
    edges: list[Edge]


Answer = tuple[list[GraphNode], list[Edge]]


def compute(algorithm: str, graph: Graph, params: Params, seed: int) -> Answer:
    """One result per node, in the graph's order, and the edges of a path where there is one.

    Raises:
        WorkFailed: the graph library is missing, or an end of the path is not in the graph.
    """
    try:
        import networkx as nx
    except ImportError as exc:
        raise WorkFailed("missing_library", 'graph.compute needs the extra: pip install "engine[graph]"') from exc
    net = nx.Graph()
    net.add_nodes_from(graph.nodes)
    net.add_edges_from(graph.edges)
    if not graph.nodes:
        return [], []
    try:
        return _ALGORITHMS[algorithm](nx, net, params, seed)
    except ImportError as exc:
        # Layouts and eigenvectors need the numeric libraries beside it.
        raise WorkFailed("missing_library", 'graph.compute needs the extra: pip install "engine[graph]"') from exc


def _betweenness(nx: Any, net: Any, params: Params, seed: int) -> Answer:
    pivots = _PIVOTS if len(net) > _PIVOTS else None
    return _scored(net, nx.betweenness_centrality(net, k=pivots, seed=seed), "BRIDGE")


def _closeness(nx: Any, net: Any, params: Params, seed: int) -> Answer:
    return _scored(net, nx.closeness_centrality(net), "HUB")


def _eigenvector(nx: Any, net: Any, params: Params, seed: int) -> Answer:
    # Power iteration need not converge on a graph of several parts; the numeric solver needs one part.
    try:
        scores = nx.eigenvector_centrality(net, max_iter=1000)
    except nx.PowerIterationFailedConvergence:
        largest = max(nx.connected_components(net), key=lambda part: (len(part), min(part)))
        inside = nx.eigenvector_centrality_numpy(net.subgraph(sorted(largest)))
        scores = {name: abs(inside.get(name, 0.0)) for name in net}
    return _scored(net, scores, "HUB")


def _structural_holes(nx: Any, net: Any, params: Params, seed: int) -> Answer:
    """Burt's constraint: low where a node spans groups that do not know each other, so low is a bridge."""
    constraint = nx.constraint(net)
    spans = {name: -value for name, value in constraint.items() if value == value}  # noqa: PLR0124 - NaN: no edge
    roles = _roles(net, spans, "BRIDGE")
    return [
        GraphNode(id=name, score=_rounded(-spans[name]) if name in spans else None, role=roles[name]) for name in net
    ], []


def _scored(net: Any, scores: dict[str, float], outstanding: str) -> Answer:
    roles = _roles(net, scores, outstanding)
    return [GraphNode(id=name, score=_rounded(scores[name]), role=roles[name]) for name in net], []


def _roles(net: Any, scores: dict[str, float], outstanding: str) -> dict[str, str]:
    """A role for each node: far above the mean it is outstanding; without an edge among others it is anomalous."""
    values = list(scores.values()) or [0.0]
    bar = statistics.fmean(values) + _OUTSTANDING * statistics.pstdev(values)
    roles = {}
    for name in net:
        if net.degree(name) == 0 and len(net) > 1:
            roles[name] = "ANOMALOUS"
        else:
            is_far = name in scores and scores[name] > bar
            roles[name] = outstanding if is_far else "PERIPHERAL"
    return roles


def _layout_fr(nx: Any, net: Any, params: Params, seed: int) -> Answer:
    return _placed(net, nx.spring_layout(net, iterations=max(1, min(params.iterations, 500)), seed=seed), params)


def _layout_kk(nx: Any, net: Any, params: Params, seed: int) -> Answer:
    return _placed(net, nx.kamada_kawai_layout(net), params)


def _placed(net: Any, places: dict[str, Any], params: Params) -> Answer:
    return [
        GraphNode(
            id=name, score=None, role=None, x=_rounded(float(places[name][0]) * params.width / 2),
            y=_rounded(float(places[name][1]) * params.height / 2),
        )
        for name in net
    ], []  # fmt: skip


def _shortest_path(nx: Any, net: Any, params: Params, seed: int) -> Answer:
    """Scores are the steps from the source, None where no way leads; the edges are one shortest path."""
    source, target = params.source, params.target
    if source not in net or target not in net:
        raise WorkFailed("unknown_node", "source and target of a path must be known nodes of the scope")
    steps = nx.single_source_shortest_path_length(net, source)
    path = nx.shortest_path(net, source, target) if target in steps else []
    nodes = [GraphNode(id=name, score=float(steps[name]) if name in steps else None, role=None) for name in net]
    return nodes, list(pairwise(path))


def _communities(nx: Any, net: Any, params: Params, seed: int) -> Answer:
    """Louvain; communities are numbered from the largest, equals by their first name."""
    found = nx.community.louvain_communities(net, seed=seed, resolution=params.resolution)
    ranked = sorted(found, key=lambda part: (-len(part), min(part)))
    number_of = {name: number for number, part in enumerate(ranked) for name in part}
    return [GraphNode(id=name, score=None, role=None, community=number_of[name]) for name in net], []


def _rounded(value: float) -> float:
    """Twelve digits: what is left is the machine's, not the graph's. Never a negative zero."""
    return round(value, 12) + 0.0


_ALGORITHMS: dict[str, Callable[[Any, Any, Params, int], Answer]] = {
    "betweenness": _betweenness,
    "closeness": _closeness,
    "eigenvector": _eigenvector,
    "structural_holes": _structural_holes,
    "layout_fr": _layout_fr,
    "layout_kk": _layout_kk,
    "shortest_path": _shortest_path,
    "communities": _communities,
}
