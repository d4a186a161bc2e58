"""Signers: outside vectors of HKDF and ML-DSA-65, and signatures in other forms than their own."""

import gzip
import hashlib
import hmac
import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from engine.contract.provenance import ML_DSA, VerifyKey, VerifyKeys
from engine.errors import ConfigError, UnknownKey
from engine.settings import Secret
from engine.trust.signers import HmacSigner, MlDsaSigner, MlDsaVerifier, derive_key, read_key

SEED = bytes(range(32))


def test_hkdf_is_that_of_the_rfc() -> None:
    """Test case 1 of RFC 5869, appendix A."""
    made = HKDF(algorithm=SHA256(), length=42, salt=bytes(range(13)), info=bytes(range(0xF0, 0xFA))).derive(
        b"\x0b" * 22
    )

    assert made.hex() == ("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")


def test_the_derived_key_is_that_of_the_contract() -> None:
    """The vector of contract 11.4; another tenant's differs."""
    key = derive_key(b"emulator-master-secret", "tnt_123")

    assert key.hex() == "23704d72e1a72b852b79f7698bab409675b312251bd001edb234827b63c49483"
    assert derive_key(b"emulator-master-secret", "tnt_12") != key


@given(st.binary(min_size=32, max_size=32), st.lists(st.binary(max_size=200), max_size=5))
def test_many_hmacs_are_those_of_the_standard_library(key, messages) -> None:
    """All hold, and none does that is shortened, lengthened, in capitals or not ASCII, nor two that share a text."""
    signer = HmacSigner(key)
    signatures = [hmac.digest(key, message, "sha256").hex() for message in messages]

    assert signer.unsigned(messages, signatures) == []
    for spoil in (lambda text: text[:-1], lambda text: text + "0", lambda text: text.upper() + "A", lambda _: "é" * 64):
        assert signer.unsigned(messages, list(map(spoil, signatures))) == list(range(len(messages)))
    if len(messages) > 1:
        moved = [signatures[0] + signatures[1][:1], signatures[1][1:], *signatures[2:]]
        assert signer.unsigned(messages, moved) == [0, 1]


def _cases(text):
    case = {}
    for line in text.splitlines():
        name, _, value = line.partition(" = ")
        if name == "count" and case:
            yield case
            case = {}
        case[name] = value
    yield case


def test_known_answers_of_ml_dsa_65(vectors) -> None:
    """A key made from each seed is the published one, and its signature with a context is refused as one without."""
    text = gzip.decompress((vectors("acvp-mldsa") / "kat_MLDSA_65_det_pure.rsp.gz").read_bytes()).decode()
    cases = list(_cases(text))

    assert len(cases) == 100
    for case in cases[::4]:
        signer = MlDsaSigner(bytes.fromhex(case["xi"]))
        public, signature = bytes.fromhex(case["pk"]), bytes.fromhex(case["sm"])[:3309]
        message, context = bytes.fromhex(case["msg"]), bytes.fromhex(case["ctx"])
        verifier = MlDsaVerifier([MLDSA65PublicKey.from_public_bytes(public)])
        MLDSA65PublicKey.from_public_bytes(public).verify(signature, message, context)
        assert verifier.is_signed(message, signer.sign(message))
        assert verifier.is_signed(message, signature.hex()) is (context == b"")


def test_judgements_of_nist_on_ml_dsa_65(vectors) -> None:
    """Good and hostile signatures of the ACVP set for ML-DSA-65 are judged as NIST judges them."""
    path = vectors("acvp-mldsa") / "sigVer" / "internalProjection.json"
    groups = json.loads(path.read_text())["testGroups"]
    (group,) = [group for group in groups if group["parameterSet"] == "ML-DSA-65"]
    key_bytes = bytes.fromhex(group["pk"])
    key = MLDSA65PublicKey.from_public_bytes(key_bytes)

    # This set is of the internal interface: the message is bound to the key by hand (see its README).
    bound = hashlib.shake_256(key_bytes).digest(64)
    verdicts = {}
    for test in group["tests"]:
        mu = hashlib.shake_256(bound + bytes.fromhex(test["message"])).digest(64)
        try:
            key.verify_mu(bytes.fromhex(test["signature"]), mu)
            verdicts[test["tcId"]] = True
        except InvalidSignature:
            verdicts[test["tcId"]] = False

    assert verdicts == {test["tcId"]: test["testPassed"] for test in group["tests"]}
    assert len(set(verdicts.values())) == 2


@pytest.mark.parametrize("signer", [HmacSigner(SEED), MlDsaSigner(SEED)], ids=lambda signer: signer.algorithm)
@pytest.mark.parametrize(
    "spoil",
    [str.upper, lambda text: text[:-2], lambda text: text + "00", lambda text: "é" + text[1:], lambda text: " " + text,
     lambda text: "", lambda text: text + "\n"],
)  # fmt: skip
def test_a_signature_has_one_form(signer, spoil) -> None:
    """Lower-case hex of the right length; anything else is refused, and raises nothing."""
    made = signer.sign(b"0")

    assert signer.is_signed(b"0", made)
    assert not signer.is_signed(b"0", spoil(made))


def test_a_published_key_says_what_it_is() -> None:
    """AKP, by its thumbprint, with 1952 bytes; the same seed gives the same key."""
    key = MlDsaSigner(SEED).public_jwk()

    assert (key.kty, key.alg, key.use) == ("AKP", "ML-DSA-65", "sig")
    assert len(key.pub) == 2603
    assert key == MlDsaSigner(SEED).public_jwk()
    assert key.kid != MlDsaSigner(bytes(32)).public_jwk().kid


@pytest.mark.parametrize(
    "key",
    [
        VerifyKey(kty="RSA", alg="RS256", pub="AAAA"),
        VerifyKey(kty="AKP", alg="ML-DSA-44", pub="AAAA"),
        VerifyKey(kty="AKP", alg="ML-DSA-65", pub="AAAA"),
        VerifyKey(kty="AKP", alg="ML-DSA-65", pub="no base64"),
    ],
)
def test_what_is_no_key_is_refused(key) -> None:
    """A key of another kind, size or alphabet is not a key to verify with."""
    with pytest.raises(UnknownKey):
        MlDsaVerifier.from_keys(VerifyKeys(ML_DSA, [key]))


@pytest.mark.parametrize("text", ["", "00", "xyz", "00" * 33])
def test_a_tenants_key_has_32_bytes_in_hex(text) -> None:
    """Anything else is a matter of configuration, and is not repeated in the message."""
    with pytest.raises(ConfigError) as caught:
        HmacSigner(read_key(Secret(text)))
    assert "xyz" not in str(caught.value)
