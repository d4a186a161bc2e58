"""Both transports: what they put on the wire, what they take from it, and whose errors come out."""

import asyncio
import gzip
import socket
import ssl
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from engine.contract.exchange import Request
from engine.errors import (
    BrokenAnswer,
    CapExceeded,
    CertificateRefused,
    ConnectFailed,
    Retry,
    TimedOut,
    TransportError,
    TrustError,
)
from engine.transport.guard import Guard
from engine.transport.incoming import Outgoing

pytestmark = pytest.mark.anyio


@pytest.fixture
async def transport(open_wire):
    transport = open_wire(body_max=100_000)
    yield transport
    await transport.aclose()


def get(url, **more):
    return Request("GET", url, {"Accept": "*/*"}, route="test.get", template="/", **more)


async def drain(transport, request):
    async with transport.stream(request) as body:
        return body.status, [chunk async for chunk in body.chunks()]


async def test_a_request_leaves_as_it_was_given(server, transport) -> None:
    """Method, path, query, headers and body arrive unchanged, and nothing is added but what HTTP needs."""
    target = "/v1/a%2Fb/%7Ec?x=%20y&sig=a+b/=="
    request = Request("POST", server.url + target, {"X-One": "1", "Content-Type": "application/json"}, b"{}")

    response = await transport.send(request)

    seen = server.seen[0]
    assert (seen.method, seen.path, seen.body) == ("POST", "/v1/a%2Fb/%7Ec", b"{}")
    assert seen.query == {"x": " y", "sig": "a b/=="}
    assert set(seen.headers) == {"host", "x-one", "content-type", "content-length"}
    assert (response.status, response.body) == (200, b"ok")


async def test_connections_are_kept(server, transport) -> None:
    """Many requests in turn share one connection."""
    for _ in range(10):
        await transport.send(get(server.url))

    assert server.connections == 1


async def test_header_names_come_in_lower_case(server, transport) -> None:
    """An answer's headers are found by their lower-case names."""
    server.answer = [Outgoing(headers={"X-Argus-Trace-ID": "ab", "ETag": '"1"'})]

    headers = (await transport.send(get(server.url))).headers

    assert (headers["x-argus-trace-id"], headers["etag"]) == ("ab", '"1"')


async def test_cookies_are_not_kept(server, transport) -> None:
    """What one answer sets, no later request sends."""
    server.answer = [Outgoing(headers={"Set-Cookie": "a=b; Path=/"}), Outgoing()]
    await transport.send(get(server.url))
    await transport.send(get(server.url))

    assert "cookie" not in server.seen[1].headers


async def test_t11_redirects_are_answers(server, elsewhere, transport) -> None:
    """T11: a redirect is handed back, and its target hears nothing, least of all a credential."""
    server.answer = [Outgoing(status=302, headers={"Location": elsewhere.url})]
    request = Request("GET", server.url, {"Authorization": "Bearer secret"})

    response = await transport.send(request)

    assert (response.status, response.headers["location"]) == (302, elsewhere.url)
    assert elsewhere.seen == []


async def test_t13_nothing_is_inflated(server, transport) -> None:
    """T13: a compressed body arrives as it was on the wire, however much it would become."""
    bomb = gzip.compress(b"\0" * 50_000_000, 9)
    server.answer = [Outgoing(headers={"Content-Encoding": "gzip"}, body=bomb)]

    assert (await transport.send(get(server.url))).body == bomb
    assert b"".join((await drain(transport, get(server.url)))[1]) == bomb


async def test_a_body_over_the_cap_is_not_read(server, transport) -> None:
    """The cap holds for a declared length and for one that grows as it comes."""

    async def endless():
        while True:
            yield b"x" * 10_000

    server.answer = [Outgoing(body=b"x" * 100_001), Outgoing(body=endless())]
    for _ in range(2):
        with pytest.raises(CapExceeded, match="100000"):
            await transport.send(get(server.url))


async def test_a_stream_comes_in_pieces_of_64_kib_at_most(server, transport) -> None:
    """A large body is handed out piece by piece, whole, and is not held to the cap of `send`."""
    content = bytes(range(256)) * 4000
    server.answer = [Outgoing(body=content)]

    status, pieces = await drain(transport, get(server.url))

    assert (status, b"".join(pieces)) == (200, content)
    assert max(map(len, pieces)) <= 64 * 1024


async def test_a_stream_left_early_is_closed(server, transport) -> None:
    """Who leaves before the end does not get the rest in the next answer."""
    server.answer = [Outgoing(body=b"x" * 10_000_000), Outgoing(body=b"fine")]
    async with transport.stream(get(server.url)) as body:
        async for _ in body.chunks():
            break

    assert (await transport.send(get(server.url))).body == b"fine"


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Len",
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_t14_a_cut_or_damaged_answer_is_never_whole(raw, transport, reply) -> None:
    """T14: whatever is missing, `send` and `stream` say that the answer is broken."""
    raw.reply = reply

    with pytest.raises(BrokenAnswer):
        await transport.send(Request("POST", raw.url, {}, b"x"))
    with pytest.raises(BrokenAnswer):
        await drain(transport, Request("POST", raw.url, {}, b"x"))


