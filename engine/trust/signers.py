"""Signers: the two algorithms of provenance (contract 11.4), HMAC-SHA256 with a derived key and ML-DSA-65.

A signer signs and verifies, a verifier only verifies; both know bytes and hex, and nothing of transcripts. Swapping
a construction that the vendor's documents leave open (Q81, Q83) is a change to this file alone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.codec.canonical import canonical
from engine.contract.profile import PROFILE
from engine.contract.provenance import HMAC, ML_DSA, VerifyKey, VerifyKeys
from engine.errors import ConfigError, UnknownKey
from engine.settings import Secret

_JWK_ALG = "ML-DSA-65"
_KEYS_MAX = 16
_KEY_BYTES = 32
_MAC_DIGITS = 64
_BLOCK_BYTES = 64
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
# FIPS 204, table 2.
_SIGNATURE_BYTES = 3309


class Verifier(Protocol):
    """Proves signatures of one algorithm."""

    @property
    def algorithm(self) -> str:
        """Its name, as transcripts have it."""

    def is_signed(self, message: bytes, signature: str) -> bool:
        """Whether `signature`, bare lower-case hex, is of these bytes. Anything else is False, never an error."""

    def unsigned(self, messages: Sequence[bytes], signatures: Sequence[str]) -> list[int]:
        """The places of those messages that the signature at the same place is not of; as many calls of `is_signed`."""


class Signer(Verifier, Protocol):
    """Makes signatures as well."""

    def sign(self, message: bytes) -> str:
        """The signature in lower-case hex."""


def derive_key(master: bytes, tenant_id: str) -> bytes:
    """The HMAC key of a tenant: 32 bytes by HKDF-SHA256 (RFC 5869; salt and info as in contract 11.4)."""
    salt = PROFILE.provenance_salt.encode()
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=salt, info=tenant_id.encode()).derive(master)


def read_key(secret: Secret) -> bytes:
    """A tenant's derived key as it is handed over: 64 hex digits (Q86).

    Raises:
        ConfigError: it is something else.
    """
    try:
        return bytes.fromhex(secret.reveal().strip())
    except ValueError:
        # `from None`: the cause would quote a piece of the secret.
        raise ConfigError("a provenance key is written in hex digits", hint="give the 64 hex digits of it") from None


class HmacSigner:
    """HMAC-SHA256 with a tenant's derived key. Whoever can verify can sign: it is for the tenant's eyes only."""

    algorithm = HMAC

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ConfigError(
                f"a provenance key has {_KEY_BYTES} bytes, this one {len(key)}",
                hint="give the tenant's derived key, as 64 hex digits",
            )
        self._key = key
        # RFC 2104: the key, filled up to a block of SHA-256, under two pads.
        self._inner = hashlib.sha256(key.ljust(_BLOCK_BYTES, b"\0").translate(_INNER_PAD))
        self._outer = hashlib.sha256(key.ljust(_BLOCK_BYTES, b"\0").translate(_OUTER_PAD))

    def sign(self, message: bytes) -> str:
        """The signature in lower-case hex; about a microsecond."""
        return hmac.digest(self._key, message, "sha256").hex()

    def is_signed(self, message: bytes, signature: str) -> bool:
        """Whether the signature is of these bytes, compared in constant time and to the letter."""
        wanted = hmac.digest(self._key, message, "sha256").hex()
        return signature.isascii() and hmac.compare_digest(wanted, signature)

    def unsigned(self, messages: Sequence[bytes], signatures: Sequence[str]) -> list[int]:
        """The places of those messages that the signature at the same place is not of; 0.7 microseconds for each."""
        wanted = b"".join(map(self._mac, messages)).hex()
        said = "".join(signatures)
        # Texts of one length each are the same joined or apart, and joined they are compared at once.
        if set(map(len, signatures)) <= {_MAC_DIGITS} and said.isascii() and hmac.compare_digest(wanted, said):
            return []
        return [index for index, signature in enumerate(signatures) if not self.is_signed(messages[index], signature)]

    def _mac(self, message: bytes) -> bytes:
        # With the pads hashed once, half of what the one-shot call takes for a short message.
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


class MlDsaVerifier:
    """ML-DSA-65 (FIPS 204, pure, empty context) under any one of some public keys; about 0.3 ms a signature."""

    algorithm = ML_DSA

    def __init__(self, keys: Sequence[MLDSA65PublicKey]) -> None:
        self._keys = tuple(keys)

    @classmethod
    def from_keys(cls, document: VerifyKeys) -> MlDsaVerifier:
        """Of a published key document; keys of other kinds in it are passed over.

        Raises:
            UnknownKey: no key in it is one of ML-DSA-65.
        """
        found = [
            _public_key(key)
            for key in document.keys[:_KEYS_MAX]
            if key.kty == PROFILE.provenance_key_type and key.alg == _JWK_ALG
        ]
        if not found:
            raise UnknownKey(f"the document holds no key of type {PROFILE.provenance_key_type} for {_JWK_ALG}")
        return cls(found)

    def is_signed(self, message: bytes, signature: str) -> bool:
        """Whether the signature is of these bytes under one of the keys."""
        try:
            data = bytes.fromhex(signature)
        except ValueError:
            return False
        # Only one text is the signature: there and back is ten times quicker than a pattern for it.
        if len(data) != _SIGNATURE_BYTES or data.hex() != signature:
            return False
        return any(_is_by(key, message, data) for key in self._keys)

    def unsigned(self, messages: Sequence[bytes], signatures: Sequence[str]) -> list[int]:
        """The places of those messages that the signature at the same place is not of, one by one."""
        return [place for place, message in enumerate(messages) if not self.is_signed(message, signatures[place])]


class MlDsaSigner(MlDsaVerifier):
    """An ML-DSA-65 private key. Signing is randomised, and takes about a millisecond; safe to do on a thread."""

    def __init__(self, seed: bytes) -> None:
        self._private = MLDSA65PrivateKey.from_seed_bytes(seed)
        super().__init__([self._private.public_key()])

    def sign(self, message: bytes) -> str:
        """A signature in lower-case hex; another one each time."""
        return self._private.sign(message).hex()

    def public_jwk(self) -> VerifyKey:
        """The public half as a JSON Web Key of type AKP, named by its thumbprint (RFC 7638)."""
        pub = _base64url(self._private.public_key().public_bytes_raw())
        needed = {"alg": _JWK_ALG, "kty": PROFILE.provenance_key_type, "pub": pub}
        kid = _base64url(hashlib.sha256(canonical(needed)).digest())
        return VerifyKey(kty=PROFILE.provenance_key_type, alg=_JWK_ALG, kid=kid, use="sig", pub=pub)


def _public_key(key: VerifyKey) -> MLDSA65PublicKey:
    try:
        data = base64.b64decode(key.pub + "=" * (-len(key.pub) % 4), altchars=b"-_", validate=True)
        return MLDSA65PublicKey.from_public_bytes(data)
    except (binascii.Error, ValueError) as exc:
        raise UnknownKey(f"the key {(key.kid or '')[:80]!a} is not a public key of {_JWK_ALG}") from exc


def _is_by(key: MLDSA65PublicKey, message: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
