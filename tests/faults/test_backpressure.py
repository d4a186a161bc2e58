"""F32: a sink that is slow, or takes nothing for a while, holds back the source; memory stays where it is."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.events import BatchRead, Event, JobsPlanned, JobSubmitted
from tests.faults.injectors import write_rows
from tests.runtime.conftest import Rig

pytestmark = pytest.mark.anyio

_ROWS = 8000
_HELD_S = 1.5


class _GatedPart:
    """A part whose way to the disk is shut until the gate opens."""

    def __init__(self, part: Any, gate: threading.Event, waits: list[int]) -> None:
        self._part, self._gate, self._waits = part, gate, waits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    def finish(self) -> Any:
        if not self._gate.is_set():
            self._waits.append(1)
        self._gate.wait()
        return self._part.finish()


class _GatedSink:
    def __init__(self, sink: Any, gate: threading.Event, waits: list[int]) -> None:
        self._sink, self._gate, self._waits = sink, gate, waits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def begin(self, **place: int) -> _GatedPart:
        return _GatedPart(self._sink.begin(**place), self._gate, self._waits)


class _Meter:
    """Counts what is read, planned and submitted, and the memory at each of them."""

    def __init__(self) -> None:
        self.read = self.planned = self.submitted = 0
        self.peak = 0

    def notice(self, event: Event) -> None:
        match event:
            case BatchRead(records=records):
                self.read += records
            case JobsPlanned(jobs=jobs):
                self.planned += jobs
            case JobSubmitted():
                self.submitted += 1
            case _:
                return
        self.peak = max(self.peak, _resident())


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_f32_a_sink_that_takes_nothing_holds_back_the_source(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the disk does not answer, jobs stop being made and rows stop being read; then everything lands."""
    from engine.components.catalog import open_sink

    gate, waits = threading.Event(), list[int]()
    monkeypatch.setattr(
        "engine.components.catalog.open_sink", lambda *a, **k: _GatedSink(open_sink(*a, **k), gate, waits)
    )
    monkeypatch.setattr("engine.runtime.run._RESULTS_MAX", 8)
    rig.replace('name    = "rig"', 'name    = "rig"\nmemory  = "112MiB"')
    rig.replace("rows = 10", "rows = 40")
    rig.replace('kind  = "import.bulk"', 'kind  = "import.bulk"\njobs_in_flight = 16')
    rig.replace('path   = "', 'rotate = { rows = 20 }\npath   = "')
    write_rows(rig.directory, _ROWS, padding=4000)
    meter, at_opening = _Meter(), list[int]()
    before = _resident()

    def open_gate() -> None:
        at_opening.extend((meter.submitted, meter.planned, meter.read, meter.peak - before))
        gate.set()

    timer = asyncio.get_running_loop().call_later(_HELD_S, open_gate)
    try:
        report = await rig.run(observer=meter)
    finally:
        gate.set()
        timer.cancel()
    submitted, planned, read, grown = at_opening
    assert waits
    # At most: those under way, those whose results wait, those in the hands of the fetchers, and one at the gate.
    assert submitted <= 16 + 8 + 8 + 1
    assert planned < _ROWS // 40
    assert read < _ROWS
    assert grown < 64 << 20
    assert (report.outcome, report.accepted, report.open) == ("done", _ROWS, 0)
    assert rig.creates() == _ROWS // 40
