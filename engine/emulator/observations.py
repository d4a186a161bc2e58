"""Observations: one measurement in its plain form or as a FHIR R4 Observation, read into the latter (Q64).

Pure. Checks what FHIR R4 asks of every Observation (status, code, at most one value) and what is needed to file it;
whatever else a resource holds is kept as it came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from engine.contract.dates import rfc3339_s
from engine.contract.devices import Device, Observe
from engine.emulator.refusal import Refusal, invalid

# FHIR R4, ObservationStatus (http://hl7.org/fhir/R4/valueset-observation-status.html).
_STATUSES = frozenset("registered preliminary final amended corrected cancelled entered-in-error unknown".split())
_UCUM = "http://unitsofmeasure.org"
_TEXT_MAX = 1000


class Read(msgspec.Struct, frozen=True):
    """An Observation to keep, and the encounter it belongs to."""

    resource: dict[str, Any]
    encounter_id: str | None


def read(ask: Observe, device: Device, *, system: str, now: str) -> Read:
    """The measurement as a resource.

    Raises:
        Refusal: 422, naming the member.
    """
    if ask.resource is not UNSET:
        return _of_resource(ask.resource, device)
    return _of_members(ask, device, system, now)


def _of_members(ask: Observe, device: Device, system: str, now: str) -> Read:
    for name in ("code", "value"):
        if getattr(ask, name) is UNSET:
            raise invalid("body", name, "is required", "missing")
    if isinstance(ask.value, float) and not math.isfinite(ask.value):
        raise invalid("body", "value", "must be a finite number or text")
    for name in ("code", "code_system", "value", "unit", "encounter_id"):
        text = getattr(ask, name)
        if isinstance(text, str) and not 0 < len(text) <= _TEXT_MAX:
            raise invalid("body", name, f"must have 1 to {_TEXT_MAX} characters")
    at = now if ask.effective_at is UNSET else ask.effective_at
    if not _is_instant(at):
        raise invalid("body", "effective_at", "must be a date and time with its zone (RFC 3339)")
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": ask.code_system or system, "code": ask.code}]},
        "effectiveDateTime": at,
        "device": _logical(device.id),
    }
    if isinstance(ask.value, str):
        resource["valueString"] = ask.value
    else:
        unit = {"unit": ask.unit, "system": _UCUM, "code": ask.unit} if ask.unit else {}
        resource["valueQuantity"] = {"value": ask.value, **unit}
    encounter_id = ask.encounter_id or device.encounter_id
    if encounter_id:
        resource["encounter"] = _logical(encounter_id)
    return Read(resource, encounter_id)


def _of_resource(resource: Mapping[str, Any], device: Device) -> Read:
    if resource.get("resourceType") != "Observation":
        raise _unfit("resourceType", "must be Observation")
    if resource.get("status") not in _STATUSES:
        raise _unfit("status", f"must be one of: {', '.join(sorted(_STATUSES))}")
    if not _has_code(resource.get("code")):
        raise _unfit("code", "must be a CodeableConcept with a coding or a text")
    values = [name for name in resource if name.startswith("value")]
    if len(values) > 1:
        raise _unfit(values[1], "there is more than one value[x]")
    if not values and not any(name in resource for name in ("component", "hasMember", "dataAbsentReason")):
        raise _unfit("value", "there is no value[x], component, hasMember or dataAbsentReason")
    if "effectiveDateTime" in resource and not isinstance(resource["effectiveDateTime"], str):
        raise _unfit("effectiveDateTime", "must be text")
    reference = resource.get("encounter")
    told = reference.get("reference") if isinstance(reference, dict) else None
    named = told.partition("Encounter/")[2] if isinstance(told, str) else ""
    return Read({**resource, "device": _logical(device.id)}, named or device.encounter_id)


def _logical(our_id: str) -> dict[str, Any]:
    """A reference by identifier: our ids have an underscore, which ids of FHIR resources must not (R4, `id`)."""
    return {"identifier": {"value": our_id}}


def _has_code(concept: Any) -> bool:
    if not isinstance(concept, dict):
        return False
    if isinstance(concept.get("text"), str) and concept["text"]:
        return True
    codings = concept.get("coding")
    return isinstance(codings, list) and any(
        isinstance(coding, dict) and isinstance(coding.get("code"), str) and coding["code"] for coding in codings
    )


def _is_instant(text: str) -> bool:
    has_zone = text.endswith(("Z", "z")) or text[-6:-5] in ("+", "-")
    return "T" in text and has_zone and rfc3339_s(text) is not None


def _unfit(member: str, why: str) -> Refusal:
    return invalid("body", member, why)
