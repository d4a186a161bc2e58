"""Tokens: what is taken, and every lie that is told about one, each refused by its own name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import (
    AlgorithmRefused,
    BadSignature,
    ClaimMissing,
    EngineError,
    ExpiredToken,
    MalformedToken,
    NotYetValid,
    TrustError,
    UnknownKey,
    WrongAudience,
    WrongIssuer,
)
from engine.trust.bearer import Verifier, parse_jwks, verify

ISSUER = "https://auth.example"
AUDIENCE = "https://api.example"
NOW_S = 1_778_241_600.0


@pytest.fixture(scope="session")
def keys(issuer):
    return parse_jwks(issuer.jwks("k1"))


def check(token, keys, *, audience=AUDIENCE, now_s=NOW_S):
    return verify(token, keys, issuer=ISSUER, audience=audience, now_s=now_s)


def test_a_good_token_is_read(issuer, keys) -> None:
    """Every claim of a good token arrives typed."""
    claims = check(issuer.token(issuer.claims(sandbox=True, scenarios=["wallet.clean"])), keys)

    assert (claims.iss, claims.aud, claims.sub, claims.tenant_id) == (ISSUER, [AUDIENCE], "app_1", "tnt_1")
    assert claims.scope == ("argus:jobs:read", "argus:jobs:write")
    assert (claims.sandbox, claims.scenarios) == (True, ("wallet.clean",))
    assert (claims.iat, claims.exp, claims.nbf) == (NOW_S - 10, NOW_S + 3600, None)


def test_an_audience_may_be_one_of_several(issuer, keys) -> None:
    """A token for several audiences serves each, and a verifier may take several."""
    token = issuer.token(issuer.claims(aud=["a", "sandbox"]))

    assert check(token, keys, audience="sandbox").aud == ["a", "sandbox"]
    assert check(token, keys, audience=("x", "a")).aud == ["a", "sandbox"]


@pytest.mark.parametrize("form", ["pem", "der", "jwk", "jwks", "bom", "base64"])
def test_t01_the_public_key_is_no_hmac_secret(issuer, keys, form) -> None:
    """T01: an HS256 token made with the public key as its secret is refused by its algorithm."""
    with pytest.raises(AlgorithmRefused, match="expected alg RS256, found 'HS256'"):
        check(issuer.hmac_token(issuer.public_forms()[form]), keys)


@pytest.mark.parametrize(
    "alg",
    ["none", "None", "nOnE", "NONE", "", " none", "RS256 ", "rs256", "RS384", "PS256", "ES256", None, 1, ["RS256"]],
)
@pytest.mark.parametrize("signature", ["", "AA"])
def test_t02_other_algorithms_are_refused_before_any_key_is_looked_for(issuer, alg, signature) -> None:
    """T02: whatever is not exactly RS256 is refused without a look at the keys."""

    class Untouchable(dict):
        def get(self, *_):
            raise AssertionError("a key was looked for")

    head, payload, _ = issuer.token(header={"alg": alg, "kid": "k1"}).split(".")

    with pytest.raises(AlgorithmRefused, match="expected alg RS256, found"):
        check(f"{head}.{payload}.{signature}", Untouchable())


def test_t02_a_missing_algorithm_is_refused(issuer, keys) -> None:
    """T02: a header without alg names none."""
    with pytest.raises(AlgorithmRefused, match="found None"):
        check(issuer.token(header={"kid": "k1"}), keys)


def test_t02_an_empty_signature_is_a_bad_one(issuer, keys) -> None:
    """T02: an RS256 token without its signature proves nothing."""
    with pytest.raises(BadSignature, match="not that of key 'k1'"):
        check(issuer.token().rpartition(".")[0] + ".", keys)


@pytest.mark.parametrize("name", ["jku", "jwk", "x5u", "x5c", "b64", "zip"])
def test_t03_a_token_may_not_bring_its_own_key(issuer, keys, name) -> None:
    """T03: a header that holds or points to a key is refused, though the signature is good."""
    header = {"alg": "RS256", "kid": "k1", name: issuer.jwk("k1")}

    with pytest.raises(MalformedToken, match=f"may not hold {name}"):
        check(issuer.token(header=header), keys)


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], "exp"])
def test_critical_extensions_are_refused(issuer, keys, crit) -> None:
    """An extension that must be understood is one we do not understand (RFC 7515 section 4.1.11)."""
    with pytest.raises(MalformedToken, match="extensions we do not know"):
        check(issuer.token(header={"alg": "RS256", "kid": "k1", "crit": crit}), keys)


@given(kid=st.text(max_size=400))
def test_t04_a_hostile_kid_is_only_ever_a_name(issuer, keys, kid) -> None:
    """T04: a key's name opens nothing; it is known or it is not."""
    if kid != "k1":
        with pytest.raises(UnknownKey if len(kid) <= 256 else MalformedToken):
            check(issuer.token(header={"alg": "RS256", "kid": kid}), keys)


