"""Minted tokens prove true, with us and with others; sealed secrets only compare."""

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from engine.codec.payload import encode
from engine.contract.keys import KeySet
from engine.errors import TrustError
from engine.trust.bearer import parse_jwks, verify
from engine.trust.minting import SigningKey, challenge_of, is_secret, seal_secret

CLAIMS = {"iss": "http://127.0.0.1:1", "aud": "a", "exp": 2000, "iat": 1000}


@pytest.fixture(scope="module")
def key():
    """One key for all: making one takes a while."""
    return SigningKey.generate("k1")


def test_a_minted_token_proves_true(key):
    """Our own verifier, which is strict, takes it with the published half of the key."""
    keys = parse_jwks(encode(KeySet([key.public_jwk()])))

    claims = verify(key.sign(CLAIMS, typ="at+jwt"), keys, issuer=CLAIMS["iss"], audience="a", now_s=1500)

    assert claims.raw == CLAIMS


def test_another_library_takes_it_too(key):
    """An independent implementation reads the same header and claims."""
    public = RSAKey.import_key({k: v for k, v in vars_of(key.public_jwk()).items() if v is not None})

    token = jwt.decode(key.sign(CLAIMS, typ="at+jwt"), public, algorithms=["RS256"])

    assert token.header == {"alg": "RS256", "typ": "at+jwt", "kid": "k1"}
    assert token.claims == CLAIMS


def vars_of(struct):
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def test_a_stored_key_is_the_same_key(key):
    """PEM out and in again signs under the same public half; nothing shows the private one."""
    again = SigningKey.from_pem("k1", key.pem())

    assert again.public_jwk() == key.public_jwk()
    assert "PRIVATE" not in repr(key)


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused(pem):
    """A damaged key is an error of ours."""
    with pytest.raises(TrustError, match="k1"):
        SigningKey.from_pem("k1", pem)


def test_a_sealed_secret_only_compares():
    """The seal holds no secret, differs each time, and knows its own."""
    sealed = seal_secret("emulator-secret")

    assert b"emulator-secret" not in sealed
    assert sealed != seal_secret("emulator-secret")
    assert is_secret("emulator-secret", sealed)
    assert not is_secret("emulator-secre", sealed)
    assert not is_secret("", sealed)


def test_the_challenge_of_the_standard():
    """RFC 7636 appendix B."""
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
