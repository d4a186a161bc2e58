"""The sandbox, as asked (contract 10): routes 33 and 34."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from engine.client.call import Answered, Caller
from engine.contract import sandbox
from engine.contract.exchange import Trace
from engine.contract.profile import PROFILE
from engine.contract.route import Nothing
from engine.contract.sandbox import MintSandboxToken, SandboxToken, ScenarioList
from engine.errors import RecordError


class Sandbox:
    """Sandbox tokens and what they can pin."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def token(
        self,
        client_id: str,
        *,
        scenarios: Sequence[str] | UnsetType = UNSET,
        ttl_seconds: int | UnsetType = UNSET,
        trace: Trace | None = None,
    ) -> Answered[SandboxToken]:
        """Mint a sandbox token, as an administrator on the live auth host; its life is clamped, never refused.

        Raises:
            RecordError: the platform passed over a scenario that it does not know, where it refuses none (Q51).
        """
        ask = MintSandboxToken(
            client_id=client_id,
            scenarios=UNSET if scenarios is UNSET else list(scenarios),
            ttl_seconds=ttl_seconds,
        )
        answered = await self._caller.call(sandbox.MINT, ask, trace=trace)
        wanted = () if scenarios is UNSET or PROFILE.refuses_unknown_scenario else scenarios
        if lost := [one for one in wanted if one not in answered.answer.scenarios]:
            # Without it the token would play another scenario, and nobody would notice.
            raise RecordError(f"the sandbox knows no scenario {lost[0][:40]!a}", hint="ask sandbox.scenarios")
        return answered

    async def scenarios(self, *, trace: Trace | None = None) -> Answered[ScenarioList]:
        """The scenarios the sandbox can play; asked at the sandbox host with a sandbox token."""
        return await self._caller.call(sandbox.SCENARIOS, Nothing(), trace=trace)
