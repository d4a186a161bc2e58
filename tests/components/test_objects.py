"""Object stores: objects are read and written like files, by a real server that speaks S3."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.codec.fields import struct_of
from engine.codec.payload import decode, encode
from engine.components.catalog import open_sink, open_source
from engine.components.objects import Bucket
from engine.errors import ConfigError, InputError, OutputError, StaleCheckpoint
from engine.pipeline.spec import SinkSpec, SourceSpec
from engine.record import Slice
from engine.settings import ObjectsSettings, Secret
from engine.store.room import is_away
from tests.runtime.bucket import Store, serving_objects


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A server for this file."""
    with serving_objects(tmp_path_factory.mktemp("objects")) as server:
        yield server


@pytest.fixture
def bucket(store: Store, request: pytest.FixtureRequest) -> Path:
    """The folder of an empty bucket; its name is the bucket's."""
    return store.bucket(f"b{abs(hash(request.node.name)) % 10**9}")


def source(store: Store, *paths: str, **options: Any) -> Any:
    """Open a source over objects."""
    spec = SourceSpec(**{"type": "ndjson", "key": "id", "paths": paths, **options})
    return open_source(spec, want_values=False, store=store.settings)


def put(store: Store, folder: Path, key: str, rows: range, *, pad: int = 0) -> None:
    """An object of NDJSON rows."""
    body = b"".join(b'{"id":"%d","pad":"%s"}\n' % (number, b"x" * pad) for number in rows)
    Bucket(folder.name, store.settings).put(key, gzip.compress(body) if key.endswith(".gz") else body)


def keys(batches: Any) -> list[str]:
    """The keys of batches, in order."""
    return [key for batch in batches for key in batch.keys]


def test_objects_are_found_like_files(store, bucket) -> None:
    """A path is one object, `*` stays between slashes, `**` crosses them; inputs come in the order of their names."""
    names = ["in/b.ndjson", "in/a.ndjson", "in/deep/c.ndjson", "in/a.csv", "other.ndjson", "in/[x].ndjson"]
    for index, key in enumerate(names):
        put(store, bucket, key, range(index, index + 1))
    base = f"s3://{bucket.name}/"
    assert keys(source(store, base + "in/*.ndjson").read({})) == ["5", "1", "0"]
    assert keys(source(store, base + "in/**/*.ndjson").read({})) == ["5", "1", "0", "2"]
    assert keys(source(store, base + "in/[!b[].ndjson").read({})) == ["1"]
    assert keys(source(store, base + "in/[x].ndjson", base + "o?her.ndjson").read({})) == ["5", "4"]


