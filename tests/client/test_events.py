"""The reader of events: proven by both signatures, in time, under either secret, and known again (contract 6.6)."""

import base64
import hashlib
import hmac

import pytest

from engine.client.events import EventReader
from engine.errors import BadSignature, ConfigError, ExpiredToken, NotYetValid, RecordError
from engine.settings import Secret

BODY = b'{"data":{"id":"inc_1"},"id":"dlv_1","timestamp":"2026-05-08T12:00:00Z","type":"incident.updated"}'
NOW_S = 1_778_241_600
OLD, NEW = b"the-old-secret", b"the-new-secret"


def signed(body=BODY, *, key=NEW, id="dlv_1", at=NOW_S, family="webhook"):
    """The headers of a delivery, by the recipes of both documents, written a second time on purpose."""
    mac = hmac.new(key, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
    return {
        "X-Argus-Signature": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
        f"{family}-id": id,
        f"{family}-timestamp": str(at),
        f"{family}-signature": "v1," + base64.b64encode(mac).decode(),
    }


@pytest.fixture
def reader(clock):
    """A reader that takes the old and the new secret."""
    return EventReader([Secret(NEW.decode()), Secret(OLD.decode())], clock=clock)


@pytest.mark.parametrize("key", [OLD, NEW])
@pytest.mark.parametrize("family", ["webhook", "svix", "Webhook"])
def test_an_event_is_read_under_either_secret_and_name(reader, key, family):
    """Two secrets are active, headers are `webhook-*` or `svix-*`, in any case."""
    event = reader.read(BODY, signed(key=key, family=family))

    assert (event.id, event.type, event.data) == ("dlv_1", "incident.updated", {"id": "inc_1"})


@pytest.mark.parametrize("missing", list(signed()))
def test_both_signatures_are_required(reader, missing):
    """Whichever header is absent, nothing is proven."""
    with pytest.raises(BadSignature):
        reader.read(BODY, {name: value for name, value in signed().items() if name != missing})


@pytest.mark.parametrize("wrong", [{"key": b"a-third-secret"}, {"body": BODY + b" "}])
def test_another_key_or_other_bytes_prove_nothing(reader, wrong):
    """The signature is over the bytes as they came."""
    with pytest.raises(BadSignature):
        reader.read(BODY, signed(**wrong))


def test_each_signature_counts_alone(reader):
    """One good signature beside a bad one of the other kind is not enough."""
    good, bad = signed(), signed(key=b"a-third-secret")

    for name in ("X-Argus-Signature", "webhook-signature"):
        with pytest.raises(BadSignature):
            reader.read(BODY, good | {name: bad[name]})


@pytest.mark.parametrize(("off_s", "error"), [(-301, ExpiredToken), (301, NotYetValid)])
def test_time_is_part_of_the_proof(reader, off_s, error):
    """Five minutes either way, no more."""
    assert reader.read(BODY, signed(at=NOW_S + off_s - (1 if off_s > 0 else -1))).id == "dlv_1"
    with pytest.raises(error):
        reader.read(BODY, signed(at=NOW_S + off_s))


def test_the_signed_id_counts(reader):
    """An id in the body is not the delivery's; the one in the signed headers is."""
    assert reader.read(BODY, signed(id="dlv_2")).id == "dlv_2"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"type":1}', b'{"data":{}}', b"\xff"])
def test_signed_nonsense_is_no_event(reader, body):
    """Well signed but of another form is the record's fault, not the signature's."""
    with pytest.raises(RecordError):
        reader.read(body, signed(body))


def test_a_delivery_is_known_again_once_it_was_kept(reader):
    """Reading keeps nothing, so a receiver that fails in between gets it again as news."""
    event = reader.read(BODY, signed())

    assert not reader.is_repeat(reader.read(BODY, signed()))
    reader.keep(event)
    assert reader.is_repeat(reader.read(BODY, signed(at=NOW_S + 5)))
    assert not reader.is_repeat(reader.read(BODY, signed(id="dlv_2")))


@pytest.mark.parametrize("secrets", [[], [""], ["good-secret", ""], ["whsec_!"]])
def test_bad_secrets_are_said_at_once(secrets):
    """A reader without a usable secret is not made."""
    with pytest.raises(ConfigError):
        EventReader([Secret(secret) for secret in secrets])
