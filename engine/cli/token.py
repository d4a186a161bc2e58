"""`engine token inspect|verify`: what a token says, and whether the platform stands by it.

The token comes from a file or from stdin, never from the command line, which every process on the machine can read.
It is never printed.
"""

from __future__ import annotations

import time

import click

from engine.access import issuer_of
from engine.cli.foreign import read_token, shown, token_lines
from engine.cli.invocation import Invocation, pass_invocation
from engine.cli.output import emit, emit_json, tell
from engine.clock import SystemClock
from engine.contract.keys import WELL_KNOWN
from engine.settings import Secret, Settings
from engine.trust.bearer import Claims
from engine.trust.unproven import read_unproven


@click.group()
def token() -> None:
    """Look at tokens and prove them."""


@token.command()
@click.argument("file", metavar="FILE", default="-")
@click.option("--json", "is_json", is_flag=True, help="Header and claims as one JSON object.")
def inspect(*, file: str, is_json: bool) -> None:
    """Show the header and the claims of the token in FILE (stdin by default). Proves nothing.

    Example: engine token inspect token.txt
    """
    found = read_unproven(read_token(file).reveal())
    if is_json:
        emit_json({"proven": False, "header": found.header, "claims": found.claims})
    else:
        emit("\n".join(token_lines({**found.header, **found.claims}, now_s=time.time())))
    tell("not proven: anybody can write a token that says this; see engine token verify")


@token.command()
@click.argument("file", metavar="FILE", default="-")
@click.option("--issuer", metavar="URL", help="Expect this `iss`, not the one of the platform in config.toml.")
@click.option("--audience", metavar="NAME", help="Expect this `aud`, such as sandbox.")
@click.option("--json", "is_json", is_flag=True, help="The claims as one JSON object.")
@pass_invocation
def verify(invocation: Invocation, *, file: str, issuer: str | None, audience: str | None, is_json: bool) -> None:
    """Prove the token in FILE (stdin by default) with the keys that the configured platform publishes now.

    Signature, issuer, audience and times must all be right. To ask nobody, see engine verify token.

    Example: engine token verify token.txt --audience sandbox
    """
    settings = invocation.settings()
    secret = read_token(file)
    from engine.cli.run import on_loop

    claims = on_loop(lambda: _prove(settings, secret, issuer=issuer, audience=audience))
    if is_json:
        emit_json({"proven": True, "claims": claims.raw})
    else:
        emit("\n".join(token_lines(claims.raw, now_s=time.time())))
    tell(f"{shown(file)}: proven, issued by {shown(claims.iss)}")


async def _prove(settings: Settings, token: Secret, *, issuer: str | None, audience: str | None) -> Claims:
    """Prove a token with the keys of the platform; `issuer` and `audience` where they are not its own."""
    from engine.transport.choosing import open_transport
    from engine.trust.keyring import Keyring

    known = issuer_of(settings)
    pool = open_transport(settings.platform.transport, concurrency=1)
    try:
        keyring = Keyring(known.auth_url + WELL_KNOWN.path, pool, SystemClock())
        issuer, audience = issuer or known.issuer, audience or known.audience
        return await keyring.verify(token.reveal(), issuer=issuer, audience=audience)
    finally:
        await pool.aclose()
