"""The FHIR R4 examples of HL7: what our forms and readers make of each resource that others wrote."""

import json

import pytest

from engine.codec.payload import dumps, loads
from engine.contract.fhir import is_code, is_date, is_uri

pytestmark = pytest.mark.anyio

FHIR = "application/fhir+json"
ROOT = "/api/v1/epcr/encounters"
READ = ("Encounter", "Patient", "Observation", "Procedure", "MedicationAdministration")
ENCOUNTER = {
    "resourceType": "Encounter", "status": "finished", "identifier": [{"value": "inc_1"}],
    "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "EMER"},
    "period": {"start": "2026-05-08T12:00:00Z"},
}  # fmt: skip


@pytest.fixture(scope="module")
def examples(vectors):
    """Every resource of the suite by its file's name; what the package says of itself is none."""
    found = {path.name: path.read_bytes() for path in sorted(vectors("fhir-r4-examples").glob("[!_]*.json"))}
    assert len(found) == 264
    return found


def _leaves(value, name=""):
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, key)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one, name)
    else:
        yield name, value


async def _sent(api, token, *resources):
    entries = [{"resource": one} for one in resources]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": entries}
    return await api.send("POST", ROOT, token=token, json=bundle, headers={"Content-Type": FHIR})


def _coding(concept):
    return concept["coding"][0]


def test_every_value_survives_our_decoder_and_encoder(examples) -> None:
    """Decoded and encoded again each resource says the same, numbers as the doubles they are."""
    for name, text in examples.items():
        again = dumps(loads(text))
        assert json.loads(again) == json.loads(text), name


def test_the_forms_of_the_datatypes_hold_for_every_example(examples) -> None:
    """No date, code or URI in the examples is one that our forms would refuse."""
    codes, uris = ("status", "code", "gender", "use", "intent"), ("system", "url", "reference", "profile")
    dates = ("birthDate", "start", "end", "authoredOn", "recordedDate", "effectiveDateTime", "performedDateTime")
    judged = dict.fromkeys(dates, is_date) | dict.fromkeys(codes, is_code) | dict.fromkeys(uris, is_uri)
    counts = dict.fromkeys(judged, 0)
    for file, text in examples.items():
        for name, value in _leaves(json.loads(text)):
            if name in judged and isinstance(value, str):
                assert judged[name](value), (file, name, value)
                counts[name] += 1

    assert all(counts.values())


async def test_what_is_read_of_an_encounter_is_what_the_resource_says(api, examples) -> None:
    """Beside an Encounter each resource of the five kinds is read with its own values, or refused by its member."""
    token = await api.token()
    taken = dict.fromkeys(READ, 0)
    for name, text in examples.items():
        resource = json.loads(text)
        kind = resource["resourceType"]
        if kind not in READ:
            continue
        if kind == "Encounter":
            # No Encounter of the suite has both an identifier and a beginning to the second, which we ask for.
            answer = await _sent(
                api, token, resource | {member: ENCOUNTER[member] for member in ("identifier", "period")}
            )
        else:
            answer = await _sent(api, token, resource, ENCOUNTER)
        if answer.status != 201:
            assert answer.status == 422, (name, answer.body)
            assert answer.json["errors"][0]["loc"][-1].split(".")[0] in (
                "entry", "started_at", "vitals", "interventions", "medications",
            ), name  # fmt: skip
            continue
        taken[kind] += 1
        told = answer.json
        match kind:
            case "Encounter":
                assert told["status"] == resource["status"].replace("-", "_"), name
            case "Patient":
                assert told["patient"]["sex"] == resource.get("gender"), name
                assert b"birthDate" not in answer.body, name
            case "Observation" if "value" in resource.get("valueQuantity", {}):
                assert told["vitals"][0]["code"] == _coding(resource["code"])["code"], name
                assert told["vitals"][0]["value"] == resource["valueQuantity"]["value"], name
            case "Observation":
                assert told["vitals"] == [], name
            case "Procedure":
                assert told["interventions"][0]["code"] == _coding(resource["code"])["code"], name
            case "MedicationAdministration":
                assert told["medications"][0]["dose"] == resource.get("dosage", {}).get("dose", {}).get("value"), name

    # The others give no day and time, or no code: of Procedures only four say when to the second.
    assert taken == {
        "Encounter": 10, "Patient": 22, "Observation": 49, "Procedure": 4, "MedicationAdministration": 12,
    }  # fmt: skip


async def test_other_resources_are_passed_over(api, examples) -> None:
    """Of whatever kind, beside an Encounter they change nothing that is said of it."""
    token = await api.token()
    alone = (await _sent(api, token, ENCOUNTER)).json
    kinds = set()
    for name, text in examples.items():
        resource = json.loads(text)
        if resource["resourceType"] in (*READ, "Bundle"):
            continue
        answer = await _sent(api, token, resource, ENCOUNTER)
        assert answer.status == 201, (name, answer.body)
        own = ("id", "updated_at")
        assert {key: one for key, one in answer.json.items() if key not in own} == {
            key: one for key, one in alone.items() if key not in own
        }, name
        kinds.add(resource["resourceType"])

    assert len(kinds) == 16


async def test_observations_of_the_examples_are_taken_from_devices(emulator, api, examples) -> None:
    """Each is kept with every value it came with; refused are those in which nothing was observed."""
    token = await api.token()
    wish = {"manufacturer": "Acme", "model": "PulseOx", "serial_number": "1", "type_code": "528388"}
    device = (await api.send("POST", "/api/v1/devices/enrol", token=token, json=wish)).json["id"]
    taken = 0
    for name, text in examples.items():
        resource = json.loads(text)
        if resource["resourceType"] != "Observation":
            continue
        answer = await api.send(
            "POST", f"/api/v1/devices/{device}/observations", token=token, data=text, headers={"Content-Type": FHIR}
        )
        if answer.status == 422:
            assert not {"component", "hasMember", "dataAbsentReason"} & resource.keys(), name
            assert not any(member.startswith("value") for member in resource), name
            continue
        assert answer.status == 201, (name, answer.body)
        row = emulator.state.db.execute("SELECT resource FROM observations WHERE id = ?", (answer.json["id"],))
        kept = json.loads(row.fetchone()[0])
        assert kept | {"device": None} == resource | {"device": None}, name
        taken += 1

    assert taken == 61
