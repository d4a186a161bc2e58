"""Sandbox: tokens for it, and the scenarios it can play (contract 10, routes 33 and 34).

The gate between the worlds is in `gate`, the seed of its answers in `scenarios`, its jobs where jobs are.
"""

from __future__ import annotations

from msgspec import UNSET

from engine.contract import sandbox as contract
from engine.contract.sandbox import SandboxToken, ScenarioList
from engine.emulator.call import Call, Handler, Reply
from engine.emulator.identity import Apps
from engine.emulator.oauth import active_app
from engine.emulator.refusal import Refusal, invalid
from engine.emulator.scenarios import SCENARIO_IDS, SCENARIOS
from engine.emulator.state import State
from engine.emulator.tokens import Tokens, Wish

SCHEMA = """
CREATE TABLE IF NOT EXISTS audit (
  number INTEGER PRIMARY KEY, at TEXT NOT NULL, event TEXT NOT NULL, tenant_id TEXT NOT NULL,
  actor TEXT NOT NULL, client_id TEXT NOT NULL, trace_id TEXT NOT NULL
);
"""


def handlers(state: State, apps: Apps, tokens: Tokens) -> dict[str, Handler]:
    """Routes 33 and 34."""
    state.apply_schema(SCHEMA)

    async def mint(call: Call) -> Reply:
        # A sandbox token never comes this far: the gate has refused it on the live host (contract 10.1).
        app = active_app(apps, call)
        profile = state.profile
        pinned = () if call.ask.scenarios is UNSET else tuple(dict.fromkeys(call.ask.scenarios))
        if unknown := [scenario for scenario in pinned if scenario not in SCENARIO_IDS]:
            if profile.refuses_unknown_scenario:
                raise invalid("body", "scenarios", f"{unknown[0]!r} is not one of: {', '.join(SCENARIO_IDS)}")
            pinned = tuple(scenario for scenario in pinned if scenario in SCENARIO_IDS)
        if call.caller is None:
            raise Refusal(401, "unauthorized", "This route needs a bearer token.")
        # The token is the administrator's to lend: tenant and organisation are theirs (contract 10.1).
        world = {"sandbox": True, profile.scenarios_claim: list(pinned)}
        minted = await tokens.mint(
            app,
            Wish(
                scopes=profile.sandbox_scopes,
                ttl_s=tokens.clamp_ttl(None if call.ask.ttl_seconds is UNSET else call.ask.ttl_seconds),
                audience=profile.sandbox_audience,
                subject=app.client_id,
                extra={"organization_id": call.caller.organization_id, **world},
            ),
        )
        state.db.execute(
            "INSERT INTO audit (at, event, tenant_id, actor, client_id, trace_id) VALUES (?, ?, ?, ?, ?, ?)",
            (
                state.now_text(),
                "sandbox.token.issue",
                app.tenant_id,
                call.caller.client_id,
                app.client_id,
                call.trace.trace_id,
            ),
        )
        answer = SandboxToken(
            token=minted.token,
            expires_at=minted.expires_at,
            audience=profile.sandbox_audience,
            scopes=list(minted.scopes),
            sandbox_host=state.sandbox_url,
            scenarios=list(pinned),
        )
        return Reply(body=answer, headers={"Cache-Control": "no-store"})

    def scenarios(call: Call) -> Reply:
        return Reply(body=ScenarioList(list(SCENARIOS)))

    return {contract.MINT.name: mint, contract.SCENARIOS.name: scenarios}
