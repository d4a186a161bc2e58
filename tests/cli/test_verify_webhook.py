"""`engine verify webhook`: saved bodies and headers of callbacks and events, good and bad."""

import base64
import hashlib
import hmac
import json
from pathlib import Path

import pytest

from engine.codec.canonical import canonical
from engine.errors import Exit
from engine.settings import Secret
from engine.trust.webhook import as_standard, sign, standard_key

SECRET = Secret("test-partner-secret")
BODY = canonical({"id": "01HFXY", "kind": "import.bulk", "status": "succeeded", "trace_id": None, "result_ref": None})
AT, AT_S = "2026-05-08T12:00:00Z", 1_778_241_600
WORDS = ("verify", "webhook", "body.json", "--headers", "headers.txt", "--secret", "secret.txt")


@pytest.fixture(autouse=True)
def files(folder):
    """A job callback as it was saved, and the secret, with the line break of an editor."""
    Path("body.json").write_bytes(BODY)
    Path("secret.txt").write_text(SECRET.reveal() + "\n")
    save({"X-Argus-Signature": sign(BODY, SECRET), "X-Argus-Job-ID": "01HFXY"})


def save(headers):
    lines = ["POST /hook HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    Path("headers.txt").write_text("\r\n".join(lines))


def signed(family="webhook", body=BODY):
    """The headers of Standard Webhooks beside the platform's own."""
    text = f"dlv_1.{AT_S}.".encode() + body
    mac = hmac.digest(standard_key(as_standard(SECRET)), text, hashlib.sha256)
    return {
        "X-Argus-Signature": sign(body, SECRET), f"{family}-id": "dlv_1", f"{family}-timestamp": str(AT_S),
        f"{family}-signature": "v1," + base64.b64encode(mac).decode(),
    }  # fmt: skip


def test_a_callback_is_proven(engine) -> None:
    """By its one signature, with the word that it signs no time."""
    answer = engine(*WORDS)

    assert answer.exit_code == 0, answer.stderr
    assert "body.json: proven by x-argus-signature" in answer.stderr
    assert "signs no time" in answer.stderr


@pytest.mark.parametrize("family", ["webhook", "svix"])
def test_an_event_is_proven_by_both_signatures(engine, family) -> None:
    """Whichever names its headers have; they may be JSON too."""
    Path("headers.txt").write_text(json.dumps(signed(family)))

    answer = engine(*WORDS, "--at", AT, "--json")

    assert json.loads(answer.stdout) == {
        "file": "body.json", "proven": True, "checked": ["x-argus-signature", f"{family}-signature"],
        "is_canonical": False, "delivery_id": "dlv_1",
    }  # fmt: skip


def test_a_changed_byte_proves_nothing(engine) -> None:
    """Not even a line break at the end; the secret is not repeated."""
    Path("body.json").write_bytes(BODY + b"\n")

    answer = engine(*WORDS)

    assert (answer.exit_code, answer.stdout) == (Exit.CREDENTIALS, "")
    assert "error[trust.signature]" in answer.stderr
    assert SECRET.reveal() not in answer.stderr


def test_a_second_signature_that_is_wrong_is_enough_to_refuse(engine) -> None:
    """Both have to match."""
    save({**signed(), "webhook-id": "dlv_2"})

    assert engine(*WORDS, "--at", AT).exit_code == Exit.CREDENTIALS


def test_an_old_event_is_refused_unless_its_age_does_not_matter(engine) -> None:
    """Five minutes are allowed; a saved one is older than that."""
    save(signed())

    late = engine(*WORDS, "--at", "2026-05-08T12:06:00Z")
    content = engine(*WORDS, "--any-age")

    assert (late.exit_code, "error[trust.expired]" in late.stderr) == (Exit.CREDENTIALS, True)
    assert content.exit_code == 0


def test_the_canonical_form_is_tried_when_that_is_allowed(engine) -> None:
    """A body that was laid out anew on its way is proven by its canonical form, and said to be."""
    Path("body.json").write_text(json.dumps(json.loads(BODY), indent=2))

    assert engine(*WORDS).exit_code == Exit.CREDENTIALS
    answer = engine(*WORDS, "--canonical")
    assert (answer.exit_code, "in its canonical form" in answer.stderr) == (0, True)


def test_any_of_several_secrets_will_do(engine) -> None:
    """While one replaces the other, both are given."""
    Path("new.txt").write_text("another-secret")

    assert engine(*WORDS[:-1], "new.txt").exit_code == Exit.CREDENTIALS
    assert engine(*WORDS, "--secret", "new.txt").exit_code == 0


def test_what_cannot_be_read_is_a_matter_of_usage(engine) -> None:
    """A missing file, an empty secret, headers that are no object."""
    Path("empty.txt").write_text("\n")
    Path("odd.json").write_text("{")

    for words, told in (
        ((*WORDS[:-1], "none.txt"), "cannot read none.txt"),
        ((*WORDS[:-1], "empty.txt"), "holds no secret"),
        ((*WORDS[:4], "odd.json", *WORDS[5:]), "no JSON object"),
    ):
        answer = engine(*words)
        assert (answer.exit_code, told in answer.stderr) == (Exit.USAGE, True)
