"""An issuer with keys, which signs whatever it is asked to, lies included."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from engine.transport.incoming import Incoming, Outgoing
from engine.transport.listener import Listener
from engine.transport.pooled import PooledTransport

ISSUER = "https://auth.example"
AUDIENCE = "https://api.example"
NOW_S = 1_778_241_600.0


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def as_json(value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


class Issuer:
    def __init__(self) -> None:
        self._keys: dict[str, rsa.RSAPrivateKey] = {}

    def key(self, kid: str = "k1", bits: int = 2048) -> rsa.RSAPrivateKey:
        if kid not in self._keys:
            self._keys[kid] = rsa.generate_private_key(65537, bits)
        return self._keys[kid]

    def jwk(self, kid: str = "k1", bits: int = 2048, **more: Any) -> dict[str, Any]:
        numbers = self.key(kid, bits).public_key().public_numbers()
        n = numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)
        return {"kty": "RSA", "kid": kid, "use": "sig", "n": b64(n), "e": b64(b"\x01\x00\x01")} | more

    def jwks(self, *kids: str) -> bytes:
        return json.dumps({"keys": [self.jwk(kid) for kid in kids or ("k1",)]}).encode()

    def public_forms(self, kid: str = "k1") -> dict[str, bytes]:
        """The public key in the encodings that an HMAC was ever confused to take as its secret."""
        public = self.key(kid).public_key()
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = public.public_bytes(serialization.Encoding.PEM, info)
        der = public.public_bytes(serialization.Encoding.DER, info)
        return {
            "pem": pem,
            "der": der,
            "jwk": json.dumps(self.jwk(kid)).encode(),
            "jwks": self.jwks(kid),
            "bom": b"\xef\xbb\xbf" + pem,
            "base64": base64.b64encode(der),
        }

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Good claims; a change to None takes the claim away."""
        good = {
            "iss": ISSUER, "aud": AUDIENCE, "sub": "app_1", "client_id": "app_1", "tenant_id": "tnt_1",
            "organization_id": "org_1", "iat": NOW_S - 10, "exp": NOW_S + 3600, "jti": "j1",
            "scope": "argus:jobs:read argus:jobs:write",
        }  # fmt: skip
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(self, claims: Any = None, header: Any = None, *, kid: str = "k1") -> str:
        head = {"alg": "RS256", "typ": "at+jwt", "kid": kid} if header is None else header
        signed = f"{b64(as_json(head))}.{b64(as_json(self.claims() if claims is None else claims))}"
        signature = self.key(kid).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{b64(signature)}"

    def hmac_token(self, secret: bytes, *, alg: str = "HS256") -> str:
        head = {"alg": alg, "typ": "at+jwt", "kid": "k1"}
        signed = f"{b64(as_json(head))}.{b64(as_json(self.claims()))}"
        return f"{signed}.{b64(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


class Server:
    """A loopback server that answers what `answer` says and counts."""

    def __init__(self) -> None:
        self.seen: list[Incoming] = []
        self.answer: Callable[[Incoming], Outgoing] = lambda _: Outgoing(status=404)
        self._listener = Listener(self._handle)

    async def _handle(self, incoming: Incoming) -> Outgoing:
        self.seen.append(incoming)
        return self.answer(incoming)

    async def start(self) -> None:
        await self._listener.start()
        self.url = self._listener.origin

    async def aclose(self) -> None:
        await self._listener.aclose()


@pytest.fixture
async def server():
    server = Server()
    await server.start()
    yield server
    await server.aclose()


@pytest.fixture
async def elsewhere():
    server = Server()
    await server.start()
    yield server
    await server.aclose()


@pytest.fixture
async def transport():
    transport = PooledTransport()
    yield transport
    await transport.aclose()
