"""Probing: a name, a connection and a certificate, each with its own failure."""

import asyncio
import ssl
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine.errors import CertificateRefused, ConnectFailed
from engine.transport.probing import addresses_of, certificate_ends_s, connect, is_proxied

pytestmark = pytest.mark.anyio


async def test_a_name_is_resolved_or_that_is_said() -> None:
    """This machine's own name has an address; a name that cannot be one has none."""
    assert set(await addresses_of("localhost", 80, timeout_s=5)) & {"127.0.0.1", "::1"}
    with pytest.raises(ConnectFailed) as caught:
        await addresses_of("a" * 70 + ".example", 80, timeout_s=5)
    assert caught.value.facts["reason"] == "dns"


async def test_a_port_nobody_listens_on_is_no_connection() -> None:
    """A connection is made where somebody listens, and refused where nobody does."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await connect("127.0.0.1", port, timeout_s=5)
    server.close()
    await server.wait_closed()

    with pytest.raises(ConnectFailed):
        await connect("127.0.0.1", port, timeout_s=5)


async def test_a_certificate_is_judged_as_requests_judge_it(tmp_path, monkeypatch) -> None:
    """One that nobody trusts is refused; one of a trusted authority says when it ends."""
    certificate, key = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(CertificateRefused):
            await certificate_ends_s("localhost", port, timeout_s=5)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        ends_s = await certificate_ends_s("localhost", port, timeout_s=5)
    finally:
        server.close()

    assert 0 < ends_s - time.time() < 3 * 86_400


async def test_a_proxy_is_asked_in_our_place(monkeypatch) -> None:
    """With a proxy in the environment, name and certificate are its business, except for this machine."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "near.example")

    assert is_proxied("https", "far.example")
    assert not is_proxied("https", "near.example")
    assert not is_proxied("http", "far.example")


def _certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"
