"""`engine verify webhook`: a callback or an event proved from its saved bytes and headers (contract 6.6, 9.7).

The bytes are checked as they are in the file: a body that was reformatted on its way there proves nothing any more.
"""

from __future__ import annotations

import click

from engine.cli.foreign import read_file, shown
from engine.cli.output import emit_json, tell
from engine.cli.verify_token import moment
from engine.codec.canonical import canonical
from engine.codec.payload import check_caps, loads
from engine.contract.profile import PROFILE
from engine.errors import BadSignature, EngineError, RecordError
from engine.settings import Secret
from engine.trust.strict import json_object
from engine.trust.webhook import FAMILIES, TOLERANCE_S, as_standard, verify_callback, verify_standard

_BODY_MAX = 1024 * 1024
_HEADERS_MAX = 64 * 1024
_SECRET_MAX = 4096


@click.command("webhook")
@click.argument("file", metavar="FILE")
@click.option("--headers", metavar="FILE", required=True, help="Its headers: lines `Name: value`, or one JSON object.")
@click.option(
    "--secret", "secrets", metavar="FILE", required=True, multiple=True, help="The secret; twice while one is replaced."
)
@click.option("--canonical", "may_canonical", is_flag=True, help="Try the RFC 8785 form too, when the bytes fail.")
@click.option("--at", metavar="TIME", help="As of this time (RFC 3339), not now.")
@click.option("--any-age", is_flag=True, help="Do not mind how long ago it was signed.")
@click.option("--json", "is_json", is_flag=True, help="What was proven as one JSON object.")
def webhook(
    *,
    file: str,
    headers: str,
    secrets: tuple[str, ...],
    may_canonical: bool,
    at: str | None,
    any_age: bool,
    is_json: bool,
) -> None:
    """Verify the body in FILE (- is stdin) of a job callback or of a webhook's event, byte for byte.

    X-Argus-Signature must match, and so must the webhook-* or svix-* headers where there are any.

    Example: engine verify webhook body.json --headers headers.txt --secret secret.txt
    """
    keys = [_secret(name) for name in secrets]
    told = _headers(read_file(headers, _HEADERS_MAX))
    body, is_canonical = _proven(read_file(file, _BODY_MAX), told, keys, may_canonical=may_canonical)
    checked, delivery_id = ["x-argus-signature"], None
    family = next((one for one in FAMILIES if f"{one}-id" in told), None)
    if family is not None:
        tolerance_s = float("inf") if any_age else TOLERANCE_S
        standard = [as_standard(key) for key in keys]
        delivery_id = verify_standard(body, told, standard, now_s=moment(at), tolerance_s=tolerance_s)
        checked.append(f"{family}-signature")
    if is_json:
        more = {"is_canonical": is_canonical, "delivery_id": delivery_id}
        emit_json({"file": file, "proven": True, "checked": checked, **more})
    form = ", in its canonical form" if is_canonical else ""
    tell(f"{shown(file)}: proven by {' and '.join(checked)}{form}")
    if family is None:
        tell("it signs no time: only its job and status tell a replay from a delivery")


def _proven(body: bytes, headers: dict[str, str], keys: list[Secret], *, may_canonical: bool) -> tuple[bytes, bool]:
    """The bytes that were signed, and whether that is the canonical form of what was received."""
    if len(body) > _BODY_MAX:
        raise RecordError(f"the body has more than {_BODY_MAX} bytes, which no webhook has")
    try:
        verify_callback(body, headers, keys)
    except BadSignature:
        if not may_canonical and PROFILE.callback_signs != "canonical":
            raise
        form = canonical(json_object(body, what="body"))
        verify_callback(form, headers, keys)
        return form, True
    return body, False


def _secret(name: str) -> Secret:
    # Editors end files with a line break; no secret of the platform does.
    text = read_file(name, _SECRET_MAX).decode("utf-8", "replace").rstrip("\r\n")
    if not text:
        raise click.BadParameter(f"{name} holds no secret")
    return Secret(text)


def _headers(text: bytes) -> dict[str, str]:
    """Headers by their names in lower case, from a JSON object or from lines."""
    stripped = text.strip()
    if stripped.startswith(b"{"):
        try:
            check_caps(stripped, max_bytes=_HEADERS_MAX)
            members = loads(stripped)
        except EngineError as exc:
            raise click.BadParameter(f"the headers are no JSON object: {exc.message}") from exc
        return {str(name).lower(): str(value) for name, value in members.items()}
    found: dict[str, str] = {}
    for line in stripped.decode("latin-1").splitlines():
        name, colon, value = line.partition(":")
        # The first line of a saved request names its method; it has no colon before its first blank.
        if colon and name and " " not in name:
            found[name.strip().lower()] = value.strip()
    return found
