"""Collector: an OTLP collector with moods, on a thread of its own, for whoever doubts that a sick one costs spans only.

It reads what it is sent and keeps none of it. Loopback only; nothing of the engine's telemetry is known here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HANG_S = 60.0


class MoodyCollector(ThreadingHTTPServer):
    """Takes `good` requests, and does to the others what `mood` says: a status, `hang` or `close`."""

    daemon_threads = True

    def __init__(self, mood: str, good: int = 0, *, retry_after: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.mood, self.good, self.retry_after = mood, good, retry_after
        self.asked = self.ill = 0
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Where it listens, as `OTEL_EXPORTER_OTLP_ENDPOINT` takes it."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: object) -> None:
        """Whoever hung up is no error here."""


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: MoodyCollector

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked += 1
        if self.server.asked <= self.server.good:
            self._say(200)
            return
        self.server.ill += 1
        match self.server.mood:
            case "hang":
                self.server.over.wait(_HANG_S)
            case "close":
                self.close_connection = True
            case status:
                self._say(int(status))

    def _say(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if status // 100 != 2 and self.server.retry_after is not None:
            self.send_header("Retry-After", self.server.retry_after)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def collecting(mood: str, good: int = 0, *, retry_after: str | None = None) -> Iterator[MoodyCollector]:
    """A collector of this mood that answers until the block ends; whoever hangs then is let go."""
    with MoodyCollector(mood, good, retry_after=retry_after) as collector:
        thread = threading.Thread(target=collector.serve_forever, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.over.set()
            collector.shutdown()
            thread.join()
