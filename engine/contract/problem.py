"""Refusals on the wire: RFC 9457 problems, and reading whatever shape an error body has.

The vendor documents no error body (Q1). We write problem+json, its members named by the contract profile, whose
statuses (Q1, Q4, Q41, Q46) say what is meant by them; we read problem+json, FastAPI's
`detail` (string or list), `message`, and OAuth's `error`/`error_description` (RFC 6749 section 5.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.codec.payload import check_caps, loads
from engine.contract.dates import http_date_s
from engine.contract.profile import PROFILE
from engine.errors import (
    Conflict,
    EngineError,
    Missing,
    PlatformError,
    RecordError,
    Refused,
    Rejected,
    Throttled,
    Unavailable,
)

_BODY_READ_MAX = 64 * 1024
_TEXT_MAX = 500


class FieldFault(msgspec.Struct, frozen=True):
    """One fault of a 422: where (`["body", "kind"]`), what, and its machine name."""

    loc: list[str | int]
    msg: str
    type: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename=PROFILE.problem_names):
    """A problem document (RFC 9457), members as in contract 1.9."""

    title: str
    status: int
    type: str = "about:blank"
    detail: str | None = None
    instance: str | None = None
    code: str | None = None
    trace_id: str | None = None
    errors: list[FieldFault] | None = None
    extra: dict[str, Any] | None = None


class OAuthError(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error of the token endpoint (RFC 6749 section 5.2)."""

    error: str
    error_description: str | None = None


def retry_after_s(headers: Mapping[str, str], *, now_s: float) -> float | None:
    """Read `Retry-After` (RFC 9110 section 10.2.3), seconds or date; None when absent or senseless.

    A negative wait is zero. The caller clamps the upper end to its own patience.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return float(min(int(text[:16]), 10**12))
    at_s = http_date_s(text)
    return None if at_s is None else max(0.0, at_s - now_s)


def refusal(route: str, status: int, headers: Mapping[str, str], body: bytes, *, now_s: float) -> PlatformError:
    """The error a non-success answer stands for, with status, code, trace id and the platform's own words."""
    code, said = _read_body(body)
    kind = _MEANT.get((route, status)) or _kind_of(status)
    facts: dict[str, Any] = {"route": route}
    if code:
        facts["platform_code"] = code
    if trace_id := headers.get("x-argus-trace-id"):
        facts["trace_id"] = trace_id
    message = f"{route}: the platform answered {status}" + (f": {said}" if said else "")
    hint = None
    if status == 403 and (reason := headers.get("x-argus-sandbox-reason")):
        hint = f"the sandbox gate refused the token ({reason}); check `profile` and the host in config.toml"
    elif kind is Refused and (challenge := headers.get("www-authenticate")):
        facts["challenge"] = challenge[:_TEXT_MAX]
    return kind(message, status=status, hint=hint, retry_after_s=retry_after_s(headers, now_s=now_s), **facts)


# What a status means where a row of the profile gives it its meaning: for one route, and for all.
_MEANT: dict[tuple[str, int], type[PlatformError]] = {
    ("jobs.result", PROFILE.result_expired_status): Missing,
    ("jobs.result", PROFILE.result_failed_status): Conflict,
    ("jobs.result", PROFILE.result_not_ready_status): Conflict,
    ("jobs.cancel", PROFILE.cancel_ended_status): Conflict,
}
_MEANT_BY_ALL: dict[int, type[PlatformError]] = {
    PROFILE.after_sunset: Missing,
    PROFILE.no_path_status: Missing,
    PROFILE.no_method_status: Rejected,
    PROFILE.malformed_status: Rejected,
    PROFILE.invalid_status: Rejected,
}


def _kind_of(status: int) -> type[PlatformError]:
    if status in _MEANT_BY_ALL:
        return _MEANT_BY_ALL[status]
    if status in (401, 403):
        return Refused
    if status in (404, 410):
        return Missing
    if status in (409, 412):
        return Conflict
    if status == 429:
        return Throttled
    if status >= 500 or status == 408:
        return Unavailable
    if 400 <= status < 500:
        return Rejected
    return PlatformError


def _read_body(body: bytes) -> tuple[str | None, str | None]:
    """(machine code, human text) of an error body of any known shape."""
    try:
        check_caps(body, max_bytes=_BODY_READ_MAX)
        document = loads(body)
    except (RecordError, EngineError):
        return None, None
    if not isinstance(document, dict):
        return None, None
    names = PROFILE.problem_names
    code = document.get(names["code"]) or document.get("error")
    detail = document.get(names["detail"]) or document.get("detail")
    if isinstance(detail, list):
        said: Any = "; ".join(_fault(item) for item in detail[:5])
    else:
        said = detail or document.get("message") or document.get("error_description") or document.get("title")
    if isinstance(faults := document.get(names["errors"]), list) and faults:
        said = f"{said or 'invalid'}: " + "; ".join(_fault(item) for item in faults[:5])
    return (
        str(code)[:_TEXT_MAX] if isinstance(code, str) else None,
        str(said)[:_TEXT_MAX] if said else None,
    )


def _fault(item: Any) -> str:
    if not isinstance(item, dict):
        return str(item)
    where = ".".join(str(step) for step in item.get("loc", ())) if isinstance(item.get("loc"), list) else ""
    return f"{where} {item.get('msg', '')}".strip()
