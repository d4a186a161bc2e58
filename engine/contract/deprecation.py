"""Deprecation: which routes are on their way out, and how an answer says so (contract 12.5, Q92).

The matrix is data (`Profile.deprecations`): the emulator speaks by it, the OpenAPI document marks by it. What an
answer said is read by `transport.ageing`, from its headers alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from engine.contract.dates import http_date_text, rfc3339_s

_HEADER_MAX = 4096
_SHOWN_MAX = 300
# One link of a Link header (RFC 8288 section 3): its target and its parameters.
_LINK = re.compile(r'<([^<>]*)>((?:\s*;\s*[\w*-]+(?:\s*=\s*(?:"[^"]*"|[^\s",;]+))?)*)')
_REL = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s",;]+))', re.IGNORECASE)


class Deprecated(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the matrix. Times are RFC 3339; `successor` and `doc` are URLs, or paths on the same host.

    From `sunset_at` on, which is never before `deprecated_at`, the route answers 410.
    """

    method: str
    path_template: str
    deprecated_at: str
    sunset_at: str | None = None
    successor: str | None = None
    doc: str | None = None

    def __post_init__(self) -> None:
        since_s = rfc3339_s(self.deprecated_at)
        sunset_s = None if self.sunset_at is None else rfc3339_s(self.sunset_at)
        if since_s is None or (self.sunset_at is not None and sunset_s is None):
            raise ValueError(f"{self.method} {self.path_template}: times of a deprecation are RFC 3339")
        if sunset_s is not None and sunset_s < since_s:
            raise ValueError(f"{self.method} {self.path_template}: a sunset is never before the deprecation (RFC 9745)")


def row_of(rows: Sequence[Deprecated], method: str, path_template: str) -> Deprecated | None:
    """The matrix's row for a route, if it has one."""
    return next((row for row in rows if (row.method, row.path_template) == (method, path_template)), None)


def is_over(row: Deprecated, now_s: float) -> bool:
    """Whether the sunset has come."""
    sunset_s = None if row.sunset_at is None else rfc3339_s(row.sunset_at)
    return sunset_s is not None and now_s >= sunset_s


def headers_of(row: Deprecated) -> dict[str, str]:
    """What every answer of a deprecated route carries: RFC 9745, RFC 8594, and links (RFC 8288, RFC 5829)."""
    headers = {"Deprecation": f"@{int(rfc3339_s(row.deprecated_at) or 0)}"}
    links = []
    if row.doc is not None:
        links.append(f'<{row.doc}>; rel="deprecation"')
    if row.sunset_at is not None:
        headers["Sunset"] = http_date_text(rfc3339_s(row.sunset_at) or 0)
        if row.doc is not None:
            links.append(f'<{row.doc}>; rel="sunset"')
    if row.successor is not None:
        links.append(f'<{row.successor}>; rel="successor-version"')
    return headers | ({"Link": ", ".join(links)} if links else {})


def links_of(header: str) -> dict[str, str]:
    """Targets of a Link header by relation, the first of each; printable ASCII only: they go into a log line."""
    found: dict[str, str] = {}
    for target, parameters in _LINK.findall(header[:_HEADER_MAX]):
        relation = _REL.search(parameters)
        if relation is None or not target.isascii() or not target.isprintable():
            continue
        for name in (relation[1] or relation[2] or "").lower().split():
            found.setdefault(name, target[:_SHOWN_MAX])
    return found
