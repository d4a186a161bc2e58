"""Devices by the client, over real connections: typed methods, and routes by their names."""

import pytest

from engine.contract.devices import EnrolDevice, Observe
from engine.errors import Conflict, Missing, Rejected

pytestmark = pytest.mark.anyio

DEVICE = EnrolDevice(manufacturer="Acme", model="PulseOx 3", serial_number="SN-1", type_code="528388")
RESOURCE = {
    "resourceType": "Observation",
    "status": "final",
    "code": {"coding": [{"system": "urn:iso:std:iso:11073:10101", "code": "150456"}]},
    "valueQuantity": {"value": 97},
}


async def test_a_device_and_what_it_measures(emulator, client_of) -> None:
    """Enrol, list, observe in both forms; a key makes one observation, a second enrolment is a conflict."""
    devices = client_of(emulator).devices

    device = (await devices.enrol(DEVICE)).answer
    with pytest.raises(Conflict):
        await devices.enrol(DEVICE)
    plain = Observe(device_id=device.id, code="150456", value=97.0, unit="%", idempotency_key="k")
    first, again = await devices.observe(plain), await devices.observe(plain)
    whole = await devices.observe(Observe(device_id=device.id, resource=RESOURCE))

    assert [found.id async for found in devices.every()] == [device.id]
    assert (first.status, again.status, again.answer) == (201, 200, first.answer)
    assert (whole.status, whole.answer.device_id) == (201, device.id)


async def test_refusals_are_typed(emulator, client_of) -> None:
    """No such device is Missing, no observation at all is Rejected."""
    devices = client_of(emulator).devices
    device = (await devices.enrol(DEVICE)).answer

    with pytest.raises(Missing):
        await devices.observe(Observe(device_id="dev_none", code="1", value=1.0))
    with pytest.raises(Rejected, match="code"):
        await devices.observe(Observe(device_id=device.id, value=1.0))


@pytest.mark.parametrize("name", ["device_id", "deviceId"])
async def test_a_member_has_its_name_here_and_on_the_wire(emulator, client_of, name) -> None:
    """By the route's name, `deviceId` may also be said as everywhere else: `device_id`."""
    client = client_of(emulator)
    device = (await client.devices.enrol(DEVICE)).answer

    answer = await client.ask("devices.observe", {name: device.id, "code": "150456", "value": 97})

    assert answer["status"] == "accepted"
