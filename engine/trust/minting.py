"""Minting: RS256 keys that sign, and secrets stored so that they can only be compared.

What an issuer needs and a verifier never does: the emulator issues real tokens with it. Nothing here decides what
a token says, where a key is kept, or when it is replaced. Proving a token is `bearer`'s.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from engine.codec.payload import encode
from engine.contract.keys import Key
from engine.errors import TrustError

_BITS = 2048
_SALT_BYTES = 16
_padding = PKCS1v15()
_hash = SHA256()


class SigningKey:
    """An RSA private key and its name. Its text never shows the key."""

    __slots__ = ("_key", "kid")

    def __init__(self, kid: str, key: RSAPrivateKey) -> None:
        self.kid = kid
        self._key = key

    @classmethod
    def generate(cls, kid: str) -> SigningKey:
        """A fresh 2048 bit key; costs tens of milliseconds."""
        return cls(kid, generate_private_key(public_exponent=65537, key_size=_BITS))

    @classmethod
    def from_pem(cls, kid: str, pem: bytes) -> SigningKey:
        """Read a key that `pem` wrote.

        Raises:
            TrustError: not an RSA private key.
        """
        try:
            # Checking the primes takes 50 ms, and who could swap the key in our own file could swap it for a good one.
            key = load_pem_private_key(pem, password=None, unsafe_skip_rsa_key_validation=True)
        except (ValueError, TypeError) as exc:
            raise TrustError(f"signing key {kid} is not a private key in PEM") from exc
        if not isinstance(key, RSAPrivateKey):
            raise TrustError(f"signing key {kid} is not an RSA key")
        return cls(kid, key)

    def pem(self) -> bytes:
        """The private key in PKCS #8, unencrypted: keep it where only its owner can read."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, claims: dict[str, Any], *, typ: str) -> str:
        """A compact JWS (RFC 7515) with these claims, `alg` RS256 and this key's `kid`; costs about 1 ms."""
        header = {"alg": "RS256", "typ": typ, "kid": self.kid}
        message = b".".join((_base64url(encode(header)), _base64url(encode(claims))))
        signature = self._key.sign(message, _padding, _hash)
        return b".".join((message, _base64url(signature))).decode("ascii")

    def public_jwk(self) -> Key:
        """The public half as a JSON Web Key (RFC 7517, RFC 7518 section 6.3.1)."""
        numbers = self._key.public_key().public_numbers()
        return Key(
            kty="RSA", kid=self.kid, use="sig", alg="RS256", n=_base64url_uint(numbers.n), e=_base64url_uint(numbers.e)
        )

    def __repr__(self) -> str:
        return f"SigningKey({self.kid!r})"


def seal_secret(secret: str) -> bytes:
    """A salted digest to store in place of a secret.

    Plain SHA-256 is enough for secrets that a machine drew (256 random bits cannot be guessed); it would not be
    for a password that a person chose.
    """
    salt = os.urandom(_SALT_BYTES)
    return salt + hashlib.sha256(salt + secret.encode("utf-8", "surrogatepass")).digest()


def is_secret(secret: str, sealed: bytes) -> bool:
    """Whether this is the secret that was sealed; takes the same time either way."""
    salt, digest = sealed[:_SALT_BYTES], sealed[_SALT_BYTES:]
    return hmac.compare_digest(hashlib.sha256(salt + secret.encode("utf-8", "surrogatepass")).digest(), digest)


def challenge_of(verifier: str) -> str:
    """The S256 code challenge of a PKCE code verifier (RFC 7636 section 4.2)."""
    return _base64url(hashlib.sha256(verifier.encode("utf-8", "surrogatepass")).digest()).decode("ascii")


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _base64url_uint(value: int) -> str:
    return _base64url(value.to_bytes((value.bit_length() + 7) // 8)).decode("ascii")
