"""Patient care records: made in our words or as FHIR, read back without the person (contract 7.2-7.4)."""

import json
from pathlib import Path

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given
from hypothesis import strategies as st

from engine.codec.payload import encode
from engine.contract.epcr import Act, CreateEncounter, Medication, NewPatient, Triage, Vital
from engine.emulator.bundles import write
from engine.emulator.epcr import checked
from engine.emulator.refusal import Refusal
from engine.emulator.state import Options

pytestmark = pytest.mark.anyio

ROOT = "/api/v1/epcr/encounters"
FHIR = "application/fhir+json"
VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "fhir-r4-examples"
WISH = {
    "incident_id": "inc_123",
    "started_at": "2026-05-08T12:00:00Z",
    "ended_at": "2026-05-08T13:10:00Z",
    "status": "finished",
    "chief_complaint": "chest pain",
    "triage": {"protocol": "START", "category": "red"},
    "patient": {
        "ref": "pat_1", "sex": "female", "birth_date": "1972-05-09", "name": "Grace Doe",
        "address": {"line": ["1 Main Street"]}, "next_of_kin": {"phone": "+1 555 0100"},
    },
    "vitals": [
        {"code": "8867-4", "display": "Heart rate", "value": 88, "unit": "/min", "taken_at": "2026-05-08T12:05:00Z"},
        {"code": "9269-2", "display": "Glasgow", "value": 0, "unit": "{score}", "taken_at": "2026-05-08T12:05:00Z"},
    ],
    "interventions": [{"code": "232674004", "display": "Intubation", "at": "2026-05-08T12:06:00Z"}],
    "medications": [{"code": "1191", "display": "Aspirin", "at": "2026-05-08T12:07:00Z", "dose": 300, "unit": "mg"}],
    "disposition": "transported",
}  # fmt: skip
_EMPTY = {"resourceType": "Encounter"}
SECRETS = (b"1972", b"Grace", b"Main Street", b"555 0100")


async def made(api, token, **members):
    """A new encounter, as answered."""
    answer = await api.send("POST", ROOT, token=token, json=WISH | members)
    assert answer.status == 201, answer.body
    return answer


async def test_an_encounter_comes_back_without_the_person(emulator, api):
    """The summary holds an age and no date of birth, name, address or contact; neither does the database."""
    token = await api.token()

    answer = await made(api, token)
    seen = await api.send("GET", answer.headers["Location"], token=token)
    bundle = await api.send("GET", answer.headers["Location"] + "/fhir-bundle", token=token)

    assert answer.json["patient"] == {"ref": "pat_1", "age_years": 53, "sex": "female"}
    assert seen.json == answer.json
    assert seen.json["vitals"][0]["value"] == 88
    stored = emulator.state.db.execute("SELECT encounter FROM encounters").fetchone()[0]
    assert not any(secret in body for secret in SECRETS for body in (answer.body, seen.body, bundle.body, stored))


async def test_the_bundle_is_fhir_r4(api):
    """An independent reader takes it; each entry has its own name, the same each time; `format=fhir` is the same."""
    token = await api.token()
    where = (await made(api, token)).headers["Location"]

    bundle = await api.send("GET", where + "/fhir-bundle", token=token)
    same = await api.send("GET", where, token=token, params={"format": "fhir"})

    assert bundle.headers["Content-Type"].startswith(FHIR)
    assert same.body == bundle.body
    read = Bundle.model_validate_json(bundle.body)
    assert read.type == "collection"
    kinds = [entry["resource"]["resourceType"] for entry in bundle.json["entry"]]
    assert kinds == ["Encounter", "Patient", "Observation", "Observation", "Procedure", "MedicationAdministration"]
    names = [entry["fullUrl"] for entry in bundle.json["entry"]]
    assert len(set(names)) == len(names)
    assert bundle.json["entry"][2]["resource"]["subject"] == {"reference": names[1]}
    assert (await api.send("GET", where, token=token, params={"format": "xml"})).status == 422


async def test_what_devices_measured_comes_along(api):
    """Observations of the tenant's own devices for this encounter are entries of its Bundle."""
    token = await api.token()
    encounter = (await made(api, token)).json["id"]
    wish = {"manufacturer": "Acme", "model": "PulseOx", "serial_number": "1", "type_code": "528388"}
    device = (await api.send("POST", "/api/v1/devices/enrol", token=token, json=wish)).json["id"]
    measured = {"code": "150456", "value": 97, "unit": "%", "encounter_id": encounter}
    await api.send("POST", f"/api/v1/devices/{device}/observations", token=token, json=measured)

    bundle = await api.send("GET", f"{ROOT}/{encounter}/fhir-bundle", token=token)

    Bundle.model_validate_json(bundle.body)
    assert bundle.json["entry"][-1]["resource"]["code"]["coding"][0]["code"] == "150456"


async def test_a_bundle_makes_the_encounter_it_came_from(api):
    """Sent back as FHIR, a Bundle makes an encounter whose Bundle says the same."""
    token = await api.token()
    where = (await made(api, token)).headers["Location"]
    bundle = await api.send("GET", where + "/fhir-bundle", token=token)

    again = await api.send("POST", ROOT, token=token, data=bundle.body, headers={"Content-Type": FHIR})

    assert again.status == 201, again.body
    first = (await api.send("GET", where, token=token)).json
    for member in ("incident_id", "started_at", "ended_at", "status", "chief_complaint", "vitals", "disposition"):
        assert again.json[member] == first[member]


