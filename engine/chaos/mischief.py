"""Mischief: what besides kills is done to a run, as data: fault scripts for the emulator, full disks, rotated keys.

Each has the words of its row in the table and the ids of the fault matrix it belongs to. Nothing here acts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from engine.errors import ConfigError

_CREATE = "jobs.create"


class Mischief(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of trouble.

    rules       `[[fault]]` tables of the emulator's script
    overrides   options of the pipelines that keep a run with it short
    states      states of a job that only this trouble leads to; kills are placed at them too
    is_deadly   some rows end as dead letters, so what would follow in a chain is left out of the round
    disk        the directory that is full for a while
    rotates     the platform's signing key is changed while the pipeline runs
    """

    name: str
    faults: tuple[str, ...]
    rules: tuple[Mapping[str, Any], ...] = ()
    overrides: Mapping[str, str] = {}
    states: tuple[str, ...] = ()
    is_deadly: bool = False
    disk: Literal["state", "sink"] | None = None
    rotates: bool = False


# What breaks in a download has a probability, not a turn: a reader that asks twice each time would meet every second
# answer for ever, which is no longer a network but a wall.
# A failed job is tried again soon, and often enough that chance alone does not spend its attempts.
_AGAIN = {"job.retry.cooldown": "20ms", "job.retry.attempts": "50"}
_ALL_MAY_DIE = {"dead_letters.max": "100%"}

ALL: tuple[Mischief, ...] = (
    Mischief(
        name="create answers lost",
        faults=("F02",),
        rules=({"at": "response", "route": _CREATE, "drop": True, "probability": 0.3},),
    ),
    Mischief(
        name="answers lost",
        faults=("F38",),
        rules=({"at": "response", "drop": True, "probability": 0.08},),
    ),
    Mischief(
        name="connections reset before the effect",
        faults=("F38",),
        rules=({"at": "request", "drop": True, "probability": 0.08},),
    ),
    Mischief(
        name="bursts of 5xx",
        faults=("F18",),
        rules=({"at": "request", "every": 5, "status": 503}, {"at": "request", "every": 9, "status": 502}),
    ),
    Mischief(
        name="429, with and without Retry-After",
        faults=("F17",),
        rules=(
            {"at": "request", "every": 7, "status": 429, "retry_after": 0},
            {"at": "request", "every": 11, "status": 429},
        ),
    ),
    Mischief(
        name="slow answers",
        faults=("F39",),
        rules=({"at": "response", "delay": "150ms", "spread": 0.9, "probability": 0.5},),
    ),
    Mischief(
        name="bodies that break off",
        faults=("F05", "F27"),
        rules=({"at": "result.body", "cut_after": 200, "probability": 0.5},),
    ),
    Mischief(
        name="bodies with a wrong byte",
        faults=("F27",),
        rules=({"at": "result.body", "corrupt": True, "probability": 0.25},),
    ),
    Mischief(
        name="resets instead of bodies",
        faults=("F38",),
        rules=({"at": "result.body", "reset": True, "probability": 0.5},),
    ),
    Mischief(
        name="storage answers 503",
        faults=("F18",),
        rules=({"at": "result.body", "status": 503, "probability": 0.5},),
    ),
    Mischief(
        name="signed URLs that are over",
        faults=("F29",),
        rules=({"at": "result.url", "ttl": 0, "probability": 0.35},),
    ),
    Mischief(
        name="tokens of one second",
        faults=("F15",),
        rules=({"at": "token", "ttl": 1},),
    ),
    Mischief(
        name="token endpoint answers 503",
        faults=("F15",),
        rules=({"at": "token", "status": 503, "every": 2},),
    ),
    Mischief(
        name="JWKS answers 503",
        faults=("F13",),
        rules=({"at": "jwks", "status": 503, "every": 2},),
    ),
    Mischief(name="signing key rotated", faults=("F14",), rotates=True),
    Mischief(
        name="jobs that fail once in a while",
        faults=("F25",),
        rules=({"at": "job.outcome", "status": "failed", "code": "worker_crashed", "retryable": True, "every": 3},),
        overrides=_AGAIN,
        states=("failed",),
    ),
    Mischief(
        name="jobs that fail for good",
        faults=("F25",),
        rules=({"at": "job.outcome", "status": "failed", "code": "bad_payload", "retryable": False, "every": 3},),
        overrides=_ALL_MAY_DIE,
        states=("failed", "dead"),
        is_deadly=True,
    ),
    Mischief(
        name="jobs that are cancelled by others",
        faults=("F25",),
        rules=({"at": "job.outcome", "status": "cancelled", "every": 3},),
        overrides=_ALL_MAY_DIE,
        states=("cancelled", "dead"),
        is_deadly=True,
    ),
    Mischief(name="disk full under the ledger", faults=("F09",), disk="state"),
    Mischief(name="disk full under the sink", faults=("F09",), disk="sink"),
)


def choose(names: Sequence[str]) -> tuple[Mischief, ...]:
    """The mischief of these names; all of it for none.

    Raises:
        ConfigError: a name that is not known.
    """
    known = {mischief.name: mischief for mischief in ALL}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(f"no such mischief: {', '.join(unknown)}", hint=f"known: {'; '.join(known)}")
    return tuple(known[name] for name in names) or ALL
