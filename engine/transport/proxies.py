"""Proxies: which origins the operator's environment sends through a proxy (HTTP_PROXY, HTTPS_PROXY, NO_PROXY).

Read once, when a transport is made. This machine itself is never asked by way of a proxy.
"""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from engine.loopback import is_loopback


class Proxies:
    """The proxies that were named when this was made."""

    def __init__(self) -> None:
        self._by_scheme = {scheme: url for scheme, url in getproxies().items() if scheme in ("http", "https")}

    @property
    def is_empty(self) -> bool:
        """Whether everything goes direct."""
        return not self._by_scheme

    @property
    def hosts(self) -> frozenset[str]:
        """The hosts of the proxies themselves."""
        return frozenset(urlsplit(url).hostname or "" for url in self._by_scheme.values())

    def way_to(self, scheme: str, host: str) -> str | None:
        """The proxy for an origin; None: straight to it."""
        proxy = self._by_scheme.get(scheme)
        if proxy is None or is_loopback(host) or proxy_bypass(host):
            return None
        return proxy
