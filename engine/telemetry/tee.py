"""Tee: one observer that tells several.

It only passes facts on. What they mean, and where they are written, is each observer's own affair.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.events import Event, Warned
from engine.ports import Observer


class Tee:
    """Tells every observer each fact, in the order they were given.

    An observer that raises hears nothing more: the others get one `Warned` in its place, and whoever
    noticed the fact never learns of it. `Tee(())` is the observer that ignores everything.
    """

    __slots__ = ("_observers",)

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def notice(self, event: Event) -> None:
        """Pass the fact on; never raises."""
        failed: list[tuple[Observer, Exception]] = []
        for observer in self._observers:
            try:
                observer.notice(event)
            except Exception as exc:  # noqa: BLE001 - telemetry must never disturb a run, whatever it raises
                failed.append((observer, exc))
        for observer, error in failed:
            self._drop(observer, error)

    def _drop(self, observer: Observer, exc: Exception) -> None:
        if all(other is not observer for other in self._observers):
            return  # It failed again on the warning about another, and is gone already.
        self._observers = tuple(other for other in self._observers if other is not observer)
        # The exception's words stay unsaid: they may quote what the observer was told.
        message = f"{type(observer).__name__} raised {type(exc).__name__} and is told nothing more"
        self.notice(Warned("telemetry.observer_failed", message))
