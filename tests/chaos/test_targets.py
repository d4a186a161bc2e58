"""Pipelines from and into a database or an object store: killed, resumed, and audited where their rows lie."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.chaos.harness import Harness, Order, Undisturbed
from engine.chaos.mischief import choose
from engine.chaos.scratch import Pipeline, Scratch
from engine.chaos.tally import Tally
from engine.components.objects import Bucket
from engine.pipeline.parse import load_pipeline
from engine.settings import ObjectsSettings
from tests.runtime.bucket import Store, serving_objects
from tests.runtime.database import Server

ROWS = 60
_JOB = """
[job]
kind  = "import.bulk"
batch = { rows = 10 }
poll  = { first = "50ms", max = "200ms" }
[job.payload]
entity_type = "location"
mapping     = { id = "external_id", name = "label" }
[results.fields]
external_id = "str"
id          = "str"
status      = "str"
"""
_OF_TABLE = """
[source]
type   = "postgres"
url    = "${secret:env:CHAOS_DATABASE}"
table  = "people"
cursor = ["id"]
key    = "id"
"""
_OF_FILES = """
[source]
type  = "ndjson"
paths = ["in/*.ndjson"]
key   = "id"
[sink]
type = "ndjson"
path = "s3://chaos/out"
"""
_TO_TABLE = """
[sink]
type = "postgres"
url  = "${secret:env:CHAOS_DATABASE}"
table = "landed"
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A server for this file."""
    with serving_objects(tmp_path_factory.mktemp("objects")) as server:
        yield server


def play(folder: Path, text: str, *, kills: int, objects: ObjectsSettings | None = None, **env: str) -> Tally:
    """So many kills, without mischief, over one pipeline."""
    path = folder / "p.toml"
    path.write_text(f'version = 1\nname = "stores"\n{text}{_JOB}')
    pipeline = Pipeline(path=path, spec=load_pipeline(str(path), env=env))
    order = Order(
        pipelines=(pipeline,), directory=folder / "chaos", inputs=folder, kills=kills, seed=3, mischief=(),
        objects=objects or ObjectsSettings(),
    )  # fmt: skip
    return asyncio.run(Harness(order, tell=print).run())


def test_a_ledger_has_a_disk_of_its_own_where_rows_land_in_a_store(tmp_path: Path) -> None:
    """The disk that is filled lies under the ledger; that no pipeline writes files does not matter to it."""
    path = tmp_path / "p.toml"
    path.write_text(f'version = 1\nname = "stores"\n{_OF_FILES}{_JOB}')
    order = Order(
        pipelines=(Pipeline(path=path, spec=load_pipeline(str(path), env={})),),
        directory=tmp_path / "chaos", inputs=tmp_path, kills=1, seed=1,
    )  # fmt: skip
    scratch = Scratch(tmp_path / "round")
    undisturbed = Undisturbed(references=[], seconds=[], body_bytes=0)
    try:
        with Harness(order, tell=print)._disk(scratch, choose(["disk full under the ledger"])[0], undisturbed) as disk:
            assert disk.path == scratch.state
    except OSError as exc:
        pytest.skip(f"mount: a tmpfs cannot be mounted here ({exc.strerror})")


@pytest.mark.parametrize(
    "mode", ['mode = "upsert"\nkey = ["external_id"]\n', 'mode = "append"\n'], ids=["upsert", "append"]
)
def test_f33_a_table_into_a_table_among_kills(
    postgres: Server, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of one table land in another through jobs, each once, wherever the process is killed."""
    database = postgres.create()
    postgres.ask(
        "CREATE TABLE people (id text PRIMARY KEY, name text);"
        "CREATE TABLE landed (external_id text PRIMARY KEY, id text, status text, engine_part bigint);"
        f"INSERT INTO people SELECT 'r' || n, 'Row ' || n FROM generate_series(1, {ROWS}) n;",
        database=database,
    )
    url = postgres.url(database)
    monkeypatch.setenv("CHAOS_DATABASE", url)

    tally = play(tmp_path, _OF_TABLE + _TO_TABLE + mode, kills=5, CHAOS_DATABASE=url)

    assert tally.findings == []
    assert tally.kills >= 5
    assert tally.rows == tally.rounds * ROWS
    left = postgres.ask(
        "SELECT relname FROM pg_class WHERE relname LIKE 'landed%' AND relkind = 'r'", database=database
    )
    assert left == [("landed",)]
    assert postgres.ask("SELECT count(*) FROM landed", database=database) == [(0,)]
    assert postgres.ask("SELECT count(*) FROM engine_parts", database=database) == [(0,)]


@pytest.mark.parametrize(
    ("source", "sink"), [("in/*.ndjson", "ndjson"), ("s3://chaos/in/*.ndjson", "parquet")], ids=["files", "objects"]
)
def test_rows_into_objects_among_kills(store: Store, tmp_path: Path, source: str, sink: str) -> None:
    """Rows become objects through jobs: whole ones, each row in one of them, and a manifest that lists them."""
    store.bucket("chaos")
    bucket = Bucket("chaos", store.settings)
    for part in range(3):
        rows: list[dict[str, Any]] = [{"id": f"r{part}-{n}", "name": f"Row {n}"} for n in range(ROWS // 3)]
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        bucket.put(f"in/{part}.ndjson", body)
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"{part}.ndjson").write_bytes(body)
    text = _OF_FILES.replace("in/*.ndjson", source).replace('type = "ndjson"', f'type = "{sink}"')

    tally = play(tmp_path, text, kills=5, objects=store.settings)

    assert tally.findings == []
    assert tally.kills >= 5
    assert tally.rows == tally.rounds * ROWS
    assert [found.key for found in bucket.find("out/")] == []
