"""Inventory: what the first tenant has from the start, so that the shipped pipelines have something to work on.

Devices, encounters and evidence with names that files can know beforehand, all made up by counting. Only an emulator
that somebody starts to look around has it; what is there already is left as it is.
"""

from __future__ import annotations

from engine.codec.payload import dumps, encode
from engine.contract.dates import rfc3339_s
from engine.contract.epcr import FINISHED, CreateEncounter, NewPatient, Triage, Vital
from engine.contract.provenance import CREATE, UPDATE
from engine.emulator import entities, provenance_chain
from engine.emulator.entities import PUT, WITNESS, Effect
from engine.emulator.epcr import checked
from engine.emulator.identity import FIRST_APPS
from engine.emulator.state import State

DEVICES, ENCOUNTERS, EVIDENCE = 24, 60, 40
# (model, MDC code of the device type, ISO/IEEE 11073-10101)
_MODELS = (("PulseOx 3", "528388"), ("CuffMeter", "528391"), ("ThermoPatch", "528392"), ("CardioLine", "528426"))
# (LOINC code, name, UCUM unit, least, how many steps above)
_VITALS = (
    ("8867-4", "Heart rate", "/min", 58, 60),
    ("9279-1", "Respiratory rate", "/min", 10, 14),
    ("59408-5", "Oxygen saturation", "%", 88, 12),
)
_COMPLAINTS = ("chest pain", "shortness of breath", "fall", "burn", "allergic reaction")
_TRIAGE = ("green", "yellow", "red")
_DAY = "2026-05-08T"


def device_name(number: int) -> str:
    """The id of a device of the inventory, counted from 1."""
    return f"dev_local_{number:02}"


def encounter_name(number: int) -> str:
    """The id of an encounter of the inventory, counted from 1."""
    return f"enc_local_{number:03}"


def evidence_name(number: int) -> str:
    """The id of a piece of evidence of the inventory, counted from 1."""
    return f"ev_local_{number:03}"


def stock(state: State) -> None:
    """Put the inventory there, once."""
    _, tenant_id, _, _ = FIRST_APPS[0]
    with state.transaction():
        _devices(state, tenant_id)
        _encounters(state, tenant_id)
        _evidence(state, tenant_id)


def _devices(state: State, tenant_id: str) -> None:
    now_ns = state.clock.now_ns()
    rows = []
    for number in range(1, DEVICES + 1):
        model, type_code = _MODELS[number % len(_MODELS)]
        serial = f"LOCAL-{number:04}"
        rows.append((device_name(number), tenant_id, "Acme", model, serial, type_code, None, None, 0, now_ns, now_ns))
    state.db.executemany("INSERT OR IGNORE INTO devices VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _encounters(state: State, tenant_id: str) -> None:
    rows = []
    for number in range(1, ENCOUNTERS + 1):
        made = checked(_encounter(number), encounter_name(number), now=state.now_text())
        rows.append((made.id, tenant_id, rfc3339_s(made.started_at), encode(made)))
    state.db.executemany("INSERT OR IGNORE INTO encounters VALUES (?, ?, ?, ?)", rows)


def _encounter(number: int) -> CreateEncounter:
    hour, minute = 6 + number // 6, number % 6 * 10
    vitals = [
        Vital(
            code=code,
            display=name,
            value=float(least + number * 7 % steps),
            unit=unit,
            taken_at=f"{_DAY}{hour:02}:{minute + 5:02}:00Z",
        )
        for code, name, unit, least, steps in _VITALS
    ]
    return CreateEncounter(
        incident_id=f"inc_local_{number // 3:03}",
        status=FINISHED,
        started_at=f"{_DAY}{hour:02}:{minute:02}:00Z",
        ended_at=f"{_DAY}{hour + 1:02}:{minute:02}:00Z",
        chief_complaint=_COMPLAINTS[number % len(_COMPLAINTS)],
        triage=Triage(protocol="START", category=_TRIAGE[number % len(_TRIAGE)]),
        patient=NewPatient(age_years=18 + number, sex=("female", "male")[number % 2]),
        vitals=vitals,
        disposition="transported",
    )


def _evidence(state: State, tenant_id: str) -> None:
    puts, notes = [], []
    now = state.now_text()
    for number in range(1, EVIDENCE + 1):
        name = evidence_name(number)
        if provenance_chain.load(state, tenant_id, name) is not None:
            continue
        properties = dumps({"kind": "photograph", "number": number})
        entity_id = entities.entity_id(tenant_id, name)
        puts.append((tenant_id, name, entity_id, "evidence", f"Photograph {number}", properties, now))
        for turn, operation in enumerate((CREATE, *(UPDATE,) * (number % 4))):
            trace_id = f"{number:016x}{turn + 1:016x}"
            witness = provenance_chain.Witness(tenant_id, f"job_local_{turn}", FIRST_APPS[0][0], trace_id, "standard")
            notes.append(tuple(provenance_chain.note(witness, name, operation, properties, None)))
    entities.apply(state, [Effect(PUT, puts), Effect(WITNESS, notes)])
