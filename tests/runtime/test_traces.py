"""One trace per job, told to a collector and to the platform alike, also across a kill."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.collector import collecting
from tests.runtime.process import CITIES, engine, finish, standing_emulator, start

_PIPELINE = """
version = 1
name    = "traced"
[source]
type  = "csv"
paths = ["{cities}"]
key   = "city_id"
[job]
kind  = "import.bulk"
batch = {{ rows = 300 }}
[job.payload]
entity_type = "location"
mapping     = {{ city_id = "external_id", name = "label" }}
[sink]
type   = "ndjson"
path   = "out"
"""


@pytest.fixture(scope="module")
def emulator() -> Iterator[dict[str, Any]]:
    """A platform that stands alone."""
    with standing_emulator("--latency", "0.5s") as ready:
        yield ready


def _jobs(cwd: Path, **extra: str) -> list[dict[str, Any]]:
    code, out, err = engine(["jobs", "ls", "traced", "--json"], cwd=cwd, **extra)
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_a_collector_gets_one_trace_per_job_and_the_platform_has_the_same(
    emulator: dict[str, Any], tmp_path: Path
) -> None:
    """Each job's trace holds its root, create and result; the platform's spans hang below ours."""
    (tmp_path / "p.toml").write_text(_PIPELINE.format(cities=CITIES))
    with collecting() as collector:
        extra = {"ENGINE__PLATFORM__EMULATOR__URL": emulator["url"], "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        code, _, err = engine(["run", "p.toml", "--json"], cwd=tmp_path, **extra)
        assert code == 0, err
        jobs = _jobs(tmp_path, **extra)
        assert len(jobs) == 4
        for job in jobs:
            spans = {span.span_id.hex(): span for span in collector.traces[job["trace_id"]]}
            names = sorted(span.name for span in spans.values())
            root = spans[job["span_id"]]
            assert root.name == "job import.bulk"
            assert not root.parent_span_id
            assert "POST /v1/jobs" in names
            assert "GET /v1/jobs/{id}/result" in names
            assert all(span.parent_span_id.hex() in spans for span in spans.values() if span is not root)
            code, out, err = engine(
                ["call", "tracing.get", json.dumps({"trace_id": job["trace_id"]})], cwd=tmp_path, **extra
            )
            assert code == 0, err
            tree = json.loads(out)
            assert tree["trace_id"] == job["trace_id"]
            created = next(span for span in tree["spans"] if span["name"].startswith("POST /v1/jobs"))
            assert spans[created["parent_span_id"]].name == "POST /v1/jobs"
        job_traces = {job["trace_id"] for job in jobs}
        others = {trace for trace in collector.traces if trace not in job_traces}
        assert {span.name for trace in others for span in collector.traces[trace]} >= {"run traced"}


def test_a_killed_run_goes_on_in_the_same_traces(emulator: dict[str, Any], tmp_path: Path) -> None:
    """Killed while its jobs run, the next process ends each job in the trace it began in."""
    (tmp_path / "p.toml").write_text(_PIPELINE.format(cities=CITIES).replace('"traced"', '"traced-killed"'))
    with collecting() as collector:
        extra = {"ENGINE__PLATFORM__EMULATOR__URL": emulator["url"], "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        victim = start(["run", "p.toml", "--json"], cwd=tmp_path, **extra)
        with suppress(subprocess.TimeoutExpired):
            victim.wait(timeout=1.1)
        victim.kill()
        finish(victim)
        code, _, err = engine(["run", "p.toml", "--json"], cwd=tmp_path, **extra)
        assert code == 0, err
        code, out, err = engine(["jobs", "ls", "traced-killed", "--json"], cwd=tmp_path, **extra)
        for job in map(json.loads, out.splitlines()):
            roots = [span for span in collector.traces[job["trace_id"]] if not span.parent_span_id]
            assert [span.span_id.hex() for span in roots] == [job["span_id"]]
            assert roots[0].start_time_unix_nano == job["planned_ns"]
