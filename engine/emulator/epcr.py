"""ePCR: encounters of a tenant, stored without what identifies the patient (contract 7.2-7.4, routes 20-22)."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

from msgspec import UNSET

from engine.codec.payload import decode, encode, loads
from engine.contract import epcr as contract
from engine.contract.dates import rfc3339_s
from engine.contract.epcr import Act, CreateEncounter, Encounter, Medication, NewPatient, Patient, Vital
from engine.contract.fhir import is_code, is_moment, is_uri
from engine.contract.profile import PROFILE
from engine.emulator import bundles
from engine.emulator.call import Call, Handler, Reply
from engine.emulator.refusal import Refusal, invalid
from engine.emulator.state import State

SCHEMA = """
CREATE TABLE IF NOT EXISTS encounters (
  id TEXT PRIMARY KEY, tenant_id TEXT NOT NULL, started_s REAL NOT NULL, encounter BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS encounters_by_start ON encounters (tenant_id, started_s);
"""
_STATUSES = (contract.PLANNED, contract.IN_PROGRESS, contract.FINISHED, contract.CANCELLED)
# FHIR R4, AdministrativeGender.
_SEXES = ("male", "female", "other", "unknown")
_NAMES = PROFILE.encounter_names
_FORMATS = (contract.SUMMARY, contract.FHIR)
_TEXT_MAX = 2000
# FHIR R4, string: something to read, and of what controls only tabs and line ends.
_TEXT = re.compile(r"^(?=.*\S)[^\x00-\x08\x0b\x0c\x0e-\x1f]*$", re.DOTALL)
_LIST_MAX = 1000
_AGE_MAX = 150


def handlers(state: State) -> dict[str, Handler]:
    """Routes 20-22."""
    state.apply_schema(SCHEMA)
    routes = _Routes(state)
    return {
        contract.GET.name: routes.get,
        contract.BUNDLE.name: routes.bundle,
        contract.CREATE.name: routes.create,
    }


def between(state: State, tenant_id: str, since_s: float, until_s: float) -> list[Encounter]:
    """The encounters of a tenant that began at `since_s` or later and before `until_s`, by their start."""
    rows = state.db.execute(
        "SELECT encounter FROM encounters WHERE tenant_id = ? AND started_s >= ? AND started_s < ? ORDER BY started_s",
        (tenant_id, since_s, until_s),
    )
    return [decode(row[0], Encounter) for row in rows]


class _Routes:
    def __init__(self, state: State) -> None:
        self._state = state

    def get(self, call: Call) -> Reply:
        """The summary, or the Bundle where `format` asks for it."""
        ask: contract.GetEncounter = call.ask
        if ask.format is not None and ask.format not in _FORMATS:
            raise invalid("query", "format", f"must be one of: {', '.join(_FORMATS)}")
        return self.bundle(call) if ask.format == contract.FHIR else Reply(body=self._find(call))

    def bundle(self, call: Call) -> Reply:
        """The encounter as FHIR, with what devices of the tenant measured during it."""
        encounter = self._find(call)
        rows = self._state.db.execute(
            "SELECT o.resource FROM observations o JOIN devices d ON d.id = o.device_id"
            " WHERE o.encounter_id = ? AND d.tenant_id = ? ORDER BY o.id",
            (encounter.id, call.known.tenant_id),
        )
        body = bundles.write(encounter, [loads(row[0]) for row in rows])
        return Reply(body=body, content_type=f"{self._state.profile.fhir_type}; fhirVersion=4.0")

    def create(self, call: Call) -> Reply:
        """Check a new encounter as a whole, and keep what may be kept of it."""
        ask: CreateEncounter = call.ask
        if ask.resource is not UNSET:
            ask = bundles.read(ask.resource)
        made = checked(ask, self._state.new_id("enc_"), now=self._state.now_text())
        self._state.db.execute(
            "INSERT INTO encounters (id, tenant_id, started_s, encounter) VALUES (?, ?, ?, ?)",
            (made.id, call.known.tenant_id, rfc3339_s(made.started_at), encode(made)),
        )
        return Reply(status=201, body=made, headers={"Location": f"/api/v1/epcr/encounters/{made.id}"})

    def _find(self, call: Call) -> Encounter:
        """The encounter asked for; another tenant's is as unknown as one that never was (contract 1.5)."""
        row = self._state.db.execute(
            "SELECT encounter FROM encounters WHERE id = ? AND tenant_id = ?",
            (call.ask.encounter_id, call.known.tenant_id),
        ).fetchone()
        if row is None:
            raise Refusal(404, "not_found", "No encounter of this id.")
        return decode(row[0], Encounter)


def checked(ask: CreateEncounter, encounter_id: str, *, now: str) -> Encounter:
    """A new encounter, as far as it may be kept.

    Raises:
        Refusal: 422, naming the member.
    """
    if ask.incident_id is UNSET or ask.started_at is UNSET:
        missing = "incident_id" if ask.incident_id is UNSET else "started_at"
        raise invalid("body", _NAMES[missing], "is required", "missing")
    if ask.status not in _STATUSES:
        raise invalid("body", _NAMES["status"], f"must be one of: {', '.join(_STATUSES)}")
    for name in ("incident_id", "chief_complaint", "disposition"):
        _check_text(_NAMES[name], getattr(ask, name))
    for name in ("protocol", "category") if ask.triage is not None else ():
        _check_text(f"{_NAMES['triage']}.{name}", getattr(ask.triage, name))
    started_s = _seconds(_NAMES["started_at"], ask.started_at)
    if ask.ended_at is not None and _seconds(_NAMES["ended_at"], ask.ended_at) < started_s:
        raise invalid("body", _NAMES["ended_at"], f"is before {_NAMES['started_at']}")
    for name, member in (("vitals", "taken_at"), ("interventions", "at"), ("medications", "at")):
        things = getattr(ask, name)
        if len(things) > _LIST_MAX:
            raise invalid("body", _NAMES[name], f"must hold at most {_LIST_MAX}")
        for number, thing in enumerate(things):
            _seconds(f"{_NAMES[name]}.{number}.{member}", getattr(thing, member))
            _check_coding(f"{_NAMES[name]}.{number}", thing)
    members: dict[str, Any] = {name: getattr(ask, name) for name in _KEPT}
    patient = None if ask.patient is None else _known(ask.patient, ask.started_at)
    return Encounter(id=encounter_id, updated_at=now, patient=patient, **members)


_KEPT = tuple(name for name in Encounter.__struct_fields__ if name not in ("id", "updated_at", "patient"))


def _known(patient: NewPatient, started_at: str) -> Patient:
    """What may be kept of a patient: the age at the start of the encounter, never the date of birth."""
    if patient.sex is not None and patient.sex not in _SEXES:
        raise invalid("body", f"{_NAMES['patient']}.sex", f"must be one of: {', '.join(_SEXES)}")
    age = patient.age_years
    if age is None and patient.birth_date is not None:
        try:
            born, then = date.fromisoformat(patient.birth_date), date.fromisoformat(started_at[:10])
        except ValueError:
            raise invalid("body", f"{_NAMES['patient']}.birth_date", "must be a date, YYYY-MM-DD") from None
        age = then.year - born.year - ((then.month, then.day) < (born.month, born.day))
    if age is not None and not 0 <= age <= _AGE_MAX:
        raise invalid("body", f"{_NAMES['patient']}.age_years", f"must be 0 to {_AGE_MAX}")
    return Patient(ref=patient.ref, age_years=age, sex=patient.sex)


def _check_text(member: str, text: str | None) -> None:
    if text is not None and not (0 < len(text) <= _TEXT_MAX and _TEXT.search(text)):
        raise invalid("body", member, f"must have 1 to {_TEXT_MAX} characters, and none that controls")


def _check_coding(at: str, thing: Vital | Act | Medication) -> None:
    """What goes into a resource must have the form it has there: we serve nothing that a FHIR reader refuses."""
    system: str | None = getattr(thing, "system", None)
    for name, text in (("code", thing.code), ("unit", getattr(thing, "unit", None))):
        if text is not None and not is_code(text):
            raise invalid("body", f"{at}.{name}", "must be words with one space between them")
    if system is not None and not is_uri(system):
        raise invalid("body", f"{at}.system", "must be a URI, which has no spaces")
    _check_text(f"{at}.display", thing.display)


def _seconds(member: str, text: str) -> float:
    at_s = rfc3339_s(text) if is_moment(text) else None
    if at_s is None:
        raise invalid("body", member, "must be a date and time with seconds and zone (RFC 3339)")
    return at_s