async def test_t14_a_cut_gzip_body_of_the_promised_length_is_handed_on_as_it_is(raw, transport) -> None:
    """T14: whether a compressed body is whole is for the inflater to say; its bytes are not touched here."""
    cut = gzip.compress(b"0123456789" * 800)[:-10]
    raw.reply = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(cut) + cut

    assert (await transport.send(get(raw.url))).body == cut


async def test_silence_ends_in_a_time_out(raw, transport) -> None:
    """No answer, or half of one, within the deadline is a TimedOut."""
    raw.hold = True
    for reply in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"):
        raw.reply = reply
        with pytest.raises(TimedOut, match=r"test.get: no complete answer within 0.05 s"):
            await transport.send(get(raw.url, timeout_s=0.05))
        with pytest.raises(TimedOut):
            await drain(transport, get(raw.url, timeout_s=0.05))


async def test_a_closed_port_is_a_connection_that_failed(transport) -> None:
    """Where nobody listens, nothing was sent, and the error says so."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/?sig=secret"
        for attempt in (transport.send(get(url)), drain(transport, get(url))):
            with pytest.raises(ConnectFailed) as caught:
                await attempt
            assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://", "file:///etc/passwd", "data:,x", "nonsense", "http://127.1/", "http://[::1", "http://h:99999/"]
)
async def test_what_is_no_url_is_not_sent(transport, url) -> None:
    """A URL that cannot be connected to is our error, and quotes nothing."""
    with pytest.raises(TransportError) as caught:
        await transport.send(get(url))
    assert url not in str(caught.value)


async def test_a_name_that_does_not_resolve_is_a_connection_that_failed(transport) -> None:
    """A host that does not exist (RFC 2606) ends in ConnectFailed."""
    with pytest.raises(ConnectFailed, match="could not be resolved"):
        await transport.send(get("http://nobody.invalid/"))


async def test_a_header_that_would_break_the_line_is_not_sent(server, transport) -> None:
    """A value with a line end is refused before anything is sent."""
    with pytest.raises(ConnectFailed, match="cannot be written as HTTP"):
        await transport.send(Request("GET", server.url, {"Idempotency-Key": "a\r\nX: y"}))
    assert server.seen == []


@pytest.fixture
async def stranger(tmp_path):
    """A TLS server whose certificate nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1)
    builder = builder.not_valid_before(datetime(2020, 1, 1, tzinfo=UTC)).not_valid_after(
        datetime(2100, 1, 1, tzinfo=UTC)
    )
    pem = tmp_path / "stranger.pem"
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(encoding))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()
    await server.wait_closed()


async def test_a_certificate_nobody_vouches_for_is_refused(stranger, transport) -> None:
    """A host that cannot prove its name is no connection, with the certificate as the hint."""
    for attempt in (transport.send(get(stranger)), drain(transport, get(stranger))):
        with pytest.raises(CertificateRefused, match="certificate") as caught:
            await attempt
        assert caught.value.retry is Retry.HALT


class Names:
    """A name server that changes its mind: one answer, with commas in it, for each time it is asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)
        self.asked = 0

    def __call__(self, host: str) -> list[str]:
        address = self.addresses[min(self.asked, len(self.addresses) - 1)]
        self.asked += 1
        return address.split(",")


GUARDED = [
    "127.0.0.1", "127.0.0.2", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "localhost",
    "0.0.0.0", "169.254.169.254", "10.0.0.1", "100.64.0.1", "2130706433", "0x7f000001", "017700000001",
]  # fmt: skip


@pytest.mark.parametrize("host", GUARDED)
async def test_t10_no_way_to_write_an_inside_address_gets_through(server, open_wire, host) -> None:
    """T10: literals, numbers and names that lead inside are refused, and the server there hears nothing."""
    transport = open_wire(guard=Guard())
    url = f"http://{host}:{server.url.rpartition(':')[2]}/"
    try:
        for _ in range(2):
            with pytest.raises((TrustError, ConnectFailed)):
                await transport.send(get(url))
            with pytest.raises((TrustError, ConnectFailed)):
                await drain(transport, get(url))
    finally:
        await transport.aclose()
    assert server.seen == []


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("8.8.8.8,127.0.0.1",), ("127.0.0.1", "8.8.8.8")])
async def test_t10_a_name_is_judged_by_the_address_connected_to(server, open_wire, addresses) -> None:
    """T10: a name that resolves inside is refused, also among public addresses, whatever it says later."""
    transport = open_wire(guard=Guard(), names=Names(*addresses))
    try:
        with pytest.raises(TrustError, match="is not a public address"):
            await transport.send(get(server.url.replace("127.0.0.1", "results.example")))
    finally:
        await transport.aclose()
    assert server.seen == []


async def test_t10_a_name_that_rebinds_is_judged_at_every_connection(server, open_wire) -> None:
    """T10: what a name meant at the last check does not count at the next connection."""
    port = server.url.rpartition(":")[2]
    names = Names("127.0.0.1", "127.0.0.2")
    guard = Guard(allowed_hosts=frozenset((f"ours.example:{port}",)))
    transport = open_wire(guard=guard, names=names)
    try:
        assert (await transport.send(get(f"http://ours.example:{port}/"))).body == b"ok"
        with pytest.raises(TrustError):
            await transport.send(get(f"http://theirs.example:{port}/"))
    finally:
        await transport.aclose()
    assert len(server.seen) == 1
