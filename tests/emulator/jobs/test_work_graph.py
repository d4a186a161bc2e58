"""graph.compute: measures on graphs whose answers are known, and answers that repeat."""

from typing import Any

import pytest

from engine.emulator.entities import entity_id
from engine.emulator.work import WorkFailed

GRAPH = "graph.compute"
ALGORITHMS = (
    "betweenness", "closeness", "eigenvector", "structural_holes", "layout_fr", "layout_kk", "communities",
)  # fmt: skip
pytest.importorskip("networkx", reason="graph: networkx is not installed")


@pytest.fixture
def star(bench) -> Any:
    """A bench with a hub and six spokes, and one entity that nothing is joined to."""
    spokes = [f"s{number}" for number in range(6)]
    rows = [{"id": "hub", "links": spokes, "investigation_id": "inv"}, {"id": "lonely"}]
    rows += [{"id": spoke, "investigation_id": "inv"} for spoke in spokes]
    bench.run("import.bulk", {"source": {"inline": rows}, "entity_type": "person"})
    return bench


NAMES = ["hub", "s0", "s1", "s2", "s3", "s4", "s5"]


def compute(bench: Any, algorithm: str, names: list[str] = NAMES, **params: Any) -> dict[str, Any]:
    return bench.run(GRAPH, {"algorithm": algorithm, "scope": {"node_ids": names}, "params": params})


def test_the_hub_of_a_star_is_the_bridge(star) -> None:
    """All shortest paths of a star lead through its hub: betweenness 1, spokes 0."""
    result = compute(star, "betweenness", [*NAMES, "lonely", "nobody"])

    found = {node["id"]: (node["score"], node["role"]) for node in result["nodes"]}
    assert found["hub"] == (pytest.approx(15 / 21), "BRIDGE")
    assert found["s0"] == (0.0, "PERIPHERAL")
    assert found["lonely"][1] == "ANOMALOUS"
    assert "nobody" not in found
    assert result["summary"] == {"requested": 9, "computed": 8}
    assert compute(star, "betweenness")["nodes"][0]["score"] == 1.0


def test_centralities_have_their_known_values(star) -> None:
    """Closeness of a star's hub is 1; its eigenvector share is the largest; its constraint the lowest."""
    close = compute(star, "closeness")["nodes"]
    eigen = compute(star, "eigenvector")["nodes"]
    holes = compute(star, "structural_holes")["nodes"]

    assert (close[0]["score"], close[0]["role"]) == (1.0, "HUB")
    assert close[1]["score"] == pytest.approx(6 / 11)
    assert eigen[0]["score"] == pytest.approx(2**-0.5, abs=1e-4)
    assert holes[0]["score"] == pytest.approx(1 / 6)
    assert (holes[0]["role"], holes[1]["score"]) == ("BRIDGE", 1.0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_answer_repeats(star, algorithm) -> None:
    """The same question has the same answer, in the order of the names asked."""
    first, again = compute(star, algorithm), compute(star, algorithm)

    assert [node["id"] for node in first["nodes"]] == NAMES
    assert first["nodes"] == again["nodes"]


def test_a_layout_fits_its_canvas(star) -> None:
    """Every node is placed, inside the canvas asked for."""
    for algorithm in ("layout_fr", "layout_kk"):
        nodes = compute(star, algorithm, width=200, height=100)["nodes"]
        assert all(abs(node["x"]) <= 100 + 1e-6 and abs(node["y"]) <= 50 + 1e-6 for node in nodes)
        assert len({(node["x"], node["y"]) for node in nodes}) == len(NAMES)


def test_shared_values_make_communities(bench, places) -> None:
    """Places that share a country and time zone are joined, and fall into as many communities."""
    bench.run("import.bulk", {"source": {"inline": places}, "entity_type": "place"})
    names = [place["external_id"] for place in places]

    result = compute(bench, "communities", names, edges=True)

    found = {node["id"]: node["community"] for node in result["nodes"]}
    assert {found[f"p{n}"] for n in (1, 3, 5, 7)} == {0}
    assert {found[f"p{n}"] for n in (2, 4, 6, 8)} == {1}
    assert {"source": "p1", "target": "p3"} in result["edges"]


def test_a_path_is_found_or_not(star) -> None:
    """The shortest path is a list of edges, scores are steps; without a way there is none."""
    path = compute(star, "shortest_path", [*NAMES, "lonely"], source="s0", target="s3")
    none = compute(star, "shortest_path", [*NAMES, "lonely"], source="s0", target="lonely")

    assert path["edges"] == [{"source": "s0", "target": "hub"}, {"source": "hub", "target": "s3"}]
    scores = {node["id"]: node["score"] for node in path["nodes"]}
    assert (scores["s0"], scores["hub"], scores["s3"], scores["lonely"]) == (0.0, 1.0, 2.0, None)
    assert none["edges"] == []
    with pytest.raises(WorkFailed) as failed:
        compute(star, "shortest_path", source="s0", target="nobody")
    assert failed.value.code == "unknown_node"


def test_an_investigation_is_a_scope(star) -> None:
    """All entities of an investigation are taken, named by entity id."""
    result = star.run(GRAPH, {"algorithm": "betweenness", "scope": {"investigation_id": "inv"}})

    assert {node["id"] for node in result["nodes"]} == {entity_id("tnt", name) for name in NAMES}


def test_a_scope_of_nobody_is_empty(bench) -> None:
    """Unknown names alone give an empty answer, not a failure."""
    result = compute(bench, "eigenvector", ["a", "b"])

    assert (result["nodes"], result["summary"]) == ([], {"requested": 2, "computed": 0})
