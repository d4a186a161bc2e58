"""Margins: what stands beside an answer because of its route: deprecation (contract 12.5) and CORS (Q94).

Worked out once per route; refusals carry it as well as successes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from engine.contract.deprecation import Deprecated, headers_of, is_over, row_of
from engine.contract.profile import Profile
from engine.contract.route import Auth, Route
from engine.emulator.call import Reply
from engine.emulator.refusal import Refusal

_EXPOSED = "ETag, Link, Deprecation, Sunset, X-Argus-Trace-ID, X-Argus-Span-ID"
_ASKABLE = "If-None-Match, traceparent, tracestate"
_PREFLIGHT_S = 600

_NO_HEADERS: dict[str, str] = {}


class Margins:
    """Headers by route. Only documents that anybody may read are open to scripts of other origins."""

    def __init__(self, routes: Iterable[Route[Any, Any]], profile: Profile) -> None:
        self._profile = profile
        self._headers: dict[str, dict[str, str]] = {}
        self._rows: dict[str, Deprecated] = {}
        for route in routes:
            headers: dict[str, str] = {}
            if profile.cors_origin is not None and is_open(route):
                headers |= {
                    "Access-Control-Allow-Origin": profile.cors_origin,
                    "Access-Control-Expose-Headers": _EXPOSED,
                }
            if row := row_of(profile.deprecations, route.method, route.path):
                self._rows[route.name] = row
                headers |= headers_of(row)
            if headers:
                self._headers[route.name] = headers

    def add(self, route: Route[Any, Any], headers: dict[str, str]) -> None:
        """Put a route's headers to those of an answer; links join the links that are there."""
        for name, value in self._headers.get(route.name, _NO_HEADERS).items():
            headers[name] = f"{headers[name]}, {value}" if name == "Link" and name in headers else value

    def check(self, route: Route[Any, Any], now_s: float) -> None:
        """A route whose sunset has come answers no more.

        Raises:
            Refusal: 410, naming the successor.
        """
        row = self._rows.get(route.name)
        if row is not None and is_over(row, now_s):
            instead = f" Use {row.successor} instead." if row.successor else ""
            raise Refusal(self._profile.after_sunset, "sunset", f"This route ended at {row.sunset_at}.{instead}")

    def preflight(self, routes: Iterable[Route[Any, Any]], headers: Mapping[str, str]) -> Reply | None:
        """The answer to a browser that asks whether it may ask (Fetch, CORS-preflight); None when it may not."""
        if self._profile.cors_origin is None or "access-control-request-method" not in headers:
            return None
        if not any(is_open(route) for route in routes):
            return None
        return Reply(
            status=204,
            headers={
                "Access-Control-Allow-Origin": self._profile.cors_origin,
                "Access-Control-Allow-Methods": "GET, HEAD",
                "Access-Control-Allow-Headers": _ASKABLE,
                "Access-Control-Max-Age": str(_PREFLIGHT_S),
            },
        )


def is_open(route: Route[Any, Any]) -> bool:
    """Whether a route gives a public document, and no redirect."""
    return route.auth is Auth.PUBLIC and route.method == "GET" and not route.redirect
