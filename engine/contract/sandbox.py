"""The sandbox (contract 10): routes 33 and 34."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Nothing, Route


class MintSandboxToken(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox token; `ttl_seconds` is clamped into [60, 86400], never refused."""

    client_id: str
    scenarios: list[str] | UnsetType = UNSET
    ttl_seconds: int | UnsetType = UNSET


class SandboxToken(msgspec.Struct, frozen=True, kw_only=True):
    """A minted sandbox token, `aud=sandbox`."""

    token: str
    expires_at: str
    audience: str
    scopes: list[str]
    sandbox_host: str
    scenarios: list[str]


class Scenario(msgspec.Struct, frozen=True):
    """A canned situation the sandbox can play."""

    id: str
    label: str
    description: str


class ScenarioList(msgspec.Struct, frozen=True):
    """All scenarios of the sandbox."""

    scenarios: list[Scenario]


MINT = Route(
    number=33, name="sandbox.token", method="POST", path="/v1/platform/apps/{client_id}/sandbox-token",
    hosts=(Host.AUTH,), auth=Auth.BEARER, scopes=PROFILE.admin_scopes, ask=MintSandboxToken,
    answer=SandboxToken, refusals=(409,),
)  # fmt: skip
SCENARIOS = Route(
    number=34, name="sandbox.scenarios", method="GET", path="/v1/sandbox/scenarios", hosts=(Host.SANDBOX,),
    auth=Auth.SANDBOX, ask=Nothing, answer=ScenarioList,
)  # fmt: skip

ROUTES = (MINT, SCENARIOS)
EXAMPLES = {
    MINT.name: MintSandboxToken(client_id="app_123", scenarios=["wallet.high-risk"], ttl_seconds=600),
    SCENARIOS.name: Nothing(),
}
