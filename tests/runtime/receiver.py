"""A receiver of batches on loopback that honours Idempotency-Key, with answers that a test scripts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Seen(NamedTuple):
    """A request: its method, headers in small letters, and rows."""

    method: str
    headers: dict[str, str]
    rows: list[dict[str, Any]]


class Receiver:
    """What came, what was taken under which key, and how to answer: `script` is used up from its front.

    An answer is a status, a status with headers, or "lost": taken, and the connection closed without a word.
    """

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.taken: dict[str, list[dict[str, Any]]] = {}
        self.script: list[int | str | tuple[int, dict[str, str]]] = []
        self.refuses: set[str] = set()
        self.url = ""
        self.lock = threading.Lock()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every row that was taken, once for each key."""
        return [row for rows in self.taken.values() for row in rows]


def _rows(kind: str, body: bytes) -> list[dict[str, Any]]:
    return json.loads(body) if kind == "application/json" else [json.loads(line) for line in body.splitlines()]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    receiver: Receiver

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): text for name, text in self.headers.items()}
        rows, key = _rows(headers["content-type"], body), headers["idempotency-key"]
        receiver = self.receiver
        with receiver.lock:
            receiver.seen.append(Seen(self.command, headers, rows))
            answer = receiver.script.pop(0) if receiver.script else 204
            if answer == 204 and any(str(row.get("id")) in receiver.refuses for row in rows):
                answer = 422
            if answer in (204, "lost"):
                receiver.taken.setdefault(key, rows)
        if answer == "lost":
            self.close_connection = True
            self.connection.close()
            return
        status, more = answer if isinstance(answer, tuple) else (int(answer), {})
        said = b"" if status == 204 else f"no: {headers.get('authorization', '')}".encode()
        self.send_response(status)
        for name, text in more.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_PUT = _answer  # noqa: N815 - the names that the library calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for as long as the block lasts."""
    receiver = Receiver()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"receiver": receiver}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}/rows"
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
