"""Challenge: what a refusal says is missing from our token, in words that say what to change (RFC 6750 section 3)."""

from __future__ import annotations

import re

from engine.contract.profile import PROFILE
from engine.errors import Refused

_MEMBER = re.compile(r'(\w+)\s*=\s*"([^"\\]{0,300})"')


def explain(error: Refused) -> None:
    """Let the refusal's hint name the scope or the claim that the platform misses, where it said so."""
    said = dict(_MEMBER.findall(str(error.facts.get("challenge", ""))))
    if scope := said.get(PROFILE.challenge_scope):
        error.hint = f"the token lacks the scope {scope}: grant it to the app, and ask for it in [platform] scopes"
    elif said.get("error") == PROFILE.scope_error:
        error.hint = "the token lacks a scope that this route needs: grant it to the app, and ask for it in config.toml"
    elif said.get("error") == PROFILE.token_error and "error_description" not in said:
        error.hint = "the platform takes our token for no good one: check issuer and audience, and this machine's clock"
    elif why := said.get("error_description"):
        error.hint = f"the platform refuses our token: {why.rstrip('.')}; check the app, its secret and its scopes"
