"""Patient care records, as asked (contract 7.2-7.4): routes 20-22."""

from __future__ import annotations

from typing import Any

from engine.client.call import Answered, Caller
from engine.codec.payload import from_plain
from engine.contract import epcr
from engine.contract.epcr import CreateEncounter, Encounter, GetBundle, GetEncounter
from engine.contract.exchange import Trace
from engine.errors import BrokenAnswer


class Epcr:
    """Encounters: made, and read without what identifies the patient."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, encounter_id: str, *, trace: Trace | None = None) -> Answered[Encounter]:
        """The summary of an encounter.

        Raises:
            Missing: there is none of this id. RecordError: what came is no summary.
        """
        answered = await self._caller.call(epcr.GET, GetEncounter(encounter_id=encounter_id), trace=trace)
        return Answered(from_plain(answered.answer, Encounter), answered.status, answered.headers, answered.trace_id)

    async def bundle(self, encounter_id: str, *, trace: Trace | None = None) -> Answered[dict[str, Any]]:
        """The encounter as a FHIR R4 Bundle of type `collection`.

        Raises:
            Missing: there is none of this id. BrokenAnswer: what came is no Bundle.
        """
        answered = await self._caller.call(epcr.BUNDLE, GetBundle(encounter_id=encounter_id), trace=trace)
        if answered.answer.get("resourceType") != "Bundle":
            raise BrokenAnswer("epcr.bundle: the answer is no Bundle", status=answered.status)
        return answered

    async def create(self, encounter: CreateEncounter, *, trace: Trace | None = None) -> Answered[Encounter]:
        """Store a new encounter, said in our words or as a Bundle. Twice makes two.

        Raises:
            Rejected: a member breaks a rule; the error names it.
        """
        return await self._caller.call(epcr.CREATE, encounter, trace=trace)
