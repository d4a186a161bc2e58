"""dlt: the same jobs as a resource with parallel deferred items, loaded into its filesystem destination as JSONL."""

from __future__ import annotations

import gc
import os
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.peers.requesting import Job, session_for
from benchmarks.rounds import Failed, Meter


def whole(*, url: str, source: str, batch: int, in_flight: int) -> dict[str, Any]:
    """A contestant: extract, normalize and load, as its documents lay out a job API."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        os.environ |= {
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "ERROR",
            "EXTRACT__WORKERS": str(in_flight),
            "EXTRACT__MAX_PARALLEL_ITEMS": str(in_flight),
            "DESTINATION__FILESYSTEM__BUCKET_URL": f"file://{folder}/out",
            "NORMALIZE__DATA_WRITER__DISABLE_COMPRESSION": "true",
        }
        import dlt

        session = session_for(in_flight)

        @dlt.resource(name="rows", max_table_nesting=0)
        def results() -> Iterator[Any]:
            with Path(source).open() as file:
                while lines := list(islice(file, batch)):
                    yield _deferred(dlt, session, url, lines)

        pipeline = dlt.pipeline("bench", destination="filesystem", dataset_name="d", pipelines_dir=f"{folder}/state")
        gc.collect()
        with Meter() as meter:
            pipeline.run(results(), loader_file_format="jsonl")
        read = Path(source).read_bytes().count(b"\n")
        written = sum(path.read_bytes().count(b"\n") for path in Path(folder, "out", "d", "rows").glob("*.jsonl"))
    if written != read:
        raise Failed(f"{read} rows were read and {written} written")
    return meter.answer(read)


def _deferred(dlt: Any, session: Any, url: str, lines: list[str]) -> Any:
    @dlt.defer
    def one() -> list[dict[str, Any]]:
        job = Job(session, url, lines)
        while not job.is_over():
            time.sleep(0.01)
        return job.rows()

    return one()
