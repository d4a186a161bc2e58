"""Webhook signatures: the contract's vector, Standard Webhooks, and everything that only looks signed."""

import base64
import hashlib
import hmac
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BadSignature, ConfigError, ExpiredToken, NotYetValid, TrustError
from engine.settings import Secret
from engine.trust.webhook import sign, verify_callback, verify_standard

BODY = (
    b'{"id":"01HFXY0000000000000000000A","kind":"intelligence.enrich.bulk",'
    b'"result_ref":"r2://argus-jobs/results/01HFXY0000000000000000000A.json","status":"succeeded",'
    b'"trace_id":"0af7651916cd43dd8448eb211c80319c"}'
)
SIGNED = "sha256=c198a4eb07d5da4a29c0f42627ae2880dc4408e2bc5f64a55970d7e798f697c5"
SECRET = Secret("test-partner-secret")


def test_the_vector_of_the_contract() -> None:
    """The signature of contract 9.7 is written and read, in either case of hex."""
    assert len(BODY) == 207
    assert sign(BODY, SECRET) == SIGNED
    verify_callback(BODY, {"x-argus-signature": SIGNED}, [SECRET])
    verify_callback(BODY, {"x-argus-signature": "sha256=" + SIGNED[7:].upper()}, [SECRET])


def test_two_secrets_are_active_while_one_replaces_the_other() -> None:
    """Old and new secret both prove, in any order; a third does not."""
    old, new = Secret("old"), Secret("new")
    for secret in (old, new):
        verify_callback(BODY, {"x-argus-signature": sign(BODY, secret)}, [new, old])
    with pytest.raises(BadSignature, match="under any active secret"):
        verify_callback(BODY, {"x-argus-signature": sign(BODY, Secret("third"))}, [new, old])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (None, "expected the header x-argus-signature, found none"),
        ("", "to begin with sha256="),
        (SIGNED[7:], "to begin with sha256="),
        ("SHA256=" + SIGNED[7:], "to begin with sha256="),
        ("sha1=" + SIGNED[7:], "to begin with sha256="),
        ("sha256=", "64 hex digits after sha256=, found 0"),
        (SIGNED[:-1], "64 hex digits after sha256=, found 63"),
        (SIGNED + "00", "64 hex digits"),
        (SIGNED + "\n", "64 hex digits"),
        (SIGNED[:-1] + "g", "64 hex digits"),
        (SIGNED[:-1] + "\uff14", "64 hex digits"),
        (SIGNED[:-1] + "4", "does not match"),
        (" " + SIGNED, "to begin with sha256="),
        (f"{SIGNED},{SIGNED}", "64 hex digits"),
        ("sha256=" + "0" * 64, "does not match"),
    ],
)
def test_t23_what_only_looks_signed_is_refused(said, message) -> None:
    """T23: a missing, malformed or wrong signature is refused, and the reason says which."""
    with pytest.raises(BadSignature, match=message):
        verify_callback(BODY, {} if said is None else {"x-argus-signature": said}, [SECRET])


@pytest.mark.parametrize(
    "body",
    [
        BODY + b"\n", b" " + BODY, BODY.replace(b":", b": "), BODY.replace(b"succeeded", b"failed"),
        b'{"status":"succeeded",' + BODY[1:], BODY.replace(b"s", b"\\u0073", 1), b"", BODY[:-1], BODY + b"\x00",
        json.dumps(json.loads(BODY)).encode(), json.dumps(json.loads(BODY), indent=1).encode(),
        BODY.decode().encode("utf-16"),
    ],
)  # fmt: skip
def test_t25_the_received_bytes_are_what_is_signed(body) -> None:
    """T25: a body that means the same, or nearly, is another body."""
    with pytest.raises(BadSignature):
        verify_callback(body, {"x-argus-signature": SIGNED}, [SECRET])


@given(body=st.binary(max_size=200), said=st.text(max_size=90))
def test_no_signature_is_guessed_and_nothing_else_is_raised(body, said) -> None:
    """Whatever a sender says, the answer is a refusal of ours."""
    with pytest.raises(BadSignature):
        verify_callback(body, {"x-argus-signature": said}, [SECRET])


def test_without_a_secret_nothing_is_verified() -> None:
    """No secret, or an empty one, is a fault of the configuration and never an open door."""
    for secrets in ([], [Secret("")], [SECRET, Secret("")]):
        with pytest.raises(ConfigError):
            verify_callback(BODY, {"x-argus-signature": sign(BODY, SECRET)}, secrets)
    with pytest.raises(ConfigError):
        sign(BODY, Secret(""))


def standard(case, facts):
    secret = case.get("use_secret_value") or facts[case.get("use_secret", "secret")]
    headers = {
        "webhook-id": facts["id"],
        "webhook-timestamp": case.get("webhook-timestamp", str(facts["timestamp"])),
        "webhook-signature": case.get("webhook-signature", facts["signature"]),
    }
    headers.pop(case.get("drop", ""), None)
    body = case.get("payload", facts["payload"]).encode()
    return verify_standard(body, headers, [Secret(secret)], now_s=case["clock"])


def test_t23_the_vectors_of_standard_webhooks(vectors) -> None:
    """T23: each good case verifies and answers its id, each bad one is refused by an error of ours."""
    facts = json.loads((vectors("standard-webhooks") / "vectors.json").read_text())

    assert [standard(case, facts) for case in facts["ok"]] == [facts["id"]] * len(facts["ok"])
    for case in facts["bad"]:
        with pytest.raises((TrustError, ConfigError)):
            standard(case, facts)


def signed_standard(body, message_id="msg_1", at="1000"):
    """A signature by the recipe of the specification, written a second time on purpose."""
    mac = hmac.new(b"key", f"{message_id}.{at}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


def test_the_svix_names_of_the_headers_serve_too() -> None:
    """`svix-*` is the older spelling of `webhook-*`."""
    headers = {"svix-id": "msg_1", "svix-timestamp": "1000", "svix-signature": signed_standard(b"{}")}

    assert verify_standard(b"{}", headers, [Secret("whsec_a2V5")], now_s=1000) == "msg_1"


@pytest.mark.parametrize(("now_s", "error"), [(1301, ExpiredToken), (699, NotYetValid)])
def test_the_tolerance_is_five_minutes_both_ways(now_s, error) -> None:
    """A webhook signed well, but too long ago or ahead, is refused by its time."""
    headers = {"webhook-id": "msg_1", "webhook-timestamp": "1000", "webhook-signature": signed_standard(b"{}")}

    for good_s in (1300, 700):
        verify_standard(b"{}", headers, [Secret("whsec_a2V5")], now_s=good_s)
    with pytest.raises(error):
        verify_standard(b"{}", headers, [Secret("whsec_a2V5")], now_s=now_s)


@pytest.mark.parametrize(
    ("message_id", "at", "body"),
    [
        ("msg.1", "1000", b"{}"),
        ("msg", "1.1000", b"{}"),
        ("msg", "1000.", b"{}"),
        ("", "1000", b"{}"),
        ("m" * 257, "1", b""),
    ],
)
def test_t28_no_byte_moves_between_id_time_and_body(message_id, at, body) -> None:
    """T28: dots in the id or the time would let one signature serve two readings; they are refused."""
    headers = {
        "webhook-id": message_id, "webhook-timestamp": at,
        "webhook-signature": signed_standard(body, message_id, at),
    }  # fmt: skip

    with pytest.raises(BadSignature, match="not of the form"):
        verify_standard(body, headers, [Secret("whsec_a2V5")], now_s=1000)
