"""Scenarios: the canned situations of the sandbox, and the seed that makes its answers repeat.

Pure: equal questions give equal seeds, equal seeds give equal answers (contract 10.4, Q55). What a job of a
scenario looks like is decided where jobs are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from engine.codec.canonical import canonical
from engine.contract.profile import PROFILE, Profile
from engine.contract.sandbox import Scenario

# The five of contract 10.2, in its order. Identifiers and labels are the vendor's, descriptions ours (Q54).
SCENARIOS: tuple[Scenario, ...] = (
    Scenario("wallet.high-risk", "High-risk wallet", "A wallet with direct exposure to sanctioned services."),
    Scenario("wallet.clean", "Clean wallet", "A wallet without any adverse exposure."),
    Scenario("entity.sanctioned", "Sanctioned entity", "An entity that matches a sanctions list."),
    Scenario("incident.escalating", "Escalating incident", "An incident that keeps growing; its jobs stay running."),
    Scenario("device.offline", "Offline medical device", "A device that has stopped reporting."),
)
SCENARIO_IDS: tuple[str, ...] = tuple(scenario.id for scenario in SCENARIOS)


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox answer may depend on, and nothing else. `body` is the decoded JSON, or None."""

    tenant: str
    client_id: str
    scenarios: tuple[str, ...]
    method: str
    path: str
    query: Mapping[str, str] = {}
    body: Any = None


def sandbox_seed(question: Question) -> bytes:
    """32 bytes that are the question's own: SHA-256 over its canonical JSON (Q55).

    Raises:
        RecordError: the body has no canonical form (an integer beyond 2^53, say).
    """
    return hashlib.sha256(
        canonical(
            {
                "tenant": question.tenant,
                "client_id": question.client_id,
                "scenarios": sorted(question.scenarios),
                "method": question.method,
                "path": question.path,
                "query": dict(question.query),
                "body": question.body,
            }
        )
    ).digest()


def sandbox_scenario(seed: bytes, pinned: Iterable[str]) -> str:
    """The scenario that plays for this seed: one of the pinned ones, or of all five when none is pinned."""
    choice = sorted(set(pinned)) or list(SCENARIO_IDS)
    return choice[int.from_bytes(seed) % len(choice)]


def sandbox_now_ns(profile: Profile = PROFILE) -> int:
    """The moment at which the sandbox's clock stands still (Q55), in nanoseconds since 1970 UTC."""
    return int(datetime.fromisoformat(profile.sandbox_now).timestamp()) * 1_000_000_000
