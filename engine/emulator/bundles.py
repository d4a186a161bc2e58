"""Bundles: an encounter as FHIR R4, there and back (contract 7.3, Q63).

Pure. Writes Encounter, Patient, Observation, MedicationAdministration and Procedure; reads the same five and passes
over every other resource. Nothing that identifies the patient is written, and a date of birth is read for the age only.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from engine.contract.epcr import Act, CreateEncounter, Encounter, Medication, NewPatient, Vital
from engine.contract.profile import PROFILE
from engine.emulator.refusal import Refusal, invalid

LOINC, UCUM, SNOMED = "http://loinc.org", "http://unitsofmeasure.org", "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_NAMESPACE = uuid.UUID("8f3b1f6e-3e0c-5d0b-9c58-1f5f0c7d2a51")
_ENTRIES_MAX = 5000


def write(encounter: Encounter, observations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The Bundle of an encounter; `observations` are resources of devices, which come along as they are kept."""
    return {
        "resourceType": "Bundle",
        "type": PROFILE.bundle_type,
        "timestamp": encounter.updated_at,
        "entry": list(_entries(encounter, observations)),
    }


def _entries(encounter: Encounter, observations: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    def url(*parts: object) -> str:
        # The same encounter has the same names each time it is written.
        return f"urn:uuid:{uuid.uuid5(_NAMESPACE, '/'.join(map(str, (encounter.id, *parts))))}"

    patient, own = url("patient"), url("encounter")
    about = {"subject": {"reference": patient}, "encounter": {"reference": own}}
    sex = encounter.patient.sex if encounter.patient else None
    yield {"fullUrl": own, "resource": _encounter(encounter, patient)}
    yield {"fullUrl": patient, "resource": {"resourceType": "Patient"} | ({"gender": sex} if sex else {})}
    for number, vital in enumerate(encounter.vitals):
        yield {"fullUrl": url("vital", number), "resource": _observation(vital) | about}
    for number, act in enumerate(encounter.interventions):
        resource = {"resourceType": "Procedure", "status": "completed", "code": _concept(act, SNOMED)}
        yield {"fullUrl": url("act", number), "resource": {**resource, "performedDateTime": act.at, **about}}
    for number, drug in enumerate(encounter.medications):
        given = {"subject": about["subject"], "context": about["encounter"]}
        yield {"fullUrl": url("drug", number), "resource": _administration(drug) | given}
    for number, resource in enumerate(observations):
        yield {"fullUrl": url("device", number), "resource": resource | about}


def _encounter(encounter: Encounter, patient: str) -> dict[str, Any]:
    period = {"start": encounter.started_at} | ({"end": encounter.ended_at} if encounter.ended_at else {})
    resource: dict[str, Any] = {
        "resourceType": "Encounter",
        "identifier": [{"value": encounter.incident_id}],
        "status": encounter.status.replace("_", "-"),
        "class": {"system": _ACT_CODE, "code": "EMER"},
        "subject": {"reference": patient},
        "period": period,
    }
    if encounter.chief_complaint:
        resource["reasonCode"] = [{"text": encounter.chief_complaint}]
    if encounter.disposition:
        resource["hospitalization"] = {"dischargeDisposition": {"text": encounter.disposition}}
    if encounter.triage:
        resource["priority"] = {"text": f"{encounter.triage.protocol} {encounter.triage.category}"}
    return resource


def _observation(vital: Vital) -> dict[str, Any]:
    coding = {"system": LOINC, "code": vital.code} | ({"display": vital.display} if vital.display else {})
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [coding]},
        "effectiveDateTime": vital.taken_at,
        "valueQuantity": {"value": vital.value, "unit": vital.unit, "system": UCUM, "code": vital.unit},
    }


def _administration(drug: Medication) -> dict[str, Any]:
    resource = {
        "resourceType": "MedicationAdministration",
        "status": "completed",
        "medicationCodeableConcept": _concept(drug, RXNORM),
        "effectiveDateTime": drug.at,
    }
    if drug.dose is not None:
        unit = {"unit": drug.unit, "system": UCUM, "code": drug.unit} if drug.unit else {}
        resource["dosage"] = {"dose": {"value": drug.dose, **unit}}
    return resource


def _concept(act: Act | Medication, system: str) -> dict[str, Any]:
    coding = {"system": act.system or system, "code": act.code}
    return {"coding": [coding | ({"display": act.display} if act.display else {})]}


