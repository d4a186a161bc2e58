"""Medical devices and what they measure (contract 7.5-7.7, Q64): routes 23-25."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Route

ONLINE, OFFLINE, RETIRED = "online", "offline", "retired"
ACCEPTED = "accepted"


class Device(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.device_names):
    """A medical device. `type_code` is an MDC code (ISO/IEEE 11073-10101); `status` online, offline or retired."""

    id: str
    manufacturer: str
    model: str
    serial_number: str
    type_code: str
    status: str | None = None
    enrolled_at: str | None = None
    last_seen_at: str | None = None
    udi: str | None = None
    encounter_id: str | None = None


class ListDevices(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.page_names):
    """A page of the tenant's devices, newest first; `status` keeps those alone."""

    cursor: str | None = None
    limit: int | None = None
    status: str | None = None


class DeviceList(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.page_names):
    """A page of devices (Q21); `total_count` is of those the filter keeps."""

    devices: list[Device]
    next_cursor: str | None = None
    total_count: int | None = None


class EnrolDevice(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.device_names):
    """A device to enrol; there is one of a manufacturer and serial number in a tenant, a second is a 409."""

    manufacturer: str
    model: str
    serial_number: str
    type_code: str
    udi: str | UnsetType = UNSET
    encounter_id: str | UnsetType = UNSET


class Observe(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.observation_names):
    """One measurement of a device, in either of two forms.

    Plain: `code` (MDC unless `code_system` says otherwise), `value` with its UCUM `unit`, `effective_at` (RFC 3339).
    FHIR:  `resource`, a FHIR R4 Observation, which is then the whole body.
    """

    device_id: str = msgspec.field(name="deviceId")
    idempotency_key: str | None = None
    code: str | UnsetType = UNSET
    code_system: str | UnsetType = UNSET
    value: float | str | UnsetType = UNSET
    unit: str | UnsetType = UNSET
    effective_at: str | UnsetType = UNSET
    encounter_id: str | UnsetType = UNSET
    resource: dict[str, Any] | UnsetType = UNSET


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """A measurement the platform has taken."""

    id: str
    device_id: str
    status: str


_ROOT = "/api/v1/devices"
_HOSTS = (Host.API,)
LIST = Route(
    number=23, name="devices.list", method="GET", path=_ROOT, hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.devices_read_scopes, ask=ListDevices, answer=DeviceList,
)  # fmt: skip
ENROL = Route(
    number=24, name="devices.enrol", method="POST", path=_ROOT + "/enrol", hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.devices_write_scopes, ask=EnrolDevice, answer=Device, status=(201,), refusals=(409,),
)  # fmt: skip
OBSERVE = Route(
    number=25, name="devices.observe", method="POST", path=_ROOT + "/{deviceId}/observations", hosts=_HOSTS,
    auth=Auth.BEARER, scopes=PROFILE.devices_write_scopes, ask=Observe, answer=Observed, status=(201, 200),
    headers={"idempotency_key": "Idempotency-Key"}, whole=("resource", PROFILE.fhir_type),
)  # fmt: skip

ROUTES = (LIST, ENROL, OBSERVE)
EXAMPLES = {
    LIST.name: ListDevices(limit=50),
    ENROL.name: EnrolDevice(manufacturer="Acme", model="PulseOx 3", serial_number="SN-1", type_code="528388"),
    OBSERVE.name: Observe(
        device_id="dev_123", code="150456", value=97.0, unit="%", effective_at="2026-05-08T12:00:00Z"
    ),
}
