"""The routes of medical devices: enrol once, list, observe in two forms (contract 7.5-7.7, Q64)."""

import json
import sqlite3
from pathlib import Path

import pytest
from fhir.resources.R4B.observation import Observation

from engine.clock import ManualClock
from engine.emulator.state import Options

pytestmark = pytest.mark.anyio

DEVICES = "/api/v1/devices"
WISH = {"manufacturer": "Acme", "model": "PulseOx 3", "serial_number": "SN-1", "type_code": "528388"}
PLAIN = {"code": "150456", "value": 97, "unit": "%", "effective_at": "2026-05-08T12:00:00Z", "encounter_id": "enc_1"}
FHIR = "application/fhir+json"
EXAMPLES = Path(__file__).parents[3] / "shared" / "vectors" / "hl7-phd" / "examples"


async def enrolled(api, token, **members):
    """A new device, as answered."""
    answer = await api.send("POST", DEVICES + "/enrol", token=token, json=WISH | members)
    assert answer.status == 201, answer.body
    return answer.json


def kept(emulator, observation_id):
    """An observation as it was stored."""
    row = emulator.state.db.execute("SELECT resource FROM observations WHERE id = ?", (observation_id,)).fetchone()
    return json.loads(row[0])


async def test_a_device_is_enrolled_once(api):
    """The device comes back with an id; the same manufacturer and serial number again is a conflict."""
    token = await api.token()

    first = await enrolled(api, token)
    again = await api.send("POST", DEVICES + "/enrol", token=token, json=WISH | {"model": "another"})
    listed = (await api.send("GET", DEVICES, token=token)).json

    assert (again.status, again.json["code"]) == (409, "device_exists")
    assert (listed["devices"], listed["total_count"], listed["next_cursor"]) == ([first], 1, None)
    assert first["id"].startswith("dev_")
    assert first["status"] == "online"


async def test_pages_follow_each_other_newest_first(api):
    """Cursors lead through all devices, each once; a page size is clamped and never refused."""
    token = await api.token()
    made = [(await enrolled(api, token, serial_number=f"SN-{number}"))["id"] for number in range(5)]

    found, cursor = [], {}
    while cursor is not None:
        page = (await api.send("GET", DEVICES, token=token, params={"limit": "2"} | cursor)).json
        found += [device["id"] for device in page["devices"]]
        cursor = {"cursor": page["next_cursor"]} if page["next_cursor"] else None
    whole = await api.send("GET", DEVICES, token=token, params={"limit": "0"})
    broken = await api.send("GET", DEVICES, token=token, params={"cursor": "!"})

    assert found == made[::-1]
    assert (len(whole.json["devices"]), broken.status) == (1, 422)


async def test_a_silent_device_is_offline(start):
    """Whoever was not heard of for an hour is offline, and online again with the next observation."""
    clock = ManualClock()
    _, api = await start(clock=clock)
    token = await api.token()
    device = await enrolled(api, token)
    path = f"{DEVICES}/{device['id']}/observations"

    async def online() -> int:
        return (await api.send("GET", DEVICES, token=await api.token(), params={"status": "online"})).json[
            "total_count"
        ]

    assert await online() == 1
    clock.advance(3601)
    assert await online() == 0
    offline = (await api.send("GET", DEVICES, token=await api.token(), params={"status": "offline"})).json
    assert [one["status"] for one in offline["devices"]] == ["offline"]
    assert (await api.send("POST", path, token=await api.token(), json=PLAIN)).status == 201
    assert await online() == 1
    assert (await api.send("GET", DEVICES, token=await api.token(), params={"status": "asleep"})).status == 422


