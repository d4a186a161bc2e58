"""Dialing: which address is connected to, in what order, and whose certificate is believed."""

import asyncio
import socket
import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.contract.exchange import Request
from engine.errors import BrokenAnswer, CertificateRefused, ConnectFailed, TimedOut, TrustError
from engine.transport import dialing, pace
from engine.transport.guard import Guard
from tests.transport.conftest import open_direct

pytestmark = pytest.mark.anyio

PEM = serialization.Encoding.PEM
YEAR = timedelta(days=365)


def get(url, **more):
    return Request("GET", url, {}, route="test.get", **{"timeout_s": 10.0, **more})


async def drained(transport, request):
    async with transport.stream(request) as body:
        return b"".join([chunk async for chunk in body.chunks()])


# Addresses ---------------------------------------------------------------------------------------


@pytest.fixture
def nobody():
    """A port of 127.0.0.2 where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.2", 0))
        yield sock


@pytest.fixture
def silent():
    """An address of 127.0.0.3 that takes no more connections and refuses none: its line is full."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.3", 0))
        sock.listen(0)
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
            fillers.append(filler)
        yield sock
        for filler in fillers:
            filler.close()


def leading_to(*places, **options):
    """A transport for which every name leads to these places."""
    transport = open_direct(**options)

    async def resolve(host, port):
        return [(socket.AF_INET, place) for place in places]

    transport._dialer._resolve = resolve
    return transport


def place_of(server):
    return "127.0.0.1", int(server.url.rpartition(":")[2])


async def test_the_next_address_is_tried_where_one_refuses(server, nobody) -> None:
    """A host is reached if any of its addresses is."""
    transport = leading_to(nobody.getsockname(), nobody.getsockname(), place_of(server))
    try:
        assert (await transport.send(get("http://host.example/"))).body == b"ok"
    finally:
        await transport.aclose()
    assert server.seen[0].headers["host"] == "host.example"


async def test_an_address_that_is_silent_delays_little(server, silent, monkeypatch) -> None:
    """The next one is tried beside it, and the slow one let go of (RFC 8305)."""
    monkeypatch.setattr(dialing, "_STAGGER_S", 0.01)
    transport = leading_to(silent.getsockname(), silent.getsockname(), place_of(server))
    try:
        assert (await transport.send(get("http://host.example/"))).body == b"ok"
    finally:
        await transport.aclose()


async def test_no_address_takes_the_connection(nobody) -> None:
    """Where all refuse, the last refusal is what is told."""
    transport = leading_to(nobody.getsockname(), nobody.getsockname())
    try:
        for _ in range(40):
            with pytest.raises(ConnectFailed, match="refused"):
                await transport.send(get("http://host.example/"))
    finally:
        await transport.aclose()


@pytest.mark.parametrize("places", [1, 2])
async def test_a_connection_has_its_own_deadline(silent, monkeypatch, places) -> None:
    """A host that does not take the connection is given up long before a request would be, and nothing was sent."""
    monkeypatch.setattr(pace, "CONNECT_TIMEOUT_S", 0.05)
    monkeypatch.setattr(dialing, "_STAGGER_S", 0.01)
    transport = leading_to(*[silent.getsockname()] * places)
    try:
        with pytest.raises(ConnectFailed, match="no connection in time"):
            await transport.send(get("http://host.example/"))
    finally:
        await transport.aclose()


async def test_a_name_that_leads_nowhere(server) -> None:
    """No address at all is a name that does not resolve; so is a name that cannot be looked up."""
    transport = leading_to()
    try:
        with pytest.raises(ConnectFailed, match="could not be resolved"):
            await transport.send(get("http://host.example/"))
    finally:
        await transport.aclose()
    transport = open_direct()
    try:
        for host in ("a..b", "x" * 64 + ".example", "y" * 300):
            with pytest.raises(ConnectFailed, match="could not be resolved"):
                await transport.send(get(f"http://{host}/"))
    finally:
        await transport.aclose()


