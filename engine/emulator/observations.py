"""Observations: one measurement in its plain form or as a FHIR R4 Observation, read into the latter (Q64).

Pure. Checks what FHIR R4 asks of every Observation (status, code, at most one value) and what is needed to file it;
whatever else a resource holds is kept as it came.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from engine.contract.devices import Device, Observe
from engine.contract.fhir import is_code, is_date, is_moment, is_uri
from engine.contract.profile import PROFILE
from engine.emulator.refusal import Refusal, invalid

# FHIR R4, ObservationStatus (http://hl7.org/fhir/R4/valueset-observation-status.html).
_NAMES = PROFILE.observation_names
_STATUSES = frozenset("registered preliminary final amended corrected cancelled entered-in-error unknown".split())
# FHIR R4, Observation: the choices of effective[x] and value[x] (http://hl7.org/fhir/R4/observation.html).
_EFFECTIVE = frozenset(f"effective{kind}" for kind in ("DateTime", "Period", "Timing", "Instant"))
_VALUES = frozenset(
    f"value{kind}"
    for kind in (
        "Quantity", "CodeableConcept", "String", "Boolean", "Integer", "Range", "Ratio", "SampledData", "Time",
        "DateTime", "Period",
    )
)  # fmt: skip
_MDC = "urn:iso:std:iso:11073:10101"
_MDC_CODE = re.compile(r"[0-9]{1,10}")
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
            raise invalid("body", _NAMES[name], "is required", "missing")
    if isinstance(ask.value, float) and not math.isfinite(ask.value):
        raise invalid("body", _NAMES["value"], "must be a finite number or text")
    for name in ("code", "code_system", "value", "unit", "encounter_id"):
        text = getattr(ask, name)
        if isinstance(text, str) and not 0 < len(text) <= _TEXT_MAX:
            raise invalid("body", _NAMES[name], f"must have 1 to {_TEXT_MAX} characters")
        if isinstance(text, str) and not is_code(text):
            raise invalid("body", _NAMES[name], "must be words with one space between them")
    code_system = ask.code_system or system
    if not is_uri(code_system):
        raise invalid("body", _NAMES["code_system"], "must be a URI, which has no spaces")
    if code_system == _MDC and not _MDC_CODE.fullmatch(str(ask.code)):
        raise invalid("body", _NAMES["code"], "must be an MDC code: 1 to 10 digits (ISO/IEEE 11073-10101)")
    at = now if ask.effective_at is UNSET else ask.effective_at
    if not is_moment(at):
        raise invalid("body", _NAMES["effective_at"], "must be a date and time with its zone (RFC 3339)")
    resource: dict[str, Any] = {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": code_system, "code": ask.code}]},
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
    _check_choices(resource)
    return Read({**resource, "device": _logical(device.id)}, _encounter_of(resource) or device.encounter_id)


def _check_choices(resource: Mapping[str, Any]) -> None:
    """At most one effective[x] and one value[x], each of a known type, and no reason for a value that is there."""
    values = [name for name in resource if name.startswith("value")]
    for stem, known in (("effective", _EFFECTIVE), ("value", _VALUES)):
        found = [name for name in resource if name.startswith(stem)]
        if strange := [name for name in found if name not in known]:
            raise _unfit(strange[0], f"must be one of: {', '.join(sorted(known))}")
        if len(found) > 1:
            raise _unfit(found[1], f"there is more than one {stem}[x]")
    if values and "dataAbsentReason" in resource:
        raise _unfit("dataAbsentReason", f"there is a {values[0]} (FHIR R4, obs-6)")
    if not values and not any(name in resource for name in ("component", "hasMember", "dataAbsentReason")):
        raise _unfit("value", "there is no value[x], component, hasMember or dataAbsentReason")
    at = resource.get("effectiveDateTime", "2026")
    if not isinstance(at, str) or not is_date(at):
        raise _unfit("effectiveDateTime", "must be a date, or a date and time with its zone (FHIR R4, dateTime)")


def _encounter_of(resource: Mapping[str, Any]) -> str:
    """Our id of the encounter a resource names, by reference or by identifier; empty when it names none."""
    encounter = resource.get("encounter")
    if not isinstance(encounter, dict):
        return ""
    told, identifier = encounter.get("reference"), encounter.get("identifier")
    if isinstance(told, str) and "Encounter/" in told:
        return told.rpartition("Encounter/")[2].partition("/")[0]
    named = identifier.get("value") if isinstance(identifier, dict) else None
    return named if isinstance(named, str) else ""


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


def _unfit(member: str, why: str) -> Refusal:
    return invalid("body", member, why)
