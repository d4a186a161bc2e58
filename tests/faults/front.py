"""The road to a platform: a name server and a TLS front of the test's own, which fall ill and are repaired."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "platform.test"
ADDRESS = f"127.53.{os.getpid() >> 8 & 255}.{(os.getpid() & 255) or 1}"
_OFTEN = 6
_RCODES = {"good": 0, "SERVFAIL": 2, "NXDOMAIN": 3}


class Names(asyncio.DatagramProtocol):
    """A name server on port 53 of an address of its own; `mood` is `good`, `SERVFAIL`, `NXDOMAIN` or `silent`.

    `persisted` is set when it was asked several times while ill.
    """

    def __init__(self) -> None:
        self.mood = "good"
        self.asked = 0
        self.persisted = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        if self.mood != "good" and self.asked >= _OFTEN:
            self.persisted.set()
        if self.mood == "silent":
            return
        end = data.index(b"\0", 12) + 5
        (kind,) = struct.unpack("!H", data[end - 4 : end - 2])
        has_address = self.mood == "good" and kind == 1
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | _RCODES[self.mood], 1, int(has_address), 0, 0)
        found = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + bytes((127, 0, 0, 1)) if has_address else b""
        self.transport.sendto(head + data[12:end] + found, addr)


class Front:
    """Ends TLS in front of a plain server; `show` changes what it has to show, on the same port."""

    def __init__(self, directory: Path, upstream_port: int) -> None:
        self.port = 0
        self.met = 0
        self.authority = directory / "authority.pem"
        self._upstream_port = upstream_port
        self._contexts = _contexts(directory, self.authority)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://{HOST}:{self.port}"

    async def show(self, mood: str) -> None:
        """Break off what is open, and go on so: a certificate, `dropped` in the handshake, or `gone` altogether."""
        await self.aclose()
        self.met = 0
        if mood != "gone":
            loop, context = asyncio.get_running_loop(), self._contexts.get(mood)
            meet = self._drop if context is None else self._welcome
            self._server = await loop.create_server(meet, sock=self._socket(), ssl=context)

    async def aclose(self) -> None:
        """Nobody listens any more."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    def _socket(self) -> socket.socket:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        return listening

    def _welcome(self) -> asyncio.BaseProtocol:
        self.met += 1
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._relay)

    def _drop(self) -> asyncio.BaseProtocol:
        self.met += 1
        return _Dropping()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        both = {writer, up_writer}
        self._writers |= both
        try:
            await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))
        finally:
            self._writers -= both


class _Dropping(asyncio.Protocol):
    """Hangs up, with a reset, on the first bytes of a handshake."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def _contexts(directory: Path, authority: Path) -> dict[str, ssl.SSLContext]:
    ours, stranger = _Authority("ours"), _Authority("a stranger")
    authority.write_bytes(ours.certificate.public_bytes(serialization.Encoding.PEM))
    now = datetime.now(UTC)
    papers = {
        "good": ours.vouch(HOST, now + timedelta(days=1)),
        "expired": ours.vouch(HOST, now - timedelta(days=1)),
        "another's name": ours.vouch("elsewhere.test", now + timedelta(days=1)),
        "unknown authority": stranger.vouch(HOST, now + timedelta(days=1)),
    }
    contexts = {}
    for number, (mood, pem) in enumerate(papers.items()):
        path = directory / f"host-{number}.pem"
        path.write_bytes(pem)
        contexts[mood] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        contexts[mood].load_cert_chain(path)
    return contexts


class _Authority:
    """A certificate authority of the test's own."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        end = datetime.now(UTC) + timedelta(days=2)
        self.certificate = self._sign(self._name, self._key, end, x509.BasicConstraints(True, None))

    def vouch(self, host: str, end: datetime) -> bytes:
        """A key and a certificate for a host, as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._sign(subject, key, end, x509.SubjectAlternativeName([x509.DNSName(host)]))
        encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
        private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
        return private + certificate.public_bytes(encoding)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, end: datetime, extension: x509.ExtensionType
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(datetime.now(UTC) - timedelta(days=3)).not_valid_after(end)
        return builder.add_extension(extension, critical=True).sign(self._key, hashes.SHA256())
