"""Singer: a target of the SDK whose batch sink runs one job for each of its batches and writes the rows."""

from __future__ import annotations

import gc
import io
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.requesting import Job, session_for
from benchmarks.rounds import Failed, Meter


def whole(*, url: str, source: str, batch: int, in_flight: int) -> dict[str, Any]:
    """A contestant: Singer messages in, jobs in between, lines out; batches one after the other, as the SDK drains."""
    import orjson
    from singer_sdk import Target
    from singer_sdk.sinks import BatchSink

    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "out.ndjson"
        session, file = session_for(in_flight), out.open("wb")

        class JobSink(BatchSink):
            max_size = batch

            def process_batch(self, context: dict[str, Any]) -> None:
                job = Job(session, url, [json.dumps(record) for record in context["records"]])
                while not job.is_over():
                    time.sleep(0.01)
                file.writelines(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in job.rows())

        class JobTarget(Target):
            name = "target-jobs"
            config_jsonschema = {"type": "object", "properties": {}}  # noqa: RUF012 - the SDK's own way
            default_sink_class = JobSink

        lines = Path(source).read_text().splitlines()
        schema = {"type": "object", "properties": {"id": {"type": "string"}}}
        said = [json.dumps({"type": "SCHEMA", "stream": "rows", "schema": schema, "key_properties": ["id"]})]
        said += [f'{{"type":"RECORD","stream":"rows","record":{line}}}' for line in lines]
        gc.collect()
        with Meter() as meter:
            JobTarget(config={}).listen(io.StringIO("\n".join(said) + "\n"))
        file.close()
        written = out.read_bytes().count(b"\n")
    if written != len(lines):
        raise Failed(f"{len(lines)} rows were read and {written} written")
    return meter.answer(written)
