"""Patient care records by the client, over real connections."""

import pytest

from engine.contract.epcr import CreateEncounter, Encounter, Vital
from engine.errors import BrokenAnswer, Missing, Rejected

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


async def test_f45_one_bad_entry_of_five_hundred_is_named(emulator, client_of) -> None:
    """The whole Bundle is refused, the error says which entry lacks what, and nothing is kept."""
    epcr = client_of(emulator).epcr
    bundle = (await epcr.bundle((await epcr.create(NEW)).answer.id)).answer
    entry = next(one for one in bundle["entry"] if one["resource"]["resourceType"] == "Observation")
    bad = {"resource": {name: value for name, value in entry["resource"].items() if name != "effectiveDateTime"}}
    many = bundle | {"entry": [*bundle["entry"], *[entry] * 496, bad]}

    with pytest.raises(Rejected, match=f"entry.{len(many['entry']) - 1}.effectiveDateTime"):
        await epcr.create(CreateEncounter(resource=many))

    assert emulator.state.db.execute("SELECT count(*) FROM encounters").fetchone() == (1,)


async def test_f45_a_created_encounter_needs_no_location(platform, scripted, answer_json) -> None:
    """A 201 without Location is read from its body."""
    answer = {"id": "enc_1", "incident_id": "inc_1", "status": "in_progress", "started_at": "2026-05-08T12:00:00Z"}
    platform.script["POST /api/v1/epcr/encounters"] = answer_json(answer, 201)

    assert (await scripted.epcr.create(NEW)).answer.id == "enc_1"


async def test_f45_an_operation_outcome_with_200_is_no_encounter(platform, scripted, answer_json) -> None:
    """An error that comes as a success is not taken for what was asked."""
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "invalid"}]}
    platform.script["POST /api/v1/epcr/encounters"] = answer_json(outcome)
    platform.script["GET /api/v1/epcr/encounters/enc_1/fhir-bundle"] = answer_json(outcome)

    with pytest.raises(BrokenAnswer):
        await scripted.epcr.create(NEW)
    with pytest.raises(BrokenAnswer):
        await scripted.epcr.bundle("enc_1")