@pytest.mark.skipif(not VECTORS.is_dir(), reason="vectors: fhir-r4-examples not found")
async def test_foreign_bundles_are_made_or_refused_by_name(api):
    """Each Bundle of the FHIR R4 examples either makes an encounter or is refused with a member named; never a 5xx."""
    token = await api.token()
    answers = {}
    for path in sorted(VECTORS.glob("Bundle-*.json")):
        data = path.read_bytes()
        if len(data) < 1_000_000:
            answers[path.name] = await api.send("POST", ROOT, token=token, data=data, headers={"Content-Type": FHIR})

    assert len(answers) > 5
    assert {answer.status for answer in answers.values()} <= {201, 422}
    assert all(answer.status == 201 or answer.json["errors"] for answer in answers.values())


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("incident_id", None), ("incident_id", ""), ("started_at", None), ("started_at", "2026-05-08"),
        ("ended_at", "2026-05-08T11:00:00Z"), ("status", "asleep"), ("patient.sex", {"sex": "f"}),
        ("patient.age_years", {"age_years": 200}), ("patient.birth_date", {"birth_date": "May"}),
        ("vitals.0.taken_at", [{"code": "1", "value": 1, "unit": "1", "taken_at": "now"}]),
    ],
)  # fmt: skip
async def test_what_is_no_encounter_is_refused(emulator, api, member, value):
    """422 names the member, and nothing is kept."""
    wish = {name: said for name, said in (WISH | {member.split(".")[0]: value}).items() if said is not None}

    answer = await api.send("POST", ROOT, token=await api.token(), json=wish)

    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["body", member])
    assert emulator.state.db.execute("SELECT count(*) FROM encounters").fetchone() == (0,)


@pytest.mark.parametrize(
    ("member", "bundle"),
    [
        ("resourceType", {"resourceType": "Patient"}),
        ("entry", {"resourceType": "Bundle"}),
        ("entry", {"resourceType": "Bundle", "entry": []}),
        ("entry.0.resource", {"resourceType": "Bundle", "entry": [7]}),
        ("entry.0.identifier.0.value", {"resourceType": "Bundle", "entry": [{"resource": _EMPTY}]}),
    ],
)  # fmt: skip
async def test_what_is_no_bundle_is_refused(api, member, bundle):
    """422 says which entry lacks what."""
    answer = await api.send(
        "POST", ROOT, token=await api.token(), data=json.dumps(bundle), headers={"Content-Type": FHIR}
    )

    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["body", member])


_PIECES = st.lists(
    st.sampled_from(["a", "8867-4", " ", "  ", "\n", "\t", "\x01", "é", "http://x.example/"]), max_size=4
).map("".join)
_MOMENTS = st.sampled_from([
    "2026-05-08T12:00:00Z", "2026-05-08T12:00:00.5+02:00", "2026-05-08T12:00Z", "2026-05-08T12:00:00z", "2026-05-08",
    "20260508T120000Z", "2026-05-08 12:00:00Z", "2026-02-30T12:00:00Z", "2026-05-08T12:00:00",
])  # fmt: skip


_FIT = {"text": "a b", "code": "8867-4", "system": "http://x.example/", "unit": "mg", "at": "2026-05-08T12:00:00Z"}


@given(
    st.sampled_from(sorted(_FIT)).flatmap(
        lambda name: st.fixed_dictionaries({name: _MOMENTS if name == "at" else _PIECES})
    )
)
def test_whatever_is_taken_is_served_as_fhir(odd):
    """No encounter passes our checks whose Bundle a FHIR reader that is not ours would refuse."""
    text, code, system, unit, at = (_FIT | odd).values()
    ask = CreateEncounter(
        incident_id=text, started_at=at, chief_complaint=text, disposition=text, patient=NewPatient(sex="male"),
        triage=Triage(protocol=text, category=text),
        vitals=[Vital(code=code, display=text, value=1.5, unit=unit, taken_at=at)],
        interventions=[Act(code=code, display=text, system=system, at=at)],
        medications=[Medication(code=code, display=text, system=system, at=at, dose=1, unit=unit)],
    )  # fmt: skip

    try:
        taken = checked(ask, "enc_1", now="2026-05-08T12:00:00Z")
    except Refusal:
        return

    Bundle.model_validate_json(encode(write(taken, [])))


def test_an_ordinary_encounter_is_taken():
    """The checks let through what they are there for, so that the property above says something."""
    assert checked(CreateEncounter(incident_id="a b", started_at="2026-05-08T12:00:00.5+02:00"), "enc_1", now="")


async def test_a_tenant_does_not_see_another(api):
    """404 in both forms to another tenant, as for an id that never was."""
    where = (await made(api, await api.token())).headers["Location"]
    other = await api.token("app_other")

    for path in (where, where + "/fhir-bundle", ROOT + "/enc_none"):
        assert (await api.send("GET", path, token=other)).status == 404


async def test_each_route_has_its_scope(api):
    """Reading takes `argus:epcr:read`, making `argus:epcr:write`; 403 otherwise."""
    where = (await made(api, await api.token())).headers["Location"]
    reader, writer = await api.token(scope="argus:epcr:read"), await api.token(scope="argus:epcr:write")

    assert (await api.send("GET", where, token=reader)).status == 200
    assert (await api.send("GET", where + "/fhir-bundle", token=writer)).status == 403
    assert (await api.send("POST", ROOT, token=reader, json=WISH)).status == 403


async def test_encounters_survive_a_restart(start, tmp_path):
    """What was stored is there when the state file is opened again."""
    options = Options(state_path=str(tmp_path / "state.db"))
    first, api = await start(options)
    where = (await made(api, await api.token())).headers["Location"]
    await first.__aexit__(None, None, None)

    _, api = await start(options)
    assert (await api.send("GET", where, token=await api.token())).status == 200
