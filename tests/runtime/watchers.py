"""Observers that act: whoever wants something to happen at the n-th event of a kind."""

from __future__ import annotations

from collections.abc import Callable

from engine.events import Event


class At:
    """Calls `act` at the n-th event of a kind."""

    def __init__(self, act: Callable[[], None], kind: type[Event], count: int) -> None:
        self._act, self._kind, self._left = act, kind, count

    def notice(self, event: Event) -> None:
        if isinstance(event, self._kind):
            self._left -= 1
            if self._left == 0:
                self._act()
