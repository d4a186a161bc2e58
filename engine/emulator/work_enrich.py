"""intelligence.enrich.bulk: attributes derived from what an entity already says (Q70).

Deterministic: a function of the entity, its properties and a hash. Each attribute comes from one made-up provider;
no fact about a real person, place or company is looked up anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from engine.codec.payload import encode, loads
from engine.contract.kinds import ENRICH as KIND
from engine.contract.problem import FieldFault
from engine.contract.profile import PROFILE
from engine.contract.provenance import UPDATE
from engine.contract.results import Attribute, EnrichRow, EnrichSummary
from engine.emulator.entities import ENRICH, WITNESS, Effect, Entity
from engine.emulator.provenance_chain import is_evidence
from engine.emulator.work import (
    STEP_ROWS,
    Craft,
    Desk,
    Outcome,
    Task,
    Vouch,
    Work,
    WorkFailed,
    fault,
    notes_of,
    read_payload,
    write_rows,
)

UNKNOWN_PROFILE = "unknown profile"
SUCCEEDED, FAILED = (*PROFILE.enrich_bulk.accepted, *PROFILE.enrich_bulk.rejected)
(_IDS,) = PROFILE.enrich_bulk.path
# Profiles in one step: an enrichment costs several times what an imported row does.
_STEP = STEP_ROWS // 2
# Offsets are told as of one fixed day, so that an enrichment does not change with the season it runs in.
_OFFSET_DAY = datetime(2026, 1, 15, tzinfo=UTC)
_SIZES = ((10_000_000, "megacity"), (1_000_000, "metropolis"), (100_000, "city"), (10_000, "town"), (0, "village"))
_REGIONS = {
    "AF": "AFR", "AN": "POL", "AS": "APAC", "EU": "EMEA", "NA": "AMER", "OC": "APAC", "SA": "AMER",
}  # fmt: skip


class EnrichPayload(msgspec.Struct, kw_only=True, rename={"profile_ids": _IDS}):
    """The payload; `providers` and `fields` narrow the answer by source and by name.

    `force` is taken and changes nothing: attributes are always derived anew.
    """

    profile_ids: list[str]
    providers: list[str] | None = None
    fields: list[str] | None = None
    force: bool = False


def check(payload: bytes, vouch: Vouch) -> list[FieldFault]:
    """Everything that is wrong with an enrichment's payload, before a job exists."""
    asked = read_payload(payload, EnrichPayload)
    if isinstance(asked, list):
        return asked
    if not 1 <= len(asked.profile_ids) <= PROFILE.profile_ids_max:
        return [fault(f"give 1 to {PROFILE.profile_ids_max} profile ids", _IDS)]
    return []


def _number(members: dict[str, Any], name: str) -> float | None:
    value = members.get(name)
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _hemisphere(entity: Entity, members: dict[str, Any]) -> str | None:
    latitude, longitude = _number(members, "latitude"), _number(members, "longitude")
    if latitude is None or longitude is None:
        return None
    return f"{'north' if latitude >= 0 else 'south'}-{'east' if longitude >= 0 else 'west'}"


def _size_class(entity: Entity, members: dict[str, Any]) -> str | None:
    population = _number(members, "population")
    if population is None or population < 0:
        return None
    return next(name for floor, name in _SIZES if population >= floor)


def _risk_region(entity: Entity, members: dict[str, Any]) -> str | None:
    return _REGIONS.get(str(members.get("continent", "")).upper())


def _utc_offset(entity: Entity, members: dict[str, Any]) -> str | None:
    zone = members.get("timezone")
    return _offset_of(zone) if isinstance(zone, str) else None


@lru_cache(maxsize=1024)
def _offset_of(zone: str) -> str | None:
    """`+05:30` and the like; None for a zone this machine does not know."""
    try:
        text = _OFFSET_DAY.astimezone(ZoneInfo(zone)).strftime("%z")
    except (KeyError, ValueError, OSError):
        return None
    return f"{text[:3]}:{text[3:]}"


def _name_key(entity: Entity, members: dict[str, Any]) -> str | None:
    """A label for comparing: letters and digits alone, folded, words in order of the alphabet."""
    if not entity.label:
        return None
    words = "".join(c if c.isalnum() else " " for c in entity.label.casefold()).split()
    return " ".join(sorted(words)) or None


def _email_domain(entity: Entity, members: dict[str, Any]) -> str | None:
    mail = members.get("email")
    return mail.rpartition("@")[2].lower() or None if isinstance(mail, str) and "@" in mail else None


