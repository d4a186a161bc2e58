"""Moves records through the Argus platform's asynchronous jobs and back, exactly once.

The public surface, and nothing else: what is not named here may change without notice. Names are imported
when they are first used, so importing the package loads no network, crypto or telemetry library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.assembly import RunOrder, run_pipeline
    from engine.client.client import Access, Client
    from engine.client.events import EventReader
    from engine.contract.catalog import ROUTES
    from engine.contract.exchange import Trace
    from engine.contract.route import Route
    from engine.emulator.server import Emulator
    from engine.errors import (
        ConfigError,
        Conflict,
        EngineError,
        Missing,
        PartialFailure,
        PlanError,
        PlatformError,
        RecordError,
        Refused,
        Rejected,
        RunFailed,
        StateError,
        Throttled,
        TransportError,
        TrustError,
        Unavailable,
        Unbalanced,
    )
    from engine.jobs.callback import Receiver
    from engine.pipeline.parse import load_pipeline, load_settings
    from engine.pipeline.spec import PipelineSpec
    from engine.platform import call_route, open_platform
    from engine.ports import Observer, Sink, Source, Transform
    from engine.record import Batch, DeadLetter
    from engine.runtime.drain import StopFlag
    from engine.runtime.report import Report
    from engine.settings import Secret, Settings

from engine.version import __version__ as __version__

_HOMES = {
    "engine.assembly": ("RunOrder", "run_pipeline"),
    "engine.client.client": ("Access", "Client"),
    "engine.client.events": ("EventReader",),
    "engine.contract.catalog": ("ROUTES",),
    "engine.contract.exchange": ("Trace",),
    "engine.contract.route": ("Route",),
    "engine.emulator.server": ("Emulator",),
    "engine.errors": (
        "ConfigError", "Conflict", "EngineError", "Missing", "PartialFailure", "PlanError", "PlatformError",
        "RecordError", "Refused", "Rejected", "RunFailed", "StateError", "Throttled", "TransportError", "TrustError",
        "Unavailable", "Unbalanced",
    ),
    "engine.jobs.callback": ("Receiver",),
    "engine.pipeline.parse": ("load_pipeline", "load_settings"),
    "engine.pipeline.spec": ("PipelineSpec",),
    "engine.platform": ("call_route", "open_platform"),
    "engine.ports": ("Observer", "Sink", "Source", "Transform"),
    "engine.record": ("Batch", "DeadLetter"),
    "engine.runtime.drain": ("StopFlag",),
    "engine.runtime.report": ("Report",),
    "engine.settings": ("Secret", "Settings"),
}  # fmt: skip
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ROUTES",
    "Access",
    "Batch",
    "Client",
    "ConfigError",
    "Conflict",
    "DeadLetter",
    "Emulator",
    "EngineError",
    "EventReader",
    "Missing",
    "Observer",
    "PartialFailure",
    "PipelineSpec",
    "PlanError",
    "PlatformError",
    "Receiver",
    "RecordError",
    "Refused",
    "Rejected",
    "Report",
    "Route",
    "RunFailed",
    "RunOrder",
    "Secret",
    "Settings",
    "Sink",
    "Source",
    "StateError",
    "StopFlag",
    "Throttled",
    "Trace",
    "Transform",
    "TransportError",
    "TrustError",
    "Unavailable",
    "Unbalanced",
    "call_route",
    "load_pipeline",
    "load_settings",
    "open_platform",
    "run_pipeline",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    return getattr(import_module(home), name)
