"""Patient care records by the client, over real connections."""

import pytest

from engine.contract.epcr import CreateEncounter, Encounter, Vital
from engine.errors import Missing, Rejected

pytestmark = pytest.mark.anyio

NEW = CreateEncounter(
    incident_id="inc_1",
    started_at="2026-05-08T12:00:00Z",
    vitals=[Vital(code="8867-4", value=88, unit="/min", taken_at="2026-05-08T12:05:00Z")],
)


async def test_an_encounter_there_and_back(emulator, client_of) -> None:
    """Made, read as a summary and as a Bundle, and made again from that Bundle."""
    epcr = client_of(emulator).epcr

    made = (await epcr.create(NEW)).answer
    seen = (await epcr.get(made.id)).answer
    bundle = (await epcr.bundle(made.id)).answer
    again = (await epcr.create(CreateEncounter(resource=bundle))).answer

    assert isinstance(seen, Encounter)
    assert seen == made
    assert bundle["type"] == "collection"
    assert (again.incident_id, again.vitals) == (made.incident_id, made.vitals)
    assert again.id != made.id


async def test_refusals_are_typed(emulator, client_of) -> None:
    """No such encounter is Missing, one without its incident is Rejected."""
    epcr = client_of(emulator).epcr

    with pytest.raises(Missing):
        await epcr.get("enc_none")
    with pytest.raises(Rejected, match="incident_id"):
        await epcr.create(CreateEncounter(started_at="2026-05-08T12:00:00Z"))
