"""What every fault needs: the rig of whole runs, a platform that stands alone, and something to hear with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.clock import SystemClock
from engine.events import Event
from tests.runtime.conftest import rig  # noqa: F401 - a fixture
from tests.runtime.process import standing_emulator


class Ears:
    """An observer that keeps what it hears, and can be waited for from another thread."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._news = threading.Condition()

    def notice(self, event: Event) -> None:
        """Keep the fact."""
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def codes(self) -> list[str]:
        """The codes of the warnings, in order."""
        return [event.code for event in self.events if hasattr(event, "code")]

    def said(self, code: str) -> list[str]:
        """The messages of one code."""
        return [event.message for event in self.events if getattr(event, "code", None) == code]

    def wait(self, code: str) -> None:
        """Wait on this thread until a warning of this code was heard."""
        with self._news:
            assert self._news.wait_for(lambda: code in self.codes(), timeout=30), f"never heard {code}"


@pytest.fixture
def ears() -> Ears:
    """Somebody who listens."""
    return Ears()


@pytest.fixture(scope="module")
def platform() -> Iterator[dict[str, Any]]:
    """A platform that stands alone, for runs that are processes."""
    with standing_emulator("--latency", "0.2s", "--seed", "5") as ready:
        yield ready


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for something to be mounted on."""
    path = tmp_path / "mounted"
    path.mkdir()
    return path


class Stepped(SystemClock):
    """The machine's clock, with a wall and a stopwatch that can be set."""

    def __init__(self, start_ns: int | None = None) -> None:
        self.wall_ns = 0 if start_ns is None else start_ns - super().now_ns()
        self.elapsed_s = 0.0

    def now_ns(self) -> int:
        """Wall time, off by what was set."""
        return super().now_ns() + self.wall_ns

    def monotonic(self) -> float:
        """Seconds, with those that were skipped."""
        return super().monotonic() + self.elapsed_s

    def skip(self, seconds: float) -> None:
        """Time passes, on the wall and on the stopwatch; whoever sleeps does not notice."""
        self.elapsed_s += seconds
        self.wall_ns += int(seconds * 1e9)

    def step(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.wall_ns += int(seconds * 1e9)
