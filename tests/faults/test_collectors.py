"""F37: a telemetry collector that is down, slow or refuses costs spans, never rows, and no more than five seconds."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from engine.chaos.collector import MoodyCollector, collecting
from tests.faults.injectors import write_pipeline, write_rows
from tests.runtime.process import engine, report_of, rows_in

_ROWS = 200
_SHUTDOWN_S = 5.0
_STARTING_S = 8.0  # A handful of them start together.
_MOODS = ("400", "429", "503", "hang", "close")


def _run(platform: dict[str, Any], directory: Path, name: str, endpoint: str) -> tuple[dict[str, Any], str]:
    write_rows(directory, _ROWS)
    started = time.monotonic()
    code, out, err = engine(
        ["run", write_pipeline(directory, name), "--json"],
        cwd=directory,
        ENGINE__PLATFORM__EMULATOR__URL=platform["url"],
        OTEL_EXPORTER_OTLP_ENDPOINT=endpoint,
        OTEL_BSP_SCHEDULE_DELAY="100",
        OTEL_BSP_MAX_EXPORT_BATCH_SIZE="32",
    )
    took_s = time.monotonic() - started
    assert code == 0, err
    report = report_of(out)
    assert took_s < report["seconds"] + _SHUTDOWN_S + _STARTING_S
    assert (report["accepted"], report["open"]) == (_ROWS, 0)
    assert len(rows_in(directory / "out")) == _ROWS
    return report, err


@pytest.mark.parametrize("good", [0, 1], ids=["from the start", "mid-run"])
def test_f37_a_collector_that_is_ill_costs_spans_only(platform: dict[str, Any], tmp_path: Path, good: int) -> None:
    """Refusing, overloaded, silent, hanging up: each run ends with all rows in time, and says how much was lost."""

    def one(mood: str) -> tuple[int, str]:
        directory = tmp_path / mood
        directory.mkdir()
        with collecting(mood, good) as collector:
            _, err = _run(platform, directory, f"collector-{mood}-{good}", collector.url)
            return collector.ill, err

    with ThreadPoolExecutor(len(_MOODS)) as together:
        for ill, err in together.map(one, _MOODS):
            assert ill > 0
            assert "telemetry.dropped" in err
            assert "spans were lost" in err


def test_f37_a_collector_that_is_down_costs_spans_only(platform: dict[str, Any], tmp_path: Path) -> None:
    """Nobody listens at its port: said once while it runs, counted at its end."""
    with MoodyCollector("close", 0) as collector:
        url = collector.url
    _, err = _run(platform, tmp_path, "collector-down", url)
    assert err.count("telemetry.undelivered") <= 1
    assert err.count("telemetry.dropped") == 1
