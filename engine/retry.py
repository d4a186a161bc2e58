"""Whether to ask again: one pure decision over an error, an attempt number and a policy.

No clock, no randomness of its own, no I/O: jitter comes in as a number, so a table test covers it.
"""

from __future__ import annotations

import msgspec

from engine.errors import EngineError, PlatformError, Retry


class Policy(msgspec.Struct, frozen=True):
    """How patient a lane is. Seconds; `attempts` counts the first try."""

    attempts: int = 6
    first_s: float = 0.2
    factor: float = 2.0
    ceiling_s: float = 30.0
    retry_after_ceiling_s: float = 300.0


class Again(msgspec.Struct, frozen=True):
    """Ask again after this many seconds."""

    after_s: float


class ToDeadLetters(msgspec.Struct, frozen=True):
    """Asking again cannot help, or has been tried enough."""


class Halt(msgspec.Struct, frozen=True):
    """Nothing like this will succeed until somebody acts: stop the run."""


Verdict = Again | ToDeadLetters | Halt


def decide(error: EngineError, attempt: int, policy: Policy, *, jitter: float = 1.0) -> Verdict:
    """Say what to do after `attempt` (from 1) failed with `error`.

    `jitter` in [0, 1] scales the wait ("full jitter"). A `Retry-After` of the platform is a floor, clamped to
    `policy.retry_after_ceiling_s`: a hostile figure must not park the run for ever.
    """
    match error.retry:
        case Retry.HALT:
            return Halt()
        case Retry.NEVER:
            return ToDeadLetters()
        case _:
            if attempt >= policy.attempts:
                return ToDeadLetters()
            backoff_s = min(policy.ceiling_s, policy.first_s * policy.factor ** (attempt - 1)) * jitter
            asked_s = error.retry_after_s if isinstance(error, PlatformError) else None
            if asked_s is not None:
                backoff_s = max(backoff_s, min(max(asked_s, 0.0), policy.retry_after_ceiling_s))
            return Again(backoff_s)
