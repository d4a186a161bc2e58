"""F37: a telemetry collector that is down, slow or refuses costs spans, never rows, and no more than five seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.faults.injectors import write_pipeline, write_rows
from tests.runtime.process import engine, report_of, rows_in

_ROWS = 200
_SHUTDOWN_S = 5.0
_STARTING_S = 8.0  # A handful of them start together.
_MOODS = ("400", "429", "503", "hang", "close")


class _Collector(ThreadingHTTPServer):
    """Takes `good` requests, and does to the others what `mood` says: a status, `hang` or `close`."""

    daemon_threads = True

    def __init__(self, mood: str, good: int) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.mood, self.good = mood, good
        self.asked = self.ill = 0
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Whoever hung up is no error here."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Collector

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        if self.server.asked <= self.server.good:
            self._say(200)
            return
        self.server.ill += 1
        match self.server.mood:
            case "hang":
                self.server.over.wait(60)
            case "close":
                self.close_connection = True
            case status:
                self._say(int(status))

    def _say(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def _collecting(mood: str, good: int) -> Iterator[_Collector]:
    with _Collector(mood, good) as collector:
        thread = threading.Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.over.set()
            collector.shutdown()
            thread.join()


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
        with _collecting(mood, good) as collector:
            _, err = _run(platform, directory, f"collector-{mood}-{good}", collector.url)
            return collector.ill, err

    with ThreadPoolExecutor(len(_MOODS)) as together:
        for ill, err in together.map(one, _MOODS):
            assert ill > 0
            assert "telemetry.dropped" in err
            assert "spans were lost" in err


def test_f37_a_collector_that_is_down_costs_spans_only(platform: dict[str, Any], tmp_path: Path) -> None:
    """Nobody listens at its port: said once while it runs, counted at its end."""
    with _Collector("close", 0) as collector:
        url = collector.url
    _, err = _run(platform, tmp_path, "collector-down", url)
    assert err.count("telemetry.undelivered") <= 1
    assert err.count("telemetry.dropped") == 1
