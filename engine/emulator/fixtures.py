"""Fixtures: the entities of the sandbox, made up from a scenario and a name (contract 10.4, Q54).

Nothing here is stored and nothing is about anybody: equal names give equal entities, whoever asks and whenever. A
name that begins as the profile says is unknown to every scenario, so that a client can meet that case too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from engine.codec.payload import dumps
from engine.contract.profile import PROFILE
from engine.emulator.entities import Entity, Query, entity_id

CANNED = PROFILE.canned_entities


class _Cast(msgspec.Struct, frozen=True):
    """Who plays in a scenario: the type of its entities, what they are called, how risky they are (0-100)."""

    entity_type: str
    title: str
    risk: int
    flags: tuple[str, ...] = ()


_CASTS = {
    "wallet.high-risk": _Cast("digital_asset", "Wallet", 92, ("mixer", "sanctioned-service")),
    "wallet.clean": _Cast("digital_asset", "Wallet", 3),
    "entity.sanctioned": _Cast("organization", "Holding", 88, ("sanctions-list",)),
    "incident.escalating": _Cast("event", "Incident", 64, ("escalating",)),
    "device.offline": _Cast("object", "Monitor", 31, ("offline",)),
}
# (country, continent, time zone, latitude, longitude): points on land, chosen by hash.
_PLACES = (
    ("DE", "EU", "Europe/Berlin", 50.9, 10.3),
    ("KE", "AF", "Africa/Nairobi", 0.4, 37.6),
    ("JP", "AS", "Asia/Tokyo", 36.2, 138.4),
    ("BR", "SA", "America/Sao_Paulo", -19.9, -46.1),
)


class Fixtures:
    """The shelf of one scenario."""

    def __init__(self, scenario: str, realm: str) -> None:
        self._scenario = scenario
        self._cast = _CASTS[scenario]
        self._realm = realm
        self._canned = {e.id: e for e in (self._make(f"{scenario}-{n:03d}") for n in range(1, CANNED + 1))}
        self._by_name = {e.external_id: e for e in self._canned.values()} | self._canned

    def find(self, names: Sequence[str]) -> dict[str, Entity]:
        """An entity for every name: a canned one where the name is one's, else one made up for it."""
        known = (name for name in names if not name.startswith(PROFILE.canned_unknown))
        return {name: self._by_name.get(name) or self._make(name) for name in known}

    def known(self, external_ids: Sequence[str]) -> dict[str, Entity]:
        """The canned entities of these names: to an import, every other row is new."""
        return {name: self._by_name[name] for name in external_ids if name in self._by_name}

    def page(self, query: Query, *, after: str, limit: int) -> list[Entity]:
        """The canned entities by id, after the id `after`."""
        chosen = [
            self._canned[name]
            for name in sorted(self._canned)
            if name > after and (not query.entity_types or self._cast.entity_type in query.entity_types)
        ]
        at = PROFILE.sandbox_now
        is_out = (query.updated_from or at) > at or (query.updated_to or at) < at
        return [] if is_out else chosen[:limit]

    def alike(self, entity_type: str, prefix: str) -> list[Entity]:
        """Nothing: in the sandbox a row is like no other."""
        return []

    def _make(self, name: str) -> Entity:
        digest = hashlib.sha256(f"{self._scenario}\0{name}".encode()).digest()
        country, continent, timezone, latitude, longitude = _PLACES[digest[0] % len(_PLACES)]
        properties = {
            "scenario": self._scenario, "risk": max(0, min(100, self._cast.risk + digest[1] % 7 - 3)),
            "flags": list(self._cast.flags), "country": country, "continent": continent, "timezone": timezone,
            "latitude": latitude, "longitude": longitude, "investigation_id": f"inv-{self._scenario}",
        }  # fmt: skip
        return Entity(
            entity_id(self._realm, name), name, self._cast.entity_type, f"{self._cast.title} {digest.hex()[:6]}",
            dumps(properties), PROFILE.sandbox_now,
        )  # fmt: skip
