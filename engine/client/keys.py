"""Token verification keys, as asked (contract 5): routes 10 and 11. Caching them is `trust.keyring`'s work."""

from __future__ import annotations

from engine.client.call import Answered, Caller
from engine.contract import keys
from engine.contract.exchange import Trace
from engine.contract.keys import KeySet
from engine.contract.route import Nothing


class Keys:
    """The issuer's public keys, as documents."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def well_known(self, *, trace: Trace | None = None) -> Answered[KeySet]:
        """The key set at its well-known path."""
        return await self._caller.call(keys.WELL_KNOWN, Nothing(), trace=trace)

    async def versioned(self, *, trace: Trace | None = None) -> Answered[KeySet]:
        """The same key set at its versioned path."""
        return await self._caller.call(keys.VERSIONED, Nothing(), trace=trace)
