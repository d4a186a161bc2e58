"""ROUTES: every route the package speaks, by name, with one example question each."""

from __future__ import annotations

from typing import Any

from engine.contract import (
    devices,
    discovery,
    epcr,
    identity,
    jobs,
    keys,
    oauth,
    provenance,
    reference,
    sandbox,
    tracing,
    webhooks,
)
from engine.contract.route import Route

_GROUPS = (
    identity,
    oauth,
    keys,
    webhooks,
    epcr,
    devices,
    tracing,
    jobs,
    sandbox,
    provenance,
    discovery,
    reference,
)

ROUTES: dict[str, Route[Any, Any]] = {
    route.name: route for route in sorted((r for group in _GROUPS for r in group.ROUTES), key=lambda r: r.number)
}
EXAMPLES: dict[str, Any] = {name: ask for group in _GROUPS for name, ask in group.EXAMPLES.items()}
