"""import.bulk: what becomes of rows."""

from typing import Any

import pytest

from engine.clock import ManualClock
from engine.emulator.entities import entity_id
from engine.emulator.state import Options
from engine.emulator.work import WorkFailed

IMPORT = "import.bulk"


def payload(rows: list[Any], **members: Any) -> dict[str, Any]:
    return {"source": {"inline": rows}, "entity_type": "place", **members}


def statuses(result: dict[str, Any]) -> list[str]:
    return [row["status"] for row in result["rows"]]


def stored(bench: Any) -> list[tuple[Any, ...]]:
    return bench.state.db.execute("SELECT external_id, label, properties FROM entities ORDER BY 1").fetchall()


def test_rows_become_entities(bench) -> None:
    """The mapping names the external id and the label; whatever else a row says is kept as properties."""
    rows = [{"city_id": "c1", "name": "Ulm", "country": "DE", "pop": 126_000}]
    mapping = {"city_id": "external_id", "name": "label", "pop": "population"}

    result = bench.run(IMPORT, payload(rows, mapping=mapping))

    assert list(result) == ["job_id", "kind", "summary", "rows"]
    assert result["summary"] == {
        "received": 1, "created": 1, "updated": 0, "merged": 0, "skipped": 0, "failed": 0
    }  # fmt: skip
    assert result["rows"] == [
        {"index": 0, "external_id": "c1", "status": "created", "id": entity_id("tnt", "c1"), "errors": []}
    ]
    assert stored(bench) == [("c1", "Ulm", b'{"country":"DE","population":126000}')]


def test_results_come_in_input_order(bench) -> None:
    """Every row has a result at its index, across the steps of a large job."""
    result = bench.run(IMPORT, payload([{"id": n} for n in range(1234)]))

    assert [(row["index"], row["external_id"]) for row in result["rows"]] == [(n, str(n)) for n in range(1234)]
    assert result["summary"]["created"] == 1234


def test_an_upsert_updates_and_an_insert_skips(bench) -> None:
    """A known external id is updated by an upsert and skipped by an insert, also within one job."""
    first = bench.run(IMPORT, payload([{"id": "a", "v": 1}, {"id": "a", "v": 2}]))
    again = bench.run(IMPORT, payload([{"id": "a", "v": 3}]))
    inserted = bench.run(IMPORT, payload([{"id": "a", "v": 4}, {"id": "b"}, {"id": "b"}], mode="insert"))

    assert statuses(first) == ["created", "updated"]
    assert statuses(again) == ["updated"]
    assert statuses(inserted) == ["skipped", "created", "skipped"]
    assert stored(bench)[0] == ("a", None, b'{"v":3}')


@pytest.mark.parametrize(
    ("row", "pointer"),
    [({"name": "x"}, "/city~1id~0"), ({"city/id~": ""}, "/city~1id~0"), ({"city/id~": [1]}, "/city~1id~0"),
     ({"city/id~": "x" * 257}, "/city~1id~0"), ([1], ""), ("text", ""), (None, "")],
)  # fmt: skip
def test_a_bad_row_fails_alone(bench, row, pointer) -> None:
    """A row without a usable external id fails with a pointer to the member, and its neighbours are stored."""
    rows = [{"city/id~": "good"}, row]

    result = bench.run(IMPORT, payload(rows, mapping={"city/id~": "external_id"}))

    assert statuses(result) == ["created", "failed"]
    assert result["rows"][1]["errors"][0]["pointer"] == pointer
    assert result["rows"][1]["id"] is None
    assert result["summary"]["failed"] == 1
    assert len(stored(bench)) == 1


def test_abort_stores_nothing(bench) -> None:
    """With on_error abort, or over max_errors, the whole job fails and has no effect."""
    rows = [{"id": "a"}, {}, {}]

    for members, code in (({"on_error": "abort"}, "row_failed"), ({"max_errors": 1}, "too_many_errors")):
        with pytest.raises(WorkFailed) as failed:
            bench.run(IMPORT, payload(rows, **members))
        assert failed.value.code == code

    assert stored(bench) == []


def test_a_dry_run_only_says(bench) -> None:
    """A dry run tells what would happen, and nothing happens."""
    result = bench.run(IMPORT, payload([{"id": "a"}], dry_run=True))

    assert statuses(result) == ["created"]
    assert stored(bench) == []


@pytest.mark.parametrize(
    ("strategy", "label", "properties"),
    [
        ("keep-newer", "Springfeld", b'{"v":2,"w":1}'),
        ("keep-older", "Springfield", b'{"v":1,"w":1}'),
        ("combine-all", "Springfield", b'{"v":[1,2],"w":1}'),
    ],
)
def test_likeness_merges(bench, strategy, label, properties) -> None:
    """A row whose label is alike enough is merged into the known entity, by the strategy asked for."""
    bench.run(IMPORT, payload([{"id": "a", "label": "Springfield", "v": 1, "w": 1}]))

    dedupe = {"threshold": 0.8, "strategy": strategy}
    rows = [{"id": "b", "label": "Springfeld", "v": 2}, {"id": "c", "label": "Spa"}]
    result = bench.run(IMPORT, payload(rows, dedupe=dedupe))

    assert statuses(result) == ["merged", "created"]
    assert result["rows"][0]["id"] == entity_id("tnt", "a")
    assert stored(bench)[0] == ("a", label, properties)


def test_tenants_do_not_meet(bench) -> None:
    """The same external id of two tenants is two entities."""
    for realm in ("tnt", "other"):
        assert statuses(bench.run(IMPORT, payload([{"id": "a"}]), realm)) == ["created"]

    ids = {row[0] for row in bench.state.db.execute("SELECT id FROM entities")}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("rule", "rows", "received"),
    [({"drop": 2}, 3, 5), ({"duplicate": 2}, 7, 5), ({"miscount": 1}, 5, 6), ({"miscount": -1}, 5, 4)],
)
def test_the_fault_script_spoils_rows(bench_with, rule, rows, received) -> None:
    """Rows are dropped or doubled under a summary that says all, or the summary is off."""
    bench = bench_with({"at": "result.rows", **rule})

    result = bench.run(IMPORT, payload([{"id": n} for n in range(5)]))

    assert len(result["rows"]) == rows
    assert result["summary"]["received"] == received
    assert len(stored(bench)) == 5


@pytest.mark.anyio
async def test_a_source_is_a_result_of_ours(start, connect) -> None:
    """A source by URL is a signed URL of the caller's own: another tenant's, or an expired one, is refused."""
    clock = ManualClock()
    _, api = await start(Options(latency_s=0), clock=clock)
    ours, theirs = await connect(api), await connect(api, "app_other")
    await ours.run(IMPORT, payload([{"id": n} for n in range(3)]))
    url = (await ours.run("export.bulk", {}))["files"][0]["url"]
    again = {"source": {"url": url}, "entity_type": "copy", "mapping": {"id": "external_id"}}

    copied = await ours.run(IMPORT, again)
    stolen = await theirs.post(IMPORT, again)
    clock.advance(901)
    expired = await ours.post(IMPORT, again)

    assert copied["summary"]["created"] == 3
    assert (stolen.status, expired.status) == (422, 422)
