"""Webhooks: signatures over received bytes, of the platform's job callbacks and of Standard Webhooks.

Pure: body, headers, secrets and a time go in; nothing or one refusal comes out. The bytes are checked as
they came, before anybody parses them. Whether a delivery was seen before is the receiver's to remember: the
job callback signs no time, so only its id tells a replay from a delivery (contract 9.7).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

from engine.contract.profile import PROFILE
from engine.errors import BadSignature, ConfigError, ExpiredToken, NotYetValid
from engine.settings import Secret

# How the headers of Standard Webhooks may begin, the one that is looked for first in front (Q34).
FAMILIES = PROFILE.webhook_families
SIGNATURE_HEADER = "x-argus-signature"
TOLERANCE_S = 300.0
_PREFIX = "sha256="
_HEX = re.compile(r"[0-9a-fA-F]{64}")
_STANDARD_PREFIX = "whsec_"
_STANDARD_SIGNATURES_MAX = 16
# Without dots, so that no byte can move between id, timestamp and body of the signed text.
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_\-]{1,256}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def sign(body: bytes, secret: Secret) -> str:
    """The value of X-Argus-Signature for these bytes (contract 9.7).

    Raises:
        ConfigError: the secret is empty.
    """
    return _PREFIX + hmac.new(callback_key(secret), body, hashlib.sha256).hexdigest()


def verify_callback(body: bytes, headers: Mapping[str, str], secrets: Sequence[Secret]) -> None:
    """Prove that a job callback was signed with one of `secrets` (two while one replaces the other).

    `headers` have lower-case names. Hex is read in either case. Every secret is tried whatever the outcome,
    in constant time.

    Raises:
        BadSignature: no signature, none of this form, or of another secret or other bytes.
        ConfigError: there is no secret, or an empty one.
    """
    if not secrets:
        raise ConfigError("callbacks cannot be verified without a secret", hint="configure the callback secret")
    keys = [callback_key(secret) for secret in secrets]
    said = headers.get(SIGNATURE_HEADER)
    if said is None:
        raise BadSignature(f"expected the header {SIGNATURE_HEADER}, found none")
    if not said.startswith(_PREFIX):
        raise BadSignature(f"expected {SIGNATURE_HEADER} to begin with {_PREFIX}")
    if _HEX.fullmatch(said, len(_PREFIX)) is None:
        raise BadSignature(f"expected 64 hex digits after {_PREFIX}, found {len(said) - len(_PREFIX)} characters")
    found = bytes.fromhex(said[len(_PREFIX) :])
    matches = [hmac.compare_digest(hmac.digest(key, body, "sha256"), found) for key in keys]
    if not any(matches):
        raise BadSignature("the callback's signature does not match its bytes under any active secret")


def as_standard(secret: Secret) -> Secret:
    """A secret of the platform as one of Standard Webhooks: `whsec_` ones are Base64 already, others their UTF-8."""
    text = secret.reveal()
    if text.startswith(_STANDARD_PREFIX):
        return secret
    return Secret(_STANDARD_PREFIX + base64.b64encode(text.encode()).decode())


def standard_key(secret: Secret) -> bytes:
    """The HMAC key of a Standard Webhooks secret: Base64, with or without its `whsec_`.

    Raises:
        ConfigError: empty, or not Base64.
    """
    try:
        key = base64.b64decode(secret.reveal().removeprefix(_STANDARD_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        # `from None`: the cause quotes nothing today, but it was given the secret.
        raise ConfigError("a webhook secret is Base64, after an optional whsec_") from None
    if not key:
        raise ConfigError("a webhook secret may not be empty")
    return key


def verify_standard(
    body: bytes,
    headers: Mapping[str, str],
    secrets: Sequence[Secret],
    *,
    now_s: float,
    tolerance_s: float = TOLERANCE_S,
) -> str:
    """Prove a Standard Webhooks delivery (headers `webhook-*`, or `svix-*`) and answer its id.

    The id is the same on every retry of a delivery, so it is what to remember.

    Raises:
        BadSignature: a header is missing or malformed, or no signature matches.
        ExpiredToken, NotYetValid: signed well, but more than `tolerance_s` ago or ahead.
        ConfigError: there is no secret, or a bad one.
    """
    if not secrets:
        raise ConfigError("webhooks cannot be verified without a secret", hint="configure the webhook's secret")
    keys = [standard_key(secret) for secret in secrets]
    family = next((one for one in FAMILIES if f"{one}-id" in headers), FAMILIES[-1])
    message_id = _header(headers, f"{family}-id", _MESSAGE_ID)
    timestamp = _header(headers, f"{family}-timestamp", _TIMESTAMP)
    said = headers.get(f"{family}-signature", "").split(" ")[:_STANDARD_SIGNATURES_MAX]
    signed = f"{message_id}.{timestamp}.".encode() + body
    wanted = [base64.b64encode(hmac.digest(key, signed, "sha256")) for key in keys]
    candidates = [item[3:].encode("utf-8", "replace") for item in said if item.startswith("v1,")]
    matches = [hmac.compare_digest(one, other) for one in wanted for other in candidates]
    if not any(matches):
        raise BadSignature("no v1 signature of the webhook matches its bytes under any active secret")
    _check_age(now_s - float(timestamp), tolerance_s)
    return message_id


def verify_event(
    body: bytes,
    headers: Mapping[str, str],
    secrets: Sequence[Secret],
    *,
    now_s: float,
    tolerance_s: float = TOLERANCE_S,
) -> str:
    """Prove an event of a subscription by both of its signatures, and answer the delivery's id (contract 6.6).

    `headers` have lower-case names. X-Argus-Signature and the `webhook-*` (or `svix-*`) headers must both match the
    bytes as they came, under any of `secrets`, as they were given to the platform or by it.

    Raises:
        BadSignature, ExpiredToken, NotYetValid, ConfigError: as `verify_callback` and `verify_standard`.
    """
    verify_callback(body, headers, secrets)
    standard = [as_standard(secret) for secret in secrets]
    return verify_standard(body, headers, standard, now_s=now_s, tolerance_s=tolerance_s)


def callback_key(secret: Secret) -> bytes:
    """The HMAC key of a callback secret: the UTF-8 of its text, or as `standard_key` reads it (Q38).

    Raises:
        ConfigError: the secret is empty, or no Base64 where it has to be.
    """
    if not secret:
        raise ConfigError("a callback secret may not be empty")
    if PROFILE.callback_key == "standard":
        return standard_key(as_standard(secret))
    return secret.reveal().encode()


def _header(headers: Mapping[str, str], name: str, form: re.Pattern[str]) -> str:
    value = headers.get(name)
    if value is None:
        raise BadSignature(f"expected the header {name}, found none")
    if form.fullmatch(value) is None:
        raise BadSignature(f"the header {name} is not of the form {form.pattern}")
    return value


def _check_age(age_s: float, tolerance_s: float) -> None:
    if age_s > tolerance_s:
        raise ExpiredToken(f"the webhook was signed {age_s:.0f} s ago, more than {tolerance_s:.0f} s")
    if -age_s > tolerance_s:
        raise NotYetValid(f"the webhook was signed {-age_s:.0f} s ahead, more than {tolerance_s:.0f} s")
