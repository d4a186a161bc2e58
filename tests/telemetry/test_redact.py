"""The second net catches what looks like a secret, in linear time."""

import time
from base64 import b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.telemetry.redact import MASK, Redactor

JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJl"


# The mask itself, and what stands for it below, would be found again.
secrets = st.text(st.characters(exclude_characters="*\0", exclude_categories=["Cs"]), min_size=4, max_size=40)


@given(secrets.filter(lambda text: len(text.strip()) >= 4), st.text(), st.text())
def test_a_known_secret_never_passes(secret: str, before: str, after: str) -> None:
    """Whatever stands around it, a known secret is not in the result, plain or percent-encoded."""
    redact = Redactor([secret])
    plain = secret.strip()
    assert plain not in redact(before + secret + after).replace(MASK, "\0")
    if quote(plain, safe="") != plain:
        assert quote(plain, safe="") not in redact(before + quote(plain, safe="") + after).replace(MASK, "\0")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"token {JWT} refused", "token *** refused"),
        (f"Authorization: Bearer {JWT}", "Authorization: Bearer ***"),
        ("Authorization: opaque then", "Authorization: *** then"),
        ("authorization=Basic dXNlcjpwYXNz, x=1", "authorization=Basic ***, x=1"),
        ("sent bearer abcdef0123456789", "sent bearer ***"),
        ("GET https://h.example/r/1?X-Sig=a&e=1 failed", "GET https://h.example/r/1?*** failed"),
        ("/v1/results/1?sig=abc", "/v1/results/1?***"),
        ("postgres://user:pass@db/x", "postgres://***@db/x"),
        ("grant_type=x&client_secret=abc&scope=y", "grant_type=x&client_secret=***&scope=y"),
        ('{"access_token": "abc", "n": 1}', '{"access_token": "***", "n": 1}'),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, clean: str) -> None:
    """Tokens, authorization headers, query strings, user parts and secret members are masked."""
    assert Redactor()(text) == clean


@pytest.mark.parametrize("text", ["was it refused? yes", "https://h.example/a", "a@b", "bearer of news", "plain"])
def test_ordinary_text_passes(text: str) -> None:
    """Text without a secret is handed back as it is."""
    assert Redactor(["abc"])(text) is text


def test_forms_of_a_secret_are_known() -> None:
    """A secret is also found as Base64, escaped as in JSON, and line by line."""
    pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\n-----END KEY-----"
    redact = Redactor(['pass"word\\1', pem])

    assert redact(b64encode(b'pass"word\\1').decode()).rstrip("=") == MASK
    assert redact('"pass\\"word\\\\1"') == f'"{MASK}"'
    assert "MIIEvQ" not in redact("line MIIEvQIBADANBgkqhkiG9w0BAQEF end")


def test_of_two_secrets_the_longer_goes_first() -> None:
    """A secret that begins like another leaves no tail behind."""
    assert Redactor(["abcd", "abcdefgh"])("x abcdefgh y") == "x *** y"


def test_a_redactor_shows_no_secret() -> None:
    """Its own representation holds nothing."""
    assert "abcd" not in repr(Redactor(["abcd"]))


@pytest.mark.parametrize(
    "piece", ["eyJ", "eyJaaaaaa.", "http://", "a://", "?a=", "authorization: ", "token=", "a.", "Bearer "]
)
def test_a_megabyte_of_bait_takes_linear_time(piece: str) -> None:
    """Text built to make a pattern start over and over is done in a moment."""
    text = piece * (1_000_000 // len(piece))
    began = time.process_time()
    Redactor(["secret-one"])(text)

    # Quadratic would be minutes; the bound is generous because machines are busy.
    assert time.process_time() - began < 5
