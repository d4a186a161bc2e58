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
# The gate opens when nothing has moved for this many looks in a row; on a slow machine a look comes later, not sooner.
_LOOK_EVERY_S = 0.1
_QUIET_LOOKS = 8


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


class _Opener:
    """Opens the gate once a part waits at it and the run behind has come to rest; then tells what stood there."""

    def __init__(self, gate: threading.Event, waits: list[int], meter: _Meter) -> None:
        self._gate, self._waits, self._meter = gate, waits, meter
        self._seen, self._quiet = (0, 0, 0), 0
        self.seen: tuple[int, int, int, int] | None = None
        self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)

    def close(self) -> None:
        self._timer.cancel()
        self._gate.set()

    def _look(self) -> None:
        counts = (self._meter.submitted, self._meter.planned, self._meter.read)
        self._quiet = self._quiet + 1 if self._waits and counts == self._seen else 0
        self._seen = counts
        if self._quiet == _QUIET_LOOKS:
            self.seen = (*counts, self._meter.peak)
            self._gate.set()
            return
        self._timer = asyncio.get_running_loop().call_later(_LOOK_EVERY_S, self._look)


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
    meter = _Meter()
    before = _resident()
    opener = _Opener(gate, waits, meter)
    try:
        report = await rig.run(observer=meter)
    finally:
        opener.close()
    assert opener.seen is not None
    submitted, planned, read, peak = opener.seen
    assert waits
    # At most: those under way, those whose results wait, those in the hands of the fetchers, and one at the gate.
    assert submitted <= 16 + 8 + 8 + 1
    assert planned < _ROWS // 40
    assert read < _ROWS
    assert peak - before < 64 << 20
    assert (report.outcome, report.accepted, report.open) == ("done", _ROWS, 0)
    assert rig.creates() == _ROWS // 40