@pytest.mark.parametrize(
    ("kid", "error", "message"),
    [
        ("../../etc/passwd", UnknownKey, "no key named '../../etc/passwd'"),
        ("k1' OR '1'='1", UnknownKey, "no key named"),
        ("k1\r\nX: y", UnknownKey, r"no key named 'k1\\r\\nX: y'"),
        ("k" * 257, MalformedToken, "at most 256 characters, this one 257"),
        ("k" * 10_000, MalformedToken, "header has at most 4096 bytes"),
        (None, MalformedToken, "expected a kid as text, found None"),
        (7, MalformedToken, "expected a kid as text, found 7"),
        (["k1"], MalformedToken, "expected a kid as text, found"),
    ],
)
def test_t04_each_bad_kid_says_what_is_wrong(issuer, keys, kid, error, message) -> None:
    """T04: paths, quotes, control characters and sizes of a kid end in a sentence."""
    with pytest.raises(error, match=message):
        check(issuer.token(header={"alg": "RS256", "kid": kid}), keys)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"iss": None}, ClaimMissing, "expected iss, found no such claim"),
        ({"iss": ISSUER + "/"}, WrongIssuer, f"expected iss '{ISSUER}', found '{ISSUER}/'"),
        ({"iss": ISSUER[:-1]}, WrongIssuer, "expected iss"),
        ({"iss": ISSUER.upper()}, WrongIssuer, "expected iss"),
        ({"iss": "https://auth.example.evil"}, WrongIssuer, "found 'https://auth.example.evil'"),
        ({"iss": [ISSUER]}, ClaimMissing, "expected iss as text, found"),
        ({"iss": ""}, WrongIssuer, "found ''"),
        ({"iss": 1}, ClaimMissing, "expected iss as text, found 1"),
        ({"aud": None}, ClaimMissing, "expected aud, found no such claim"),
        ({"aud": []}, WrongAudience, r"expected aud 'https://api.example', found \[\]"),
        ({"aud": "sandbox"}, WrongAudience, r"found \['sandbox'\]"),
        ({"aud": AUDIENCE + "/"}, WrongAudience, "expected aud"),
        ({"aud": [[AUDIENCE]]}, ClaimMissing, "expected aud as a list of texts"),
        ({"aud": [AUDIENCE, 1]}, ClaimMissing, "expected aud as a list of texts"),
        ({"aud": {AUDIENCE: 1}}, ClaimMissing, "expected aud as a list of texts"),
        ({"aud": True}, ClaimMissing, "expected aud as a list of texts, found True"),
        ({"exp": None}, ClaimMissing, "expected exp, found no such claim"),
        ({"exp": str(NOW_S + 60)}, ClaimMissing, "expected exp as a number of seconds, found '"),
        ({"exp": True}, ClaimMissing, "expected exp as a number of seconds, found True"),
        ({"exp": [NOW_S]}, ClaimMissing, "expected exp as a number of seconds, found"),
        ({"exp": {}}, ClaimMissing, "expected exp as a number of seconds, found"),
        ({"exp": -1}, ClaimMissing, r"expected exp as seconds in \[0, 9007199254740992\), found -1"),
        ({"exp": 10**18}, ClaimMissing, "found 1000000000000000000"),
        ({"exp": 10**300}, ClaimMissing, "expected exp as seconds in"),
        ({"exp": 0}, ExpiredToken, "expected exp in the future, found it 1778241600 s ago"),
        ({"exp": NOW_S - 61}, ExpiredToken, "found it 61 s ago"),
        ({"exp": NOW_S - 60}, ExpiredToken, "found it 60 s ago"),
        ({"nbf": NOW_S + 61}, NotYetValid, "expected nbf in the past, found it 61 s ahead"),
        ({"nbf": "soon"}, ClaimMissing, "expected nbf as a number of seconds, found 'soon'"),
        ({"nbf": False}, ClaimMissing, "expected nbf as a number of seconds, found False"),
        ({"iat": NOW_S + 100}, NotYetValid, "expected iat in the past, found it 100 s ahead"),
        ({"iat": [1]}, ClaimMissing, "expected iat as a number of seconds"),
        ({"sub": 5}, ClaimMissing, "expected sub as text, found 5"),
        ({"sub": "\ud800"}, ClaimMissing, "expected sub as text, found"),
        ({"jti": {}}, ClaimMissing, "expected jti as text"),
        ({"tenant_id": ["tnt_1"]}, ClaimMissing, "expected tenant_id as text"),
        ({"organization_id": 1.5}, ClaimMissing, "expected organization_id as text, found 1.5"),
        ({"client_id": False}, ClaimMissing, "expected client_id as text, found False"),
        ({"scope": 1}, ClaimMissing, "expected scope as a list of texts, found 1"),
        ({"scope": [1]}, ClaimMissing, "expected scope as a list of texts"),
        ({"sandbox": "true"}, ClaimMissing, "expected sandbox as true or false, found 'true'"),
        ({"sandbox": 1}, ClaimMissing, "expected sandbox as true or false, found 1"),
        ({"scenarios": "wallet.clean"}, ClaimMissing, "expected scenarios as a list of texts"),
    ],
)
def test_t05_each_wrong_claim_says_what_was_expected_and_found(issuer, keys, change, error, message) -> None:
    """T05: every claim is typed, exact and required where it must be; nothing but our own errors."""
    with pytest.raises(error, match=message):
        check(issuer.token(issuer.claims(**change)), keys)


