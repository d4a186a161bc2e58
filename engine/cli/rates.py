"""Rates: what the platform says of its own limits, beside the ceiling that is configured here.

Its words are read in each of the forms that servers use: `RateLimit` with `r` and `t` and `RateLimit-Policy` with `q`
and `w` (IETF draft), `RateLimit-Limit`, `-Remaining` and `-Reset` (its older text), and the same with `X-` before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from engine.cli.probes import Check, failed, good, skipped
from engine.client.client import Access, Client
from engine.clock import SystemClock
from engine.contract.jobs import LIST
from engine.errors import EngineError, Exit, Throttled, Unavailable
from engine.ports import Transport
from engine.trust.bearer import Claims
from engine.trust.keyring import Keyring

_MEMBER = re.compile(r"(?:^|[;,\s])(limit|remaining|reset|[rtqw])\s*=\s*(\d{1,9})(?=\s*(?:[;,]|$))")
_NUMBER = re.compile(r"\s*(\d{1,9})(?=\s*(?:[;,]|$))")
_MEMBERS = {"q": "limit", "limit": "limit", "r": "left", "remaining": "left", "t": "resets_s", "reset": "resets_s"}


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer says of a limit: `limit` requests in `window_s`, `left` of them until `resets_s` from now."""

    limit: int | None = None
    window_s: int | None = None
    left: int | None = None
    resets_s: int | None = None

    @property
    def per_s(self) -> float | None:
        """The rate that it allows, where it says both figures."""
        return self.limit / self.window_s if self.limit and self.window_s else None


def quota_of(headers: Mapping[str, str]) -> Quota | None:
    """What the headers of an answer say (names in lower case); None where they say nothing."""
    found: dict[str, int] = {}
    for prefix in ("x-ratelimit", "x-rate-limit", "ratelimit"):
        for suffix in ("limit", "remaining", "reset"):
            if number := _NUMBER.match(headers.get(f"{prefix}-{suffix}", "")):
                found[_MEMBERS[suffix]] = int(number[1])
        for field in (f"{prefix}-limit", f"{prefix}-policy", prefix):
            for name, number in _MEMBER.findall(headers.get(field, "")):
                found["window_s" if name == "w" else _MEMBERS[name]] = int(number)
    return Quota(**found) if found else None


async def probe_rates(
    access: Access, transport: Transport, keyring: Keyring | None, claims: Claims | None, *, ours: float | None
) -> Check:
    """Ask for one job of the list, and compare what the answer says of limits with our ceiling, requests a second."""
    if claims is None or keyring is None:
        return skipped("rates", "there is no token to ask with")
    if not set(LIST.scopes) & set(claims.scope):
        return skipped("rates", f"the token may not ask {LIST.name}, which costs nothing")
    try:
        client = Client(transport, access, clock=SystemClock(), keyring=keyring)
        answered = await client.jobs.list(limit=1)
    except (Throttled, Unavailable) as exc:
        return _held_back(exc, ours)
    except EngineError as exc:
        return failed("rates", exc)
    return good("rates", said(quota_of(answered.headers), ours))


def _held_back(exc: Throttled | Unavailable, ours: float | None) -> Check:
    wait = "does not say for how long" if exc.retry_after_s is None else f"asks for {exc.retry_after_s:g} s"
    found = f"the platform holds us back and {wait} (Retry-After); {_ceiling(ours)}"
    hint = "wait so long; if it goes on, lower platform.limits.requests"
    return Check(name="rates", verdict="fail", found=found, hint=hint, exit=Exit.REMOTE)


def said(quota: Quota | None, ours: float | None) -> str:
    """The platform's figures and ours in one sentence."""
    if quota is None:
        return f"the platform names no limit; {_ceiling(ours)}"
    parts = []
    if quota.limit is not None:
        window = "" if quota.window_s is None else f" in {quota.window_s} s"
        parts.append(f"the platform allows {quota.limit} requests{window}")
    if quota.left is not None:
        until = "" if quota.resets_s is None else f" for the next {quota.resets_s} s"
        parts.append(f"{quota.left} left{until}")
    elif quota.resets_s is not None:
        parts.append(f"counted anew in {quota.resets_s} s")
    text = f"{', '.join(parts)}; {_ceiling(ours)}"
    if quota.per_s is not None and (ours is None or ours > quota.per_s):
        text += f', which is more: set platform.limits.requests = "{_rate(quota.per_s)}"'
    return text


def _ceiling(ours: float | None) -> str:
    return "our ceiling is none" if ours is None else f"our ceiling is {_rate(ours)}"


def _rate(per_s: float) -> str:
    return f"{per_s:g}/s" if per_s >= 1 else f"{per_s * 60:g}/m"
