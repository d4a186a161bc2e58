"""Farewells: what the platform says about routes on their way out, told to the operator once per route (12.5)."""

from __future__ import annotations

from collections.abc import Mapping

from engine.contract.deprecation import farewell_of, in_words
from engine.events import Warned
from engine.ports import Observer


class Farewells:
    """Looks at the headers of every answer; one warning for each route and process, and never an error."""

    def __init__(self, observer: Observer | None) -> None:
        self._observer = observer
        self._told: set[str] = set()

    def look(self, route: str, headers: Mapping[str, str]) -> None:
        """Warn if this answer says that its route is deprecated, or ends."""
        if self._observer is None or route in self._told:
            return
        if "deprecation" not in headers and "sunset" not in headers:
            return
        farewell = farewell_of(headers)
        if farewell is not None:
            self._told.add(route)
            self._observer.notice(Warned("platform.deprecated", in_words(route, farewell)))
