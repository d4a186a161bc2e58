"""A collector on loopback that keeps what it was sent, and listeners for facts."""

import gzip
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from engine.events import Event, SpanEnded, Warned

TRACE = "0af7651916cd43dd8448eb211c80319c"


@dataclass
class Answer:
    """What the collector says to one request; `gate`, if given, is waited for first."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    gate: threading.Event | None = None
    hang_up: bool = False


@dataclass
class Received:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def spans(self) -> list[Any]:
        """The spans of the request, as the official decoder reads them."""
        body = gzip.decompress(self.raw) if self.headers.get("content-encoding") == "gzip" else self.raw
        request = ExportTraceServiceRequest.FromString(body)
        return [span for r in request.resource_spans for s in r.scope_spans for span in s.spans]

    @property
    def resource(self) -> dict[str, str]:
        """The resource's attributes."""
        (spans,) = ExportTraceServiceRequest.FromString(self.raw).resource_spans
        return {item.key: item.value.string_value for item in spans.resource.attributes}


class LoopbackCollector:
    """Keeps every request; answers 200, or whatever `answers` holds next."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.received: queue.Queue[Received] = queue.Queue()
        self.answers: queue.Queue[Answer] = queue.Queue()
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.received.put(Received(self.path, headers, body))
                outer.reply(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A thread that holds an answer back must not keep the test from ending.
        self._server.daemon_threads = True
        self._server.block_on_close = False
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"

    def reply(self, handler: BaseHTTPRequestHandler) -> None:
        try:
            answer = self.answers.get_nowait()
        except queue.Empty:
            answer = Answer()
        if answer.gate is not None:
            answer.gate.wait(30)
        if answer.hang_up:
            handler.close_connection = True
            return
        try:
            handler.send_response(answer.status)
            for name, value in {**answer.headers, "content-length": str(len(answer.body))}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(answer.body)
        except OSError:
            handler.close_connection = True

    def next(self) -> Received:
        return self.received.get(timeout=20)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Recorder:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def notice(self, event: Event) -> None:
        self.events.append(event)

    @property
    def warned(self) -> list[Warned]:
        return [event for event in self.events if isinstance(event, Warned)]


@pytest.fixture
def collector() -> Iterator[LoopbackCollector]:
    server = LoopbackCollector()
    yield server
    server.close()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A PEM file with a key and its self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "collector")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path / "collector.pem"
    path.write_bytes(secret + made.public_bytes(pem))
    return path


@pytest.fixture
def tls_collector(certificate: Path) -> Iterator[LoopbackCollector]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = LoopbackCollector(context)
    yield server
    server.close()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def dead_url() -> str:
    """A URL on loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def mute_url() -> Iterator[str]:
    """A URL on loopback that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def answer() -> type[Answer]:
    return Answer


@pytest.fixture
def span() -> Callable[..., SpanEnded]:
    def make(number: int = 1, **fields: Any) -> SpanEnded:
        usual: dict[str, Any] = {
            "trace_id": TRACE,
            "span_id": f"{number:016x}",
            "parent_span_id": None,
            "name": "job",
            "kind": "internal",
            "start_ns": 1_700_000_000_000_000_001,
            "end_ns": 1_700_000_001_000_000_002,
            "attributes": {},
        }
        return SpanEnded(**(usual | fields))

    return make