async def test_t10_every_address_of_a_name_is_judged_before_any_is_tried(server, nobody) -> None:
    """T10: one that leads inside refuses the name, also where a public one comes first."""
    transport = leading_to(("8.8.8.8", 9), place_of(server), guard=Guard())
    try:
        with pytest.raises(TrustError, match="is not a public address"):
            await transport.send(get("http://results.example/"))
    finally:
        await transport.aclose()
    assert server.seen == []


async def test_a_peer_that_hangs_up_before_anything_was_sent(monkeypatch) -> None:
    """Whatever is said of it, it is a failure of the network, and the place is free again."""
    server = await asyncio.start_server(lambda _, writer: writer.transport.abort(), "127.0.0.1", 0)
    transport = open_direct(concurrency=1)
    try:
        for _ in range(20):
            with pytest.raises((ConnectFailed, BrokenAnswer)):
                await transport.send(get(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"))
    finally:
        await transport.aclose()
        server.close()
        await server.wait_closed()


# Certificates ------------------------------------------------------------------------------------


class Authority:
    """Vouches for whoever asks."""

    def __init__(self, name="Test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(self._name, self._key, datetime.now(UTC))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(PEM)

    def vouch(self, path, *, host, until=YEAR):
        """The key and certificate of a host, as a file."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a server")])
        names = [x509.DNSName(host) if host[0].isalpha() else x509.IPAddress(ip_address(host))]
        builder = self._builder(name, key, now, until).add_extension(x509.SubjectAlternativeName(names), critical=False)
        private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        path.write_bytes(private + builder.sign(self._key, hashes.SHA256()).public_bytes(PEM))
        return path

    def _builder(self, name, key, now, until=YEAR):
        builder = x509.CertificateBuilder(self._name, name, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - 2 * YEAR).not_valid_after(now + until)
        return builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """The one authority that this process believes."""
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


class TlsServer:
    """Answers every request over TLS, and counts what it heard."""

    def __init__(self, certificate) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._context.sni_callback = lambda _, name, __: self.names.append(name)
        self.names: list[str | None] = []
        self.seen = self.connections = 0
        self.is_closing = False
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async def _serve(self, reader, writer) -> None:
        self.connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.seen += 1
                writer.write(self.answer)
                if self.is_closing:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context)
        self.place = self._server.sockets[0].getsockname()
        return self

    async def __aexit__(self, *_) -> None:
        self._server.close()
        await self._server.wait_closed()


async def test_a_host_that_proves_its_name_is_asked(authority, tmp_path) -> None:
    """By a name, which it is told (SNI), over a connection that is kept; `send` and `stream` alike."""
    async with TlsServer(authority.vouch(tmp_path / "host.pem", host="host.example")) as server:
        transport = leading_to(server.place)
        try:
            for _ in range(3):
                assert (await transport.send(get("https://host.example/"))).body == b"ok"
                assert await drained(transport, get("https://HOST.example/")) == b"ok"
        finally:
            await transport.aclose()
    assert (server.names, server.connections, server.seen) == (["host.example"], 1, 6)


async def test_a_host_that_is_an_address_proves_that(authority, tmp_path) -> None:
    """The certificate must name the address itself."""
    async with TlsServer(authority.vouch(tmp_path / "host.pem", host="127.0.0.1")) as server:
        transport = open_direct()
        try:
            assert (await transport.send(get(f"https://127.0.0.1:{server.place[1]}/"))).body == b"ok"
        finally:
            await transport.aclose()


DOUBTS = {
    "another name": {"host": "other.example"},
    "an address for a name": {"host": "127.0.0.1"},
    "expired": {"host": "host.example", "until": -YEAR},
}


@pytest.mark.parametrize("doubt", [*DOUBTS, "another authority"])
async def test_a_certificate_that_does_not_fit_is_refused(authority, tmp_path, doubt) -> None:
    """A wrong name, a date that has passed, an authority nobody knows: no connection, and not a byte was sent."""
    vouching = Authority() if doubt == "another authority" else authority
    certificate = vouching.vouch(tmp_path / "host.pem", **DOUBTS.get(doubt, {"host": "host.example"}))
    async with TlsServer(certificate) as server:
        transport = leading_to(server.place, concurrency=1)
        try:
            for _ in range(2):
                with pytest.raises(CertificateRefused):
                    await transport.send(get("https://host.example/"))
                with pytest.raises(CertificateRefused):
                    await drained(transport, get("https://host.example/"))
        finally:
            await transport.aclose()
    assert server.seen == 0


async def test_a_host_that_speaks_no_tls(server, raw) -> None:
    """Plain HTTP where TLS was asked for is no connection, in whatever way it fails."""
    transport = leading_to(place_of(server), concurrency=1)
    try:
        for _ in range(2):
            with pytest.raises((CertificateRefused, ConnectFailed)):
                await transport.send(get("https://host.example/", timeout_s=2.0))
    finally:
        await transport.aclose()
    assert server.seen == []


async def test_a_handshake_that_never_ends_is_given_up(monkeypatch) -> None:
    """It is part of the connection, under the same deadline; and whoever is cancelled in it leaves nothing behind."""
    arrived, held = asyncio.Event(), []

    def hold(_, writer) -> None:
        held.append(writer)
        arrived.set()

    monkeypatch.setattr(pace, "CONNECT_TIMEOUT_S", 0.1)
    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    transport = leading_to(server.sockets[0].getsockname(), concurrency=1)
    try:
        with pytest.raises(ConnectFailed, match="no connection in time"):
            await transport.send(get("https://host.example/"))
        arrived.clear()
        task = asyncio.create_task(transport.send(get("https://host.example/")))
        await asyncio.wait_for(arrived.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ConnectFailed):
            await transport.send(get("https://host.example/"))
    finally:
        await transport.aclose()
        for writer in held:
            writer.transport.abort()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_t14_an_answer_cut_under_tls_is_never_whole(authority, tmp_path, answer) -> None:
    """T14: as without TLS; and silence there ends in a time-out."""
    async with TlsServer(authority.vouch(tmp_path / "host.pem", host="host.example")) as server:
        transport = leading_to(server.place)
        try:
            server.answer = answer
            with pytest.raises(TimedOut):
                await transport.send(get("https://host.example/", timeout_s=0.3))
            server.is_closing = True
            with pytest.raises(BrokenAnswer):
                await transport.send(get("https://host.example/"))
        finally:
            await transport.aclose()


async def test_large_bodies_pass_under_tls_in_both_directions(authority, tmp_path) -> None:
    """Millions of bytes go up in one request, and come down to a reader that pauses; the connection is kept."""
    body = bytes(range(256)) * 20_000

    class Echo(TlsServer):
        async def _serve(self, reader, writer) -> None:
            self.connections += 1
            try:
                while True:
                    await reader.readuntil(b"\r\n\r\n")
                    sent = await reader.readexactly(len(body))
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(sent) + sent)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

    async with Echo(authority.vouch(tmp_path / "host.pem", host="host.example")) as server:
        transport = leading_to(server.place)
        request = Request("POST", "https://host.example/", {}, body, timeout_s=10.0)
        try:
            assert (await transport.send(request)).body == body
            read = []
            async with transport.stream(request) as answer:
                async for chunk in answer.chunks():
                    read.append(chunk)
                    if len(read) == 1:
                        paused = asyncio.Event()
                        asyncio.get_running_loop().call_later(0.05, paused.set)
                        await paused.wait()
            assert b"".join(read) == body
            assert max(map(len, read)) <= 65_536
            assert (await transport.send(request)).body == body
        finally:
            await transport.aclose()
    assert server.connections == 1