async def test_a_plain_observation_is_kept_as_fhir(emulator, api):
    """A value with its MDC code and UCUM unit becomes an Observation that a FHIR R4 reader takes."""
    token = await api.token()
    device = await enrolled(api, token)

    answer = await api.send("POST", f"{DEVICES}/{device['id']}/observations", token=token, json=PLAIN)

    assert (answer.status, answer.json["status"], answer.json["device_id"]) == (201, "accepted", device["id"])
    resource = kept(emulator, answer.json["id"])
    Observation.model_validate(resource)
    assert resource["code"]["coding"] == [{"system": "urn:iso:std:iso:11073:10101", "code": "150456"}]
    assert resource["valueQuantity"]["value"] == 97
    assert resource["encounter"] == {"identifier": {"value": "enc_1"}}


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("code", None), ("code", ""), ("code", 7), ("value", None), ("value", ""), ("value", True),
        ("effective_at", "yesterday"), ("effective_at", "2026-05-08"), ("effective_at", "2026-05-08T12:00:00"),
        ("unit", ""),
    ],
)  # fmt: skip
async def test_what_is_no_observation_is_refused(emulator, api, member, value):
    """422 names the member, and nothing is kept."""
    token = await api.token()
    device = await enrolled(api, token)
    wish = {name: said for name, said in (PLAIN | {member: value}).items() if said is not None}

    answer = await api.send("POST", f"{DEVICES}/{device['id']}/observations", token=token, json=wish)

    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["body", member])
    assert emulator.state.db.execute("SELECT count(*) FROM observations").fetchone() == (0,)


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("resourceType", "Patient"), ("status", "done"), ("code", {}), ("code", {"coding": [{}]}),
        ("valueString", "a second value"), ("effectiveDateTime", 7),
    ],
)  # fmt: skip
async def test_what_is_no_fhir_observation_is_refused(api, member, value):
    """422 names the member of the resource that breaks a rule of FHIR R4."""
    token = await api.token()
    device = await enrolled(api, token)
    resource = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"code": "150456"}]},
        "valueQuantity": {"value": 97},
    } | {member: value}

    answer = await api.send(
        "POST", f"{DEVICES}/{device['id']}/observations", token=token, json=resource, headers={"Content-Type": FHIR}
    )

    assert (answer.status, answer.json["errors"][0]["loc"]) == (422, ["body", member])


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="vectors: hl7-phd not found")
async def test_observations_of_the_phd_guide_are_taken(emulator, api):
    """Each Observation of the HL7 PHD guide is accepted, and kept with every value it came with."""
    token = await api.token()
    device = await enrolled(api, token)
    headers = {"Content-Type": FHIR}
    count = 0

    for path in sorted(EXAMPLES.glob("*.json")):
        resource = json.loads(path.read_bytes())
        if resource["resourceType"] != "Observation":
            continue
        answer = await api.send(
            "POST", f"{DEVICES}/{device['id']}/observations", token=token, data=path.read_bytes(), headers=headers
        )
        assert answer.status == 201, (path.name, answer.body)
        ours = {"device": {"identifier": {"value": device["id"]}}}
        assert kept(emulator, answer.json["id"]) == resource | ours, path.name
        count += 1

    assert count > 10


async def test_a_key_makes_one_observation(emulator, api):
    """The same key again answers 200 with the first one's id; without a key each is new."""
    token = await api.token()
    path = f"{DEVICES}/{(await enrolled(api, token))['id']}/observations"
    key = {"Idempotency-Key": "k-1"}

    first = await api.send("POST", path, token=token, json=PLAIN, headers=key)
    again = await api.send("POST", path, token=token, json=PLAIN, headers=key)
    other = [await api.send("POST", path, token=token, json=PLAIN) for _ in range(2)]
    wrong = await api.send("POST", path, token=token, json=PLAIN, headers={"Idempotency-Key": "a b"})

    assert (first.status, again.status, again.json) == (201, 200, first.json)
    assert len({answer.json["id"] for answer in (first, *other)}) == 3
    assert wrong.status == 422
    assert emulator.state.db.execute("SELECT count(*) FROM observations").fetchone() == (3,)


async def test_an_unknown_device_is_not_found(api):
    """404 for an id that was never given."""
    answer = await api.send("POST", f"{DEVICES}/dev_none/observations", token=await api.token(), json=PLAIN)

    assert answer.status == 404


async def test_devices_survive_a_restart(start, tmp_path):
    """What was enrolled and observed is there when the state file is opened again."""
    options = Options(state_path=str(tmp_path / "state.db"))
    first, api = await start(options)
    device = await enrolled(api, await api.token())
    await api.send("POST", f"{DEVICES}/{device['id']}/observations", token=await api.token(), json=PLAIN)
    await first.__aexit__(None, None, None)

    with sqlite3.connect(options.state_path) as db:
        assert db.execute("SELECT count(*) FROM observations").fetchone() == (1,)
    _, api = await start(options)
    assert (await api.send("GET", DEVICES, token=await api.token())).json["total_count"] == 1


async def test_a_tenant_does_not_see_another(api):
    """Another tenant's list is empty, its observation meets a 404, and it may enrol the same serial number."""
    own, other = await api.token(), await api.token("app_other")
    device = await enrolled(api, own)

    assert (await api.send("GET", DEVICES, token=other)).json["devices"] == []
    assert (await api.send("POST", f"{DEVICES}/{device['id']}/observations", token=other, json=PLAIN)).status == 404
    assert (await enrolled(api, other))["id"] != device["id"]


async def test_each_route_has_its_scope(api):
    """Listing takes `argus:devices:read` or `:write`, enrolling and observing `:write`; 403 otherwise."""
    device = await enrolled(api, await api.token())
    path = f"{DEVICES}/{device['id']}/observations"

    async def statuses(scope):
        held = await api.token(scope=scope)
        return [
            (await api.send("GET", DEVICES, token=held)).status,
            (await api.send("POST", path, token=held, json=PLAIN)).status,
        ]

    assert await statuses("argus:jobs:read") == [403, 403]
    assert await statuses("argus:devices:read") == [200, 403]
    assert await statuses("argus:devices:write") == [200, 201]