@pytest.mark.parametrize("exp", [b"1e400", b"-1e400", b"NaN", b"Infinity", b"9" * 5000, b"1" * 400])
def test_t05_numbers_that_json_can_write_and_time_cannot_hold(issuer, keys, exp) -> None:
    """T05: infinity by any spelling is no expiry."""
    claims = b'{"iss":"https://auth.example","aud":"https://api.example","exp":' + exp + b"}"

    with pytest.raises((ClaimMissing, MalformedToken)):
        check(issuer.token(claims), keys)


def test_t05_the_leeway_is_a_minute_both_ways_and_never_more(issuer, keys) -> None:
    """T05: 59 s of skew pass, and no caller can ask for more than a minute."""
    token = issuer.token(issuer.claims(exp=NOW_S - 59, nbf=NOW_S + 59, iat=NOW_S + 59))
    assert check(token, keys).exp == NOW_S - 59

    with pytest.raises(ExpiredToken):
        verify(
            issuer.token(issuer.claims(exp=NOW_S - 61)), keys,
            issuer=ISSUER, audience=AUDIENCE, now_s=NOW_S, leeway_s=3600,
        )  # fmt: skip


def test_a_name_that_appears_twice_is_refused(issuer, keys) -> None:
    """A signed text has one meaning: no duplicate names in header or claims, however deep."""
    with pytest.raises(MalformedToken, match="the header is ambiguous"):
        check(issuer.token(header=b'{"alg":"none","alg":"RS256","kid":"k1"}'), keys)
    with pytest.raises(MalformedToken, match="the payload is ambiguous"):
        check(issuer.token(b'{"iss":"a","iss":"b"}'), keys)
    with pytest.raises(MalformedToken, match="the payload is ambiguous"):
        check(issuer.token(b'{"x":[{"a":1,"a":2}]}'), keys)


