"""Runs from and into an object store: the same guarantees as on a disk, whatever was killed."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.components.objects import Bucket
from tests.runtime.bucket import KEY, KEY_ID, Store, serving_objects
from tests.runtime.process import engine, finish, report_of, start

_PIPELINE = """
version = 1
name    = "objects"
[source]
type  = "ndjson"
paths = ["s3://{bucket}/in/*.ndjson"]
key   = "id"
[sink]
type   = "ndjson"
path   = "s3://{bucket}/out"
rotate = {{ rows = 10_000 }}
"""
_CONFIG = """
[objects]
endpoint          = "{endpoint}"
region            = "us-east-1"
access_key_id     = "${{secret:env:STORE_ID}}"
secret_access_key = "${{secret:env:STORE_KEY}}"
"""
ROWS = 35_000
KEYS = {"STORE_ID": KEY_ID, "STORE_KEY": KEY}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A server for this file."""
    with serving_objects(tmp_path_factory.mktemp("objects")) as server:
        yield server


def _prepare(store: Store, folder: Path) -> Bucket:
    """A bucket with an input of two objects, and a pipeline over it."""
    name = f"b-{folder.name.replace('_', '-')[-40:].strip('-')}".lower()
    store.bucket(name)
    (folder / "config.toml").write_text(_CONFIG.format(endpoint=store.settings.endpoint))
    (folder / "p.toml").write_text(_PIPELINE.format(bucket=name))
    bucket = Bucket(name, store.settings)
    for index, rows in enumerate((range(20_000), range(20_000, ROWS))):
        bucket.put(f"in/{index}.ndjson", b"".join(b'{"id":"r%d"}\n' % number for number in rows))
    return bucket


def _landed(bucket: Bucket) -> list[str]:
    """The keys of all rows of all parts that are there, sorted."""
    parts = [found.key for found in bucket.find("out/") if "/part-" in found.key]
    return sorted(json.loads(line)["id"] for key in parts for line in bucket.whole(key).splitlines())


def test_a_run_from_objects_to_objects(store: Store, tmp_path: Path) -> None:
    """Every row lands once, the manifest says so; a second run finds nothing new, and says where the output is."""
    bucket = _prepare(store, tmp_path)
    code, out, err = engine(["run", "p.toml", "--json"], cwd=tmp_path, **KEYS)
    assert code == 0, err
    first = report_of(out)
    code, out, err = engine(["run", "p.toml", "--json"], cwd=tmp_path, **KEYS)
    second = report_of(out)

    assert (first["read"], first["accepted"], second["outcome"]) == (ROWS, ROWS, "nothing_new")
    assert first["manifest"] == second["manifest"] == f"s3://{bucket.name}/out/_manifest.json"
    manifest: dict[str, Any] = json.loads(bucket.whole("out/_manifest.json"))
    assert manifest["rows"] == ROWS
    assert {part["name"] for part in manifest["parts"]} == {
        found.key.removeprefix("out/") for found in bucket.find("out/") if "/part-" in found.key
    }
    assert _landed(bucket) == sorted(f"r{number}" for number in range(ROWS))
    assert KEY not in out + err


@pytest.mark.parametrize("point", ["sink:upload:before:2", "sink:upload:after:2", "manifest:upload:before:2"])
def test_killed_around_an_upload_every_row_lands_once(store: Store, tmp_path: Path, point: str) -> None:
    """A kill beside the upload of a part or of the manifest: the next run leaves each row in one part."""
    bucket = _prepare(store, tmp_path)
    victim = start(["run", "p.toml", "--json"], cwd=tmp_path, ENGINE_FAILPOINT=point, **KEYS)
    finish(victim)
    assert victim.returncode == -signal.SIGKILL
    code, out, err = engine(["run", "p.toml", "--json"], cwd=tmp_path, **KEYS)

    assert code == 0, err
    report = report_of(out)
    assert (report["read"], report["accepted"], report["open"]) == (ROWS, ROWS, 0)
    assert _landed(bucket) == sorted(f"r{number}" for number in range(ROWS))


def test_wrong_credentials_are_configuration(store: Store, tmp_path: Path) -> None:
    """Keys that the store refuses end with the exit code of configuration, and are not shown."""
    _prepare(store, tmp_path)
    code, out, err = engine(["run", "p.toml"], cwd=tmp_path, STORE_ID="canary-id", STORE_KEY="canary-key")

    assert code == 3
    assert "refused to these credentials" in err
    assert "canary" not in out + err
