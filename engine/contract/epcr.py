"""Electronic patient care records (contract 7.2-7.4, Q62, Q63): routes 20-22.

What leaves the platform is de-identified: date of birth, contacts and street address have no member here, and what a
caller sends of them is not kept.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from engine.contract.profile import PROFILE
from engine.contract.route import Auth, Host, Route

PLANNED, IN_PROGRESS, FINISHED, CANCELLED = "planned", "in_progress", "finished", "cancelled"
SUMMARY, FHIR = "summary", "fhir"


class Triage(msgspec.Struct, frozen=True, kw_only=True):
    """How urgent, by which protocol: START and red, for one."""

    protocol: str
    category: str


class Patient(msgspec.Struct, frozen=True, kw_only=True):
    """The patient as far as anybody outside may know: `sex` is male, female, other or unknown."""

    ref: str | None = None
    age_years: int | None = None
    sex: str | None = None


class NewPatient(msgspec.Struct, frozen=True, kw_only=True):
    """The patient of a new encounter; `birth_date` (YYYY-MM-DD) gives the age and is not kept."""

    ref: str | None = None
    age_years: int | None = None
    sex: str | None = None
    birth_date: str | None = None


class Vital(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement: a LOINC code, a number, its UCUM unit, and when (RFC 3339)."""

    code: str
    value: float
    unit: str
    taken_at: str
    display: str | None = None


class Act(msgspec.Struct, frozen=True, kw_only=True):
    """Something done to the patient, at a time (RFC 3339); `code` is SNOMED CT unless `system` says otherwise."""

    code: str
    at: str
    display: str | None = None
    system: str | None = None


class Medication(msgspec.Struct, frozen=True, kw_only=True):
    """A drug given at a time (RFC 3339), `dose` in the UCUM unit; `code` is RxNorm unless `system` says otherwise."""

    code: str
    at: str
    display: str | None = None
    system: str | None = None
    dose: float | None = None
    unit: str | None = None


class Encounter(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.encounter_names):
    """The partner-facing summary of an encounter."""

    id: str
    incident_id: str
    status: str
    started_at: str
    ended_at: str | None = None
    chief_complaint: str | None = None
    triage: Triage | None = None
    patient: Patient | None = None
    vitals: list[Vital] = []
    interventions: list[Act] = []
    medications: list[Medication] = []
    disposition: str | None = None
    updated_at: str | None = None


class GetEncounter(msgspec.Struct, frozen=True, kw_only=True):
    """One encounter; `format` "fhir" answers its Bundle, as route 21 does."""

    encounter_id: str = msgspec.field(name="encounterId")
    format: str | None = None


class GetBundle(msgspec.Struct, frozen=True, kw_only=True):
    """One encounter, as a Bundle."""

    encounter_id: str = msgspec.field(name="encounterId")


class CreateEncounter(msgspec.Struct, frozen=True, kw_only=True, rename=PROFILE.encounter_names):
    """A new encounter: the summary without what the platform adds, or `resource`, a FHIR R4 Bundle, as the whole body.

    Without `resource`, `incident_id` and `started_at` are required.
    """

    incident_id: str | UnsetType = UNSET
    started_at: str | UnsetType = UNSET
    status: str = IN_PROGRESS
    ended_at: str | None = None
    chief_complaint: str | None = None
    triage: Triage | None = None
    patient: NewPatient | None = None
    vitals: list[Vital] = []
    interventions: list[Act] = []
    medications: list[Medication] = []
    disposition: str | None = None
    resource: dict[str, Any] | UnsetType = UNSET


_ROOT = "/api/v1/epcr/encounters"
_HOSTS = (Host.API,)
GET = Route(
    number=20, name="epcr.get", method="GET", path=_ROOT + "/{encounterId}", hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.epcr_read_scopes, ask=GetEncounter, answer=dict, media=("application/json", PROFILE.fhir_type),
)  # fmt: skip
BUNDLE = Route(
    number=21, name="epcr.bundle", method="GET", path=_ROOT + "/{encounterId}/fhir-bundle", hosts=_HOSTS,
    auth=Auth.BEARER, scopes=PROFILE.epcr_read_scopes, ask=GetBundle, answer=dict, media=(PROFILE.fhir_type,),
)  # fmt: skip
CREATE = Route(
    number=22, name="epcr.create", method="POST", path=_ROOT, hosts=_HOSTS, auth=Auth.BEARER,
    scopes=PROFILE.epcr_write_scopes, ask=CreateEncounter, answer=Encounter, status=(201, 200),
    whole=("resource", PROFILE.fhir_type),
)  # fmt: skip

ROUTES = (GET, BUNDLE, CREATE)
EXAMPLES = {
    GET.name: GetEncounter(encounter_id="enc_123"),
    BUNDLE.name: GetBundle(encounter_id="enc_123"),
    CREATE.name: CreateEncounter(
        incident_id="inc_123",
        started_at="2026-05-08T12:00:00Z",
        chief_complaint="chest pain",
        vitals=[Vital(code="8867-4", display="Heart rate", value=88, unit="/min", taken_at="2026-05-08T12:05:00Z")],
    ),
}