@pytest.mark.parametrize("payload", [b"[1]", b'"x"', b"null", b"", b"{", b"\xff", b"[" * 3000, b'{"a":1} x'])
def test_a_payload_that_is_no_object_is_refused(issuer, keys, payload) -> None:
    """Claims are a JSON object, and a deep or broken text is our error, never the decoder's."""
    with pytest.raises(MalformedToken, match="the payload is"):
        check(issuer.token(payload), keys)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: "", "3 parts, this has 1"),
        (lambda t: t + ".", "3 parts, this has 4"),
        (lambda t: t.replace(".", "..", 1), "3 parts, this has 4"),
        (lambda t: t + "=", "signature is not base64url"),
        (lambda t: t + "\n", "signature is not base64url"),
        (lambda t: " " + t, "header is not base64url"),
        (lambda t: t.replace(".", "=.", 1), "header is not base64url"),
        (lambda t: t[:-1] + "é", "ASCII"),
        (lambda t: t + "A" * 20_000, "at most 16384 bytes"),
        (lambda t: t.rpartition(".")[0] + ".+/", "signature is not base64url"),
        (lambda t: t.rpartition(".")[0] + ".AB", "no spare bits"),
        (lambda t: t.rpartition(".")[0] + ".A", "signature is not base64url"),
        (lambda t: "e30." + t.partition(".")[2], "expected alg RS256, found None"),
    ],
)
def test_a_token_has_one_spelling(issuer, keys, spoil, message) -> None:
    """Padding, other alphabets, spare bits, white space and extra parts are refused."""
    with pytest.raises((MalformedToken, AlgorithmRefused), match=message):
        check(spoil(issuer.token()), keys)


def test_every_changed_byte_breaks_the_proof(issuer, keys) -> None:
    """No single character of a token can be exchanged."""
    token = issuer.token()
    for place in range(0, len(token), 7):
        other = "A" if token[place] != "A" else "B"
        with pytest.raises(TrustError):
            check(token[:place] + other + token[place + 1 :], keys)


@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
def test_garbage_ends_in_our_own_errors(keys, text) -> None:
    """Whatever a token is, the answer is a refusal of ours, which does not repeat it."""
    with pytest.raises(TrustError) as caught:
        check(text, keys)
    assert len(text) < 20 or text not in str(caught.value)


def test_another_key_of_the_same_name_is_no_proof(issuer) -> None:
    """The name finds the key; only the key proves."""
    stranger = parse_jwks(json.dumps({"keys": [issuer.jwk("k2") | {"kid": "k1"}]}).encode())

    with pytest.raises(BadSignature):
        check(issuer.token(), stranger)


@pytest.mark.parametrize("typ", ["dpop+jwt", "JOSE", "logout+jwt", 1])
def test_a_token_of_another_type_is_refused(issuer, keys, typ) -> None:
    """A signed thing of the same issuer that is no access token does not pass for one (RFC 8725 3.11)."""
    with pytest.raises(MalformedToken, match=r"expected typ at\+jwt or JWT, found"):
        check(issuer.token(header={"alg": "RS256", "kid": "k1", "typ": typ}), keys)


