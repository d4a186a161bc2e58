"""intelligence.enrich.bulk: what is derived, from what, and what is kept."""

from typing import Any

import pytest

ENRICH = "intelligence.enrich.bulk"


@pytest.fixture
def stocked(bench, places) -> Any:
    """A bench whose tenant has the eight places."""
    bench.run("import.bulk", {"source": {"inline": places}, "entity_type": "place"})
    return bench


def values(row: dict[str, Any]) -> dict[str, Any]:
    return {attribute["name"]: attribute["value"] for attribute in row["attributes"]}


def test_attributes_are_derived(stocked) -> None:
    """A place gets its hemisphere, size, offset and fingerprint, each with confidence, source and time."""
    result = stocked.run(ENRICH, {"profile_ids": ["p1"]})

    row = result["results"][0]
    assert list(result) == ["job_id", "kind", "summary", "results"]
    assert (row["profile_id"], row["status"], row["error"]) == ("p1", "succeeded", None)
    assert values(row).items() >= {
        "hemisphere": "north-east", "size_class": "village", "utc_offset": "+01:00", "name_key": "1 place"
    }.items()  # fmt: skip
    assert 0 < row["enrichment_score"] <= 100
    for attribute in row["attributes"]:
        assert 0 <= attribute["confidence"] <= 1
        assert attribute["source"].startswith("emulator.")
        assert attribute["retrieved_at"].endswith("Z")


def test_the_same_entity_is_enriched_the_same(stocked) -> None:
    """By entity id or by external id, now or later, an entity gets the same attributes."""
    entity = stocked.state.db.execute("SELECT id FROM entities WHERE external_id = 'p3'").fetchone()[0]

    first = stocked.run(ENRICH, {"profile_ids": ["p3", entity]})["results"]
    again = stocked.run(ENRICH, {"profile_ids": ["p3"]})["results"]

    assert values(first[0]) == values(first[1]) == values(again[0])
    assert [row["profile_id"] for row in first] == ["p3", entity]


def test_an_unknown_profile_fails_alone(stocked) -> None:
    """An id that nobody imported is a failed row, in its place, and counted."""
    result = stocked.run(ENRICH, {"profile_ids": ["p1", "nobody", "p2"]})

    assert [row["status"] for row in result["results"]] == ["succeeded", "failed", "succeeded"]
    assert result["results"][1] == {
        "profile_id": "nobody", "status": "failed", "attributes": [], "enrichment_score": None,
        "error": "unknown profile",
    }  # fmt: skip
    assert result["summary"] == {"requested": 3, "succeeded": 2, "failed": 1}


def test_an_answer_can_be_narrowed(stocked) -> None:
    """Providers and fields name what is wanted; the score is over that alone."""
    by_field = stocked.run(ENRICH, {"profile_ids": ["p1"], "fields": ["hemisphere"]})["results"][0]
    by_source = stocked.run(ENRICH, {"profile_ids": ["p1"], "providers": ["emulator.geo"]})["results"][0]

    assert list(values(by_field)) == ["hemisphere"]
    assert list(values(by_source)) == ["hemisphere", "utc_offset"]


def test_an_enrichment_is_kept_with_the_entity(stocked) -> None:
    """What was derived is exported with the entity, and survives its next import."""
    stocked.run(ENRICH, {"profile_ids": ["p1"]})
    stocked.run("import.bulk", {"source": {"inline": [{"id": "p1"}]}, "entity_type": "place"})

    row = stocked.state.db.execute("SELECT enrichment FROM entities WHERE external_id = 'p1'").fetchone()

    assert b'"size_class":"village"' in row[0]


def test_odd_properties_are_no_reason_to_fail(bench) -> None:
    """Values of any type where a rule expects another are passed over."""
    row = {
        "id": "x", "label": 7, "latitude": "north", "longitude": True, "population": -1, "timezone": "Mars/Olympus",
        "continent": None, "email": "a@b@c.example",
    }  # fmt: skip
    bench.run("import.bulk", {"source": {"inline": [row]}, "entity_type": "place"})

    found = values(bench.run(ENRICH, {"profile_ids": ["x"]})["results"][0])

    assert found["email_domain"] == "c.example"
    assert not found.keys() & {"hemisphere", "size_class", "utc_offset", "risk_region"}