def _adverse_media(entity: Entity, members: dict[str, Any]) -> int:
    """How many articles a made-up press archive holds: for most none, at most 3."""
    byte = hashlib.sha256(b"media\0" + entity.external_id.encode()).digest()[0]
    return max(0, byte - 248) // 2


def _fingerprint(entity: Entity, members: dict[str, Any]) -> str:
    """The first 16 hex digits of the SHA-256 of the stored properties: changes when they do."""
    return hashlib.sha256(entity.properties).hexdigest()[:16]


# name, source, how to derive it; None means the entity does not say enough.
_DERIVED: tuple[tuple[str, str, Callable[[Entity, dict[str, Any]], Any]], ...] = (
    ("hemisphere", "emulator.geo", _hemisphere),
    ("size_class", "emulator.census", _size_class),
    ("risk_region", "emulator.risk", _risk_region),
    ("utc_offset", "emulator.geo", _utc_offset),
    ("name_key", "emulator.names", _name_key),
    ("email_domain", "emulator.net", _email_domain),
    ("adverse_media", "emulator.press", _adverse_media),
    ("fingerprint", "emulator.registry", _fingerprint),
)
PROVIDERS = tuple(sorted({source for _, source, _ in _DERIVED}))


def derive(entity: Entity, asked: EnrichPayload, now: str) -> tuple[list[Attribute], int]:
    """The attributes an entity gets, and its score: how much could be said, weighted by confidence."""
    members = loads(entity.properties)
    chances = hashlib.sha256(f"confidence\0{entity.external_id}".encode()).digest()
    wanted = [
        (position, name, source, rule)
        for position, (name, source, rule) in enumerate(_DERIVED)
        if (asked.providers is None or source in asked.providers) and (asked.fields is None or name in asked.fields)
    ]
    attributes = [
        Attribute(
            name=name, value=value, confidence=round(0.6 + 0.4 * chances[position] / 255, 2), source=source,
            retrieved_at=now,
        )
        for position, name, source, rule in wanted
        if (value := rule(entity, members)) is not None
    ]  # fmt: skip
    score = round(100 * sum(a.confidence for a in attributes) / len(wanted)) if wanted else 0
    return attributes, score


def _steps(names: list[str]) -> Iterator[list[str]]:
    return (names[at : at + _STEP] for at in range(0, len(names), _STEP))


def perform(task: Task, desk: Desk) -> Work:
    """Derive attributes for each profile, write the result document, and hand back what to keep."""
    asked = read_payload(task.payload, EnrichPayload)
    if isinstance(asked, list):
        raise WorkFailed("invalid_payload", asked[0].msg)
    written: list[bytes] = []
    effects: list[Effect] = []
    succeeded = 0
    for names in _steps(asked.profile_ids):
        found = desk.shelf.find(names)
        results, kept, notes = [], [], []
        for name in names:
            entity = found.get(name)
            if entity is None:
                results.append(EnrichRow(profile_id=name, status=FAILED, error=UNKNOWN_PROFILE))
                continue
            attributes, score = derive(entity, asked, task.now)
            results.append(EnrichRow(profile_id=name, status=SUCCEEDED, attributes=attributes, enrichment_score=score))
            kept.append((task.realm, entity.external_id, _keep(attributes, score, task.now)))
            if is_evidence(entity.entity_type):
                notes += notes_of(task, UPDATE, (msgspec.structs.replace(entity, enrichment=kept[-1][2]),))
        succeeded += len(kept)
        if spoiled := desk.spoil(results):
            written.append(encode(spoiled)[1:-1])
        if kept:
            effects.append(Effect(ENRICH, kept))
        if notes:
            effects.append(Effect(WITNESS, [*notes]))
        yield None
    requested = len(asked.profile_ids)
    counted = EnrichSummary(requested=requested, succeeded=succeeded, failed=requested - succeeded)
    summary = desk.miscount(msgspec.to_builtins(counted))
    page = desk.open("", "application/json")
    page.write(
        encode({"job_id": task.job_id, "kind": KIND, PROFILE.result_summary: summary})[:-1]
        + b","
        + encode(PROFILE.enrich_bulk.results)
        + b":["
    )
    yield from write_rows(page, written, pad=desk.pad)
    page.write(b"]}")
    page.close()
    return Outcome(effects=effects, summary=summary)


def _keep(attributes: list[Attribute], score: int, now: str) -> bytes:
    """What is stored with the entity, and exported as its `enrichment`."""
    return encode({"score": score, "retrieved_at": now, "attributes": {a.name: a.value for a in attributes}})


CRAFT = Craft(check, perform, EnrichPayload)