def test_one_bad_key_never_spoils_the_set(issuer) -> None:
    """T07: keys that cannot be used are passed over, whatever is wrong with them."""
    good = issuer.jwk("good")
    bad = [
        1, None, {}, {"kty": "RSA"}, {"kty": "EC", "kid": "e", "crv": "P-256", "x": "AA", "y": "AA"},
        issuer.jwk("small", 1024), good | {"kid": 7}, good | {"kid": "x" * 300}, good | {"kid": "a", "alg": "HS256"},
        good | {"kid": "b", "alg": "PS256"}, good | {"kid": "c", "use": "enc"}, good | {"kid": "d", "n": "!!"},
        good | {"kid": "f", "n": good["n"] + "="}, good | {"kid": "g", "e": "AQ"}, good | {"kid": "h", "e": "Ag"},
        good | {"kid": "i", "key_ops": ["sign"]}, good | {"kid": "j", "n": "é"}, good | {"kid": "k", "d": "AA"},
        good | {"kid": "l", "e": good["n"]}, good | {"kid": "m", "key_ops": 1}, issuer.jwk("k1") | {"kid": "good"},
    ]  # fmt: skip

    found = parse_jwks(json.dumps({"keys": [*bad[:10], good, *bad[10:]]}).encode())

    assert list(found) == ["good"]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"{}", "list of `keys`"),
        (b'{"keys":{}}', "list of `keys`"),
        (b"[]", "not a JSON object"),
        (b"<html>", "not JSON"),
        (b'{"keys":[' + b",".join([b"{}"] * 101) + b"]}", "at most 100 keys, this one 101"),
        (b'{"keys":[]}' + b" " * 70_000, "at most 65536 bytes"),
        (b'{"keys":[{"kty":"oct","k":"c2VjcmV0","kid":"k1"}]}', "symmetric key"),
    ],
)
def test_a_set_that_is_none_is_refused(document, message) -> None:
    """Sets that are too large, no sets at all, or publish a secret are refused whole."""
    with pytest.raises(EngineError, match=message):
        parse_jwks(document)


def test_a_remembered_proof_ends_with_its_time_and_its_key(issuer, keys) -> None:
    """T08: the cache forgets neither expiry, nor that a key was withdrawn."""
    verifier = Verifier(issuer=ISSUER, audience=AUDIENCE)
    token = issuer.token()
    first = verifier.verify(token, keys, now_s=NOW_S)

    assert verifier.verify(token, parse_jwks(issuer.jwks("k1")), now_s=NOW_S) is first
    with pytest.raises(UnknownKey):
        verifier.verify(token, parse_jwks(issuer.jwks("k2")), now_s=NOW_S)
    with pytest.raises(BadSignature):
        swapped = json.dumps({"keys": [issuer.jwk("k2") | {"kid": "k1"}]}).encode()
        verifier.verify(token, parse_jwks(swapped), now_s=NOW_S)
    with pytest.raises(ExpiredToken):
        verifier.verify(token, keys, now_s=NOW_S + 4000)


def test_the_memory_of_proofs_is_bounded(issuer, keys) -> None:
    """The oldest proof makes room for the newest."""
    verifier = Verifier(issuer=ISSUER, audience=AUDIENCE, remembered_max=2)
    for number in range(4):
        verifier.verify(issuer.token(issuer.claims(jti=str(number))), keys, now_s=NOW_S)

    assert len(verifier._proofs) == 2


def test_the_cookbook_of_jose(vectors) -> None:
    """RFC 7520's RS256 example passes the proof (its payload is prose, so not the reading); no other one does."""
    outcomes = {}
    for path in sorted((vectors("jose-cookbook") / "jws").glob("4_*.json")):
        case = json.loads(path.read_text())
        key = case["input"]["key"]
        if "compact" not in case["output"] or not isinstance(key, dict):
            continue
        public = {name: key[name] for name in ("kty", "kid", "n", "e") if name in key}
        keys = parse_jwks(json.dumps({"keys": [public]}).encode()) if key["kty"] != "oct" else {}
        with pytest.raises(TrustError) as caught:
            verify(case["output"]["compact"], keys, issuer="x", audience="x", now_s=NOW_S)
        outcomes[path.name] = str(caught.value)

    assert "payload is not JSON" in outcomes.pop("4_1.rsa_v15_signature.json")
    assert outcomes
    assert all("expected alg RS256" in outcome for outcome in outcomes.values()), outcomes
