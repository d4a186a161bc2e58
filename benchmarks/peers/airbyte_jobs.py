"""Airbyte CDK: the same jobs as a declarative source with an `AsyncRetriever`, its records written as lines."""

from __future__ import annotations

import gc
import logging
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.rounds import Failed, Meter


def _requester(url: str, path: str, method: str = "GET", **more: Any) -> dict[str, Any]:
    return {"type": "HttpRequester", "url_base": url, "path": path, "http_method": method, **more}


def _extracting(*path: str) -> dict[str, Any]:
    return {"type": "DpathExtractor", "field_path": list(path)}


def manifest(url: str, batches: list[str], in_flight: int) -> dict[str, Any]:
    """The source: one job for each partition, which is the text of a batch's ids."""
    create = {
        "kind": "intelligence.enrich.bulk",
        "payload": {"profile_ids": "{{ stream_partition['ids'].split(' ') }}"},
    }
    retriever = {
        "type": "AsyncRetriever",
        "record_selector": {"type": "RecordSelector", "extractor": _extracting("results", "*")},
        "status_mapping": {
            "type": "AsyncJobStatusMap",
            "running": ["queued", "running"],
            "completed": ["succeeded"],
            "failed": ["failed"],
            "timeout": ["cancelled"],
        },
        "status_extractor": _extracting("status"),
        "download_target_extractor": _extracting("signed_url"),
        "creation_requester": _requester(url, "/v1/jobs", "POST", request_body_json=create),
        "polling_requester": _requester(url, "/v1/jobs/{{ creation_response['id'] }}"),
        "download_target_requester": _requester(url, "/v1/jobs/{{ polling_response['id'] }}/result"),
        "download_requester": _requester(url, f"{{{{ download_target[{len(url)}:] }}}}"),
        "download_extractor": _extracting("results", "*"),
        "partition_router": {"type": "ListPartitionRouter", "values": batches, "cursor_field": "ids"},
    }
    schema = {"type": "InlineSchemaLoader", "schema": {"type": "object", "properties": {}}}
    stream = {"type": "DeclarativeStream", "name": "rows", "retriever": retriever, "schema_loader": schema}
    return {
        "version": "7.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": ["rows"]},
        "streams": [stream],
        "max_concurrent_async_job_count": in_flight,
        "concurrency_level": {"type": "ConcurrencyLevel", "default_concurrency": 8},
    }


def whole(*, url: str, source: str, batch: int, in_flight: int) -> dict[str, Any]:
    """A contestant: read the stream, write each record as a line."""
    import orjson
    from airbyte_cdk.models import (
        ConfiguredAirbyteCatalog,
        ConfiguredAirbyteStream,
        DestinationSyncMode,
        SyncMode,
        Type,
    )
    from airbyte_cdk.sources.declarative.concurrent_declarative_source import ConcurrentDeclarativeSource

    logging.disable(logging.WARNING)
    batches: list[str] = []
    with Path(source).open("rb") as file:
        while lines := list(islice(file, batch)):
            batches.append(" ".join(orjson.loads(line)["id"] for line in lines))
    rows = sum(len(text.split(" ")) for text in batches)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = Path(folder) / "out.ndjson"
        gc.collect()
        with Meter() as meter, out.open("wb") as sink:
            airbyte = ConcurrentDeclarativeSource(
                catalog=None, config={}, state=None, source_config=manifest(url, batches, in_flight)
            )
            found = airbyte.discover(logging.getLogger("bench"), {}).streams
            configured = [ConfiguredAirbyteStream(found[0], SyncMode.full_refresh, DestinationSyncMode.append)]
            catalog = ConfiguredAirbyteCatalog(streams=configured)
            for message in airbyte.read(logging.getLogger("bench"), {}, catalog, []):
                if message.type == Type.RECORD:
                    sink.write(orjson.dumps(message.record.data, option=orjson.OPT_APPEND_NEWLINE))
        written = out.read_bytes().count(b"\n")
    if written != rows:
        raise Failed(f"{rows} rows were read and {written} written")
    return meter.answer(rows)
