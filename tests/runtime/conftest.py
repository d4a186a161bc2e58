"""A rig: one pipeline, one emulator in this process, and whole runs over real sockets."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.assembly import RunOrder, run_pipeline
from engine.emulator.faults import Faults
from engine.emulator.server import Emulator
from engine.emulator.state import Options
from engine.pipeline.parse import load_pipeline
from engine.ports import Observer
from engine.runtime.drain import StopFlag
from engine.runtime.replay import Replay
from engine.runtime.report import Report
from engine.settings import EmulatorSettings, Platform, Settings
from engine.store.letters import TO_BE_HAD, Letters, Selection
from tests.runtime.process import rows_in

_PIPELINE = """
version = 1
name    = "rig"
[source]
type  = "ndjson"
paths = ["{directory}/in*.ndjson"]
key   = "id"
[job]
kind  = "import.bulk"
batch = {{ rows = 10 }}
poll  = {{ first = "50ms", max = "1s" }}
retry = {{ attempts = 3, cooldown = "10ms" }}
[job.payload]
entity_type = "location"
mapping     = {{ id = "external_id", name = "label" }}
[results.fields]
external_id = "str"
id          = "str"
status      = "str"
[sink]
type   = "ndjson"
path   = "{directory}/out"
"""


class Rig:
    """Write input, run, look at what came of it."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self.directory = directory
        self.out = directory / "out"
        self.text = _PIPELINE.format(directory=directory)
        # What is changed here changes the platform's settings of the next runs.
        self.settings: dict[str, Any] = {}
        self.emulator_settings: dict[str, Any] = {}
        self._stack = stack
        self._emulator: Emulator | None = None

    async def emulate(self, *faults: dict[str, Any], **options: Any) -> Emulator:
        """Start the platform, with faults; called by `run` when nobody did."""
        options = {"latency_s": 0.05, "seed": 1, **options}
        emulator = Emulator(Options(**options), faults=Faults(faults, seed=1))
        self._emulator = await self._stack.enter_async_context(emulator)
        return self._emulator

    @property
    def emulator(self) -> Emulator:
        """The platform."""
        assert self._emulator is not None
        return self._emulator

    def calm(self) -> None:
        """From now on, no faults."""
        self.emulator.state.faults = Faults()

    def write(self, rows: int, *, first: int = 0, name: str = "in.ndjson") -> None:
        """Append rows to an input file: `r0`, `r1` and so on."""
        with (self.directory / name).open("a") as file:
            for number in range(first, first + rows):
                file.write(json.dumps({"id": f"r{number}", "name": f"Row {number}"}) + "\n")

    def replace(self, old: str, new: str) -> None:
        """Change the pipeline's text."""
        assert old in self.text
        self.text = self.text.replace(old, new)

    async def run(
        self,
        *,
        fresh: bool = False,
        limit: int | None = None,
        stop: StopFlag | None = None,
        observer: Observer | None = None,
        replay: Replay | None = None,
        is_aborting: bool = False,
    ) -> Report:
        """Run the pipeline once."""
        if self._emulator is None:
            await self.emulate()
        path = self.directory / "rig.toml"
        path.write_text(self.text)
        spec = load_pipeline(str(path), env={})
        settings = Settings(
            state_dir=str(self.directory / "state"),
            platform=Platform(
                emulator=EmulatorSettings(url=self.emulator.base_url, **self.emulator_settings), **self.settings
            ),
        )
        order = RunOrder(
            spec=spec, spec_path=str(path), fresh=fresh, limit=limit, replay=replay, is_aborting=is_aborting
        )
        return await run_pipeline(order, settings, observer=observer, stop=stop or StopFlag())

    @property
    def letters(self) -> Letters:
        """The dead letters of the pipeline."""
        return Letters(self.directory / "state" / "rig")

    async def replay(self, *, is_anew: bool = False, **more: Any) -> Report:
        """Send every letter that is to be had again, or go on with an unfinished replay."""
        states = (*TO_BE_HAD, "replaying") if is_anew else TO_BE_HAD
        letters = self.letters.ids(Selection(states=states, epochs=tuple(self.letters.current_epochs())))
        return await self.run(replay=Replay(letters=letters, is_anew=is_anew), **more)

    def rows(self) -> list[dict[str, Any]]:
        """Every row in the output directory."""
        return rows_in(self.out)

    def keys(self) -> list[str]:
        """The keys of those rows, sorted."""
        return sorted(row["external_id"] for row in self.rows())

    def ledger(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Ask the ledger."""
        return self.ledger_of("rig", sql, values)

    def ledger_of(self, name: str, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Ask the ledger of a pipeline."""
        db = sqlite3.connect(self.directory / "state" / name / "ledger.sqlite")
        try:
            return db.execute(sql, values).fetchall()
        finally:
            db.close()

    def struck(self) -> list[int]:
        """How often each fault of the script has struck."""
        return [rule["struck"] for rule in self.emulator.state.faults.tally()]

    def asked(self, route: str = "") -> int:
        """How many requests of a route reached the platform; of all routes without one."""
        requests = self.emulator._dispatch.requests
        return requests.get(route, 0) if route else sum(requests.values())

    def creates(self) -> int:
        """How many jobs the platform ever made."""
        return int(self.emulator.state.db.execute("SELECT count(*) FROM jobs").fetchone()[0])


@pytest.fixture
async def rig(tmp_path: Path, anyio_backend: Any) -> AsyncIterator[Rig]:
    """A fresh rig."""
    async with AsyncExitStack() as stack:
        yield Rig(tmp_path, stack)


def plain(report: Report) -> dict[str, Any]:
    """A report's books."""
    names = ("outcome", "read", "accepted", "rejected", "dead", "filtered", "open")
    document = msgspec.to_builtins(report)
    return {name: document[name] for name in names}