def read(bundle: dict[str, Any]) -> CreateEncounter:
    """What a Bundle says of one encounter.

    Raises:
        Refusal: 422: no Bundle, not exactly one Encounter, or a resource that lacks what is needed.
    """
    if bundle.get("resourceType") != "Bundle":
        raise invalid("body", "resourceType", "must be Bundle")
    entries = bundle.get("entry")
    if not isinstance(entries, list) or len(entries) > _ENTRIES_MAX:
        raise invalid("body", "entry", f"must be a list of at most {_ENTRIES_MAX}")
    found: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, entry in enumerate(entries):
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if not isinstance(resource, dict):
            raise _unfit(number, "resource", "is required")
        found.setdefault(str(resource.get("resourceType")), []).append((number, resource))
    if len(found.get("Encounter", [])) != 1:
        raise invalid("body", "entry", "must hold exactly one Encounter")
    at, encounter = found["Encounter"][0]
    return CreateEncounter(
        incident_id=_text(at, encounter, "identifier", 0, "value"),
        started_at=_text(at, encounter, "period", "start"),
        status=_text(at, encounter, "status").replace("-", "_"),
        ended_at=_maybe(encounter, "period", "end"),
        chief_complaint=_maybe(encounter, "reasonCode", 0, "text"),
        disposition=_maybe(encounter, "hospitalization", "dischargeDisposition", "text"),
        patient=_patient(found.get("Patient", [])),
        vitals=[
            _vital(*one) for one in found.get("Observation", []) if _at(one[1], "valueQuantity", "value") is not None
        ],
        interventions=[_act(*one) for one in found.get("Procedure", [])],
        medications=[_drug(*one) for one in found.get("MedicationAdministration", [])],
    )


def _patient(found: list[tuple[int, dict[str, Any]]]) -> NewPatient | None:
    if not found:
        return None
    patient = found[0][1]
    return NewPatient(sex=_maybe(patient, "gender"), birth_date=_maybe(patient, "birthDate"))


def _vital(number: int, resource: dict[str, Any]) -> Vital:
    quantity = resource["valueQuantity"]
    if isinstance(quantity["value"], bool) or not isinstance(quantity["value"], int | float):
        raise _unfit(number, "valueQuantity.value", "must be a number")
    return Vital(
        code=_text(number, resource, "code", "coding", 0, "code"),
        display=_maybe(resource, "code", "coding", 0, "display"),
        value=quantity["value"],
        unit=_maybe(quantity, "code") or _maybe(quantity, "unit") or "1",
        taken_at=_moment(number, resource, "effective"),
    )


def _act(number: int, resource: dict[str, Any]) -> Act:
    return Act(
        code=_text(number, resource, "code", "coding", 0, "code"),
        display=_maybe(resource, "code", "coding", 0, "display"),
        system=_maybe(resource, "code", "coding", 0, "system"),
        at=_moment(number, resource, "performed"),
    )


def _drug(number: int, resource: dict[str, Any]) -> Medication:
    concept, dose = _medicine(resource), _at(resource, "dosage", "dose", "value")
    return Medication(
        code=_text(number, {"medicationCodeableConcept": concept}, "medicationCodeableConcept", "coding", 0, "code"),
        display=_maybe(concept, "coding", 0, "display"),
        system=_maybe(concept, "coding", 0, "system"),
        at=_moment(number, resource, "effective"),
        dose=dose if isinstance(dose, int | float) and not isinstance(dose, bool) else None,
        unit=_maybe(resource, "dosage", "dose", "code"),
    )


def _medicine(resource: dict[str, Any]) -> Any:
    """The code of what was given: in the resource itself, or in the Medication that it contains and refers to."""
    reference = _maybe(resource, "medicationReference", "reference")
    contained = resource.get("contained")
    if reference and isinstance(contained, list):
        inside = (one for one in contained if isinstance(one, dict) and f"#{one.get('id')}" == reference)
        return next((one.get("code") for one in inside), None)
    return resource.get("medicationCodeableConcept")


def _moment(number: int, resource: dict[str, Any], name: str) -> str:
    """When something was: a moment, or the beginning of a period (FHIR R4, the choices of `effective[x]`)."""
    found = _maybe(resource, f"{name}Instant") or _maybe(resource, f"{name}Period", "start")
    return found or _text(number, resource, f"{name}DateTime")


def _at(value: Any, *path: str | int) -> Any:
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _maybe(value: Any, *path: str | int) -> str | None:
    found = _at(value, *path)
    return found if isinstance(found, str) else None


def _text(number: int, resource: dict[str, Any], *path: str | int) -> str:
    found = _maybe(resource, *path)
    if not found:
        raise _unfit(number, ".".join(map(str, path)), "is required, as text")
    return found


def _unfit(number: int, member: str, why: str) -> Refusal:
    return invalid("body", f"entry.{number}.{member}", why)
