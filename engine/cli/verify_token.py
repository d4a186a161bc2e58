"""`engine verify token`: a token proved with keys from a file, without asking anybody (contract 5; RFC 8725)."""

from __future__ import annotations

import time

import click

from engine.cli.foreign import read_file, read_token, shown, token_lines
from engine.cli.output import emit, emit_json, tell
from engine.contract.dates import rfc3339_s
from engine.contract.profile import PROFILE
from engine.trust.bearer import parse_jwks
from engine.trust.bearer import verify as prove

_KEY_FILE_MAX = 64 * 1024


@click.command("token")
@click.argument("file", metavar="FILE")
@click.option(
    "--keys", metavar="FILE", required=True, help="The key set: the answer of `engine call keys.well_known`, as saved."
)
@click.option("--issuer", metavar="URL", default=PROFILE.issuer, show_default=True, help="Expect this `iss`.")
@click.option("--audience", metavar="NAME", default=PROFILE.audience, show_default=True, help="Expect this `aud`.")
@click.option("--at", metavar="TIME", help="As of this time (RFC 3339), not now.")
@click.option("--json", "is_json", is_flag=True, help="The claims as one JSON object.")
def token(*, file: str, keys: str, issuer: str, audience: str, at: str | None, is_json: bool) -> None:
    """Verify the token in FILE (- is stdin): signature, issuer, audience and times.

    Example: engine verify token token.txt --keys jwks.json --audience sandbox
    """
    secret = read_token(file)
    claims = prove(
        secret.reveal(),
        parse_jwks(read_file(keys, _KEY_FILE_MAX)),
        issuer=issuer,
        audience=audience,
        now_s=moment(at),
    )
    if is_json:
        emit_json({"file": file, "proven": True, "claims": claims.raw})
    else:
        emit("\n".join(token_lines(claims.raw, now_s=moment(at))))
    tell(f"{shown(file)}: proven, issued by {shown(claims.iss)}")


def moment(at: str | None) -> float:
    """Unix seconds of a time that was given, or of now.

    Raises:
        click.BadParameter: it is no time.
    """
    if at is None:
        return time.time()
    seconds = rfc3339_s(at)
    if seconds is None:
        raise click.BadParameter(f"{at!r} is no RFC 3339 time, such as 2026-05-08T12:00:00Z")
    return seconds