def test_a_large_object_is_read_in_blocks_and_from_any_place(store, bucket) -> None:
    """Every row of an object of many blocks comes once; reading goes on from a mark, and a slice is read again."""
    put(store, bucket, "in.ndjson", range(9_000), pad=1_000)
    url = f"s3://{bucket.name}/in.ndjson"
    reading = source(store, url)
    batches = list(reading.read({}))
    middle = batches[len(batches) // 2]

    assert reading.can_reread
    assert reading.can_seek
    assert keys(batches) == [str(number) for number in range(9_000)]
    mark = reading.mark(url, middle.end, middle.next_line)
    assert keys(source(store, url).read({url: mark})) == keys(batches)[keys(batches).index(middle.keys[-1]) + 1 :]
    again = source(store, url).reread([Slice(url, middle.start, middle.end, middle.line)])
    assert keys(again) == middle.keys


def test_a_compressed_object_is_read_like_a_compressed_file(store, bucket) -> None:
    """Gzip by its suffix; where a pattern's end does not tell, places are not taken for cheap to go to."""
    put(store, bucket, "in.ndjson.gz", range(50))
    assert keys(source(store, f"s3://{bucket.name}/in.ndjson.gz").read({})) == [str(number) for number in range(50)]
    assert not source(store, f"s3://{bucket.name}/in*").can_seek
    assert not source(store, f"s3://{bucket.name}/*.gz").can_seek
    assert source(store, f"s3://{bucket.name}/*.ndjson").can_seek


def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(store, bucket) -> None:
    """The rest of another version is refused; so is going on in an object that begins otherwise."""
    put(store, bucket, "in.ndjson", range(9_000), pad=1_000)
    url = f"s3://{bucket.name}/in.ndjson"
    reading = source(store, url)
    batches = reading.read({})
    first = next(batches)
    mark = reading.mark(url, first.end, first.next_line)
    put(store, bucket, "in.ndjson", range(10_000, 19_000), pad=1_000)

    with pytest.raises(StaleCheckpoint):
        list(batches)
    with pytest.raises(StaleCheckpoint):
        list(source(store, url).read({url: mark}))


def test_what_is_not_there_is_an_input_error(store, bucket) -> None:
    """No object, no match and no bucket are told with the path that was asked for."""
    for path in (f"s3://{bucket.name}/absent.ndjson", f"s3://{bucket.name}/*.ndjson", "s3://no-such-bucket/x.ndjson"):
        with pytest.raises(InputError) as caught:
            list(source(store, path).read({}))
        assert path.rpartition("/")[0] in caught.value.message


# Sinks ---------------------------------------------------------------------------------------

FIELDS = {"id": "str", "n": "int"}
Opening = Callable[..., Any]


@pytest.fixture
def sink(store: Store, bucket: Path) -> Opening:
    """Open a sink under `out/run` of the bucket."""

    def opening(kind: str = "ndjson", *, pipeline: str = "cities", **options: Any) -> Any:
        spec = SinkSpec(**{"type": kind, "path": f"s3://{bucket.name}/out/run/", **options})
        return open_sink(spec, FIELDS, pipeline=pipeline, store=store.settings)

    return opening


def write(opened: Any, count: int, *, number: int = 1) -> Any:
    """One part."""
    rows = decode(encode([{"id": f"r{n}", "n": n} for n in range(count)]), list[struct_of("Row", FIELDS)])  # type: ignore[misc]
    part = opened.begin(epoch=1, number=number)
    part.append(opened.encode(rows), count)
    return part.finish()


@pytest.mark.parametrize(
    ("kind", "compression", "suffix"),
    [
        ("ndjson", "none", "ndjson"),
        ("ndjson", "gzip", "ndjson.gz"),
        ("csv", "zstd", "csv.zst"),
        ("parquet", "none", "parquet"),
    ],
)
def test_a_part_is_an_object_as_its_record_says(bucket, sink, kind, compression, suffix) -> None:
    """Name, size and digest are those of the object, which is the only one; each format works as on a disk."""
    done = write(sink(kind, compression=compression), 20)

    [path] = (bucket / "out" / "run").iterdir()
    assert path.name == done.name == f"part-0001-000001.{suffix}"
    assert (done.body_bytes, done.sha256) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_large_part_is_uploaded_in_pieces_and_seen_as_a_whole(bucket, sink) -> None:
    """Twenty megabytes go in several requests, and the object is what was written."""
    opened = sink()
    part = opened.begin(epoch=1, number=1)
    line = b'{"id":"' + b"x" * 1_000_000 + b'"}\n'
    for _ in range(20):
        part.append(line, 1)
    done = part.finish()

    assert (bucket / "out" / "run" / done.name).read_bytes() == line * 20
    assert done.body_bytes == len(line) * 20


def test_sweeping_removes_our_parts_and_nothing_else(store, bucket, sink) -> None:
    """Parts that the ledger does not know go; the manifest, other objects and deeper ones stay."""
    opened = sink()
    kept, lost = write(opened, 1), write(opened, 1, number=2)
    opened.write_manifest({"epoch": 1, "parts": []})
    for key in ("out/run/notes.txt", "out/run/deep/part-0001-000001.ndjson", "out/part-0001-000001.ndjson"):
        put(store, bucket, key, range(1))

    assert opened.sweep({kept.name}) == 1
    assert opened.sweep({kept.name}) == 0
    left = {found.key for found in Bucket(bucket.name, store.settings).find("")}
    assert f"out/run/{lost.name}" not in left
    assert len(left) == 5


def test_the_manifest_is_one_object_that_names_its_pipeline(bucket, sink) -> None:
    """It is replaced, it says whose it is, and another pipeline is refused there."""
    opened = sink()
    opened.write_manifest({"epoch": 1})
    where = opened.write_manifest({"epoch": 2})

    assert where == f"s3://{bucket.name}/out/run/_manifest.json"
    document = json.loads((bucket / "out" / "run" / "_manifest.json").read_bytes())
    assert document == {"version": 1, "pipeline": "cities", "epoch": 2}
    with pytest.raises(OutputError, match="holds the parts of the pipeline `cities`"):
        sink(pipeline="other").sweep(set())


def test_a_store_that_is_away_is_asked_again(store, bucket, sink) -> None:
    """A part whose upload fails is whole in the next try; nothing of it is lost meanwhile."""
    for kind in ("ndjson", "parquet"):
        opened = sink(kind)
        rows = decode(b'[{"id":"a","n":1}]', list[struct_of("Row", FIELDS)])  # type: ignore[misc]
        part = opened.begin(epoch=1, number=1)
        part.append(opened.encode(rows), 1)
        store.stop()
        try:
            with pytest.raises(OutputError) as caught:
                part.finish()
        finally:
            store.start()
        assert is_away(caught.value)
        done = part.finish()
        assert (bucket / "out" / "run" / done.name).stat().st_size == done.body_bytes


def test_a_bucket_that_is_not_there_is_said_before_anything_is_written(store) -> None:
    """Sweeping names the bucket."""
    spec = SinkSpec(type="ndjson", path="s3://no-such-bucket/out")
    with pytest.raises(OutputError, match="no-such-bucket"):
        open_sink(spec, {}, pipeline="p", store=store.settings).sweep(set())


def test_credentials_never_show(store) -> None:
    """Neither the settings nor the error of a store that refuses or cannot be reached holds a key."""
    for endpoint, said in ((store.settings.endpoint, "refused to these credentials"), ("http://127.0.0.1:9", "now")):
        settings = ObjectsSettings(
            endpoint=endpoint, access_key_id=Secret("canary-id"), secret_access_key=Secret("canary-key"), region="x"
        )
        with pytest.raises((OutputError, ConfigError)) as caught:
            list(Bucket("some-bucket", settings).find(""))
        assert said in caught.value.message
        assert "canary" not in caught.value.message + caught.value.hint + repr(caught.value.facts) + repr(settings)
