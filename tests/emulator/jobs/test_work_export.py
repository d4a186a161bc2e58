"""export.bulk: which entities, in which order, in which format."""

import csv
import io
import json
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from engine.emulator import work_export
from engine.emulator.entities import entity_id

EXPORT = "export.bulk"
GEXF = "{http://gexf.net/1.3}"


@pytest.fixture
def stocked(bench, places) -> Any:
    """A bench whose tenant has the eight places and two persons."""
    bench.run("import.bulk", {"source": {"inline": places}, "entity_type": "place"})
    persons = [
        {"id": "h1", "label": "Ada Example", "email": "ada@example.org", "links": ["p1", "h2"], "note": 'a "b",\nc'},
        {"id": "h2", "label": "Bo Example", "first_name": "Bo", "city": "<Ulm> & \u0001 more"},
    ]
    bench.state.clock.advance(3600)
    bench.run("import.bulk", {"source": {"inline": persons}, "entity_type": "person"})
    return bench


def export(bench: Any, **payload: Any) -> tuple[dict[str, Any], bytes]:
    manifest = bench.run(EXPORT, payload)
    return manifest, b"".join(bench.file(manifest["job_id"], file["name"]) for file in manifest["files"])


def exported(bench: Any, **payload: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export(bench, **payload)[1].splitlines()]


def test_rows_follow_the_ids_asked_for(stocked) -> None:
    """Rows come in the order of the ids, named as they were asked by, entity id or external id; unknown ones lack."""
    by_entity = entity_id("tnt", "p2")

    rows = exported(stocked, filter={"ids": ["p5", by_entity, "nobody", "p1"]})

    assert [row["id"] for row in rows] == ["p5", by_entity, "p1"]
    assert [row["external_id"] for row in rows] == ["p5", "p2", "p1"]
    assert rows[0]["properties"]["population"] == 10**5


def test_everything_comes_by_id(stocked) -> None:
    """Without ids, all entities come once, by entity id."""
    rows = exported(stocked)

    assert len(rows) == 10
    assert [row["id"] for row in rows] == sorted(row["id"] for row in rows)


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"entity_types": ["person"]}, 2),
        ({"entity_types": ["person", "place"]}, 10),
        ({"filter": {"entity_type": "place"}}, 8),
        ({"filter": {"entity_type": "place"}, "entity_types": ["person"]}, 0),
        ({"filter": {"updated_from": "2026-05-08T13:00:00+00:00"}}, 2),
        ({"filter": {"updated_to": "2026-05-08T14:30:00.5+02:00"}}, 8),
        ({"filter": {"external_ids": ["p1", "h1"]}, "entity_types": ["person"]}, 1),
        ({"filter": {"ids": []}}, 0),
    ],
)
def test_filters_hold_together(stocked, asked, count) -> None:
    """Types, times and names each narrow the export; an empty export is one file without rows."""
    manifest, body = export(stocked, **asked)

    assert len(body.splitlines()) == count
    assert [file["rows"] for file in manifest["files"]] == [count]


def test_formats_say_the_same(stocked) -> None:
    """JSON, JSON lines, CSV and GEXF hold the same entities."""
    ids = {row["id"] for row in exported(stocked)}
    as_json = json.loads(export(stocked, format="json")[1])
    as_csv = list(csv.DictReader(io.StringIO(export(stocked, format="csv")[1].decode(), newline="")))
    as_gexf = ET.fromstring(export(stocked, format="gexf")[1])

    assert {row["id"] for row in as_json} == {row["id"] for row in as_csv} == ids
    assert {node.get("id") for node in as_gexf.iter(f"{GEXF}node")} == ids
    note = next(row["note"] for row in as_csv if row["external_id"] == "h1")
    assert note == 'a "b",\nc'


def test_an_empty_export_is_valid_in_each_format(bench) -> None:
    """A tenant without entities gets files that parse."""
    assert json.loads(export(bench, format="json")[1]) == []
    assert export(bench, format="jsonl")[1] == b""
    assert export(bench, format="csv")[1].startswith(b"id,external_id,")
    assert ET.fromstring(export(bench, format="gexf")[1]).tag == f"{GEXF}gexf"


def test_fields_narrow_the_properties(stocked) -> None:
    """Only the named properties are written, in CSV as columns in the order asked."""
    row = exported(stocked, filter={"ids": ["p1"]}, fields=["population", "country"])[0]
    head = export(stocked, format="csv", fields=["population", "country"])[1].splitlines()[0]

    assert row["properties"] == {"population": 10, "country": "DE"}
    assert head.split(b",")[5:7] == [b"population", b"country"]


def test_what_reaches_a_person_is_masked(stocked) -> None:
    """With mask_pii, names and addresses of persons are replaced, and places keep theirs."""
    body = export(stocked, mask_pii=True)[1]

    assert b"ada@example.org" not in body
    assert b"Ada Example" not in body
    assert b'"Bo"' not in body
    assert b'"label":"Place 1"' in body


def test_a_large_export_is_several_files(stocked, monkeypatch) -> None:
    """Past so many rows a new file begins, and the manifest counts each."""
    monkeypatch.setattr(work_export, "FILE_ROWS", 4)
    monkeypatch.setattr(work_export, "STEP_ROWS", 2)

    manifest, body = export(stocked)

    assert [file["rows"] for file in manifest["files"]] == [4, 4, 2]
    assert len({file["name"] for file in manifest["files"]}) == 3
    assert len(body.splitlines()) == 10


def test_dropped_rows_are_still_in_the_manifest(bench_with, places) -> None:
    """The fault script drops rows from a file whose manifest says all."""
    bench = bench_with({"at": "result.rows", "kind": EXPORT, "drop": 3})
    bench.run("import.bulk", {"source": {"inline": places}, "entity_type": "place"})

    manifest, body = export(bench)

    assert manifest["files"][0]["rows"] == 8
    assert len(body.splitlines()) == 5
