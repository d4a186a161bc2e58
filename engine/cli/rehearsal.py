"""Rehearsal: one `[[test]]` block played, and what came out compared with what its author expects.

Everything is of its own and gone afterwards: an emulator in this process, a state directory, an output directory.
The pipeline is the user's, but for three things: its input are the rows of the test, its output are NDJSON parts,
so that rows can be compared member by member, and callbacks come over loopback.
"""

from __future__ import annotations

import asyncio
import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from engine.assembly import RunOrder, run_pipeline
from engine.cli.leap import LeapClock, LeapLoop
from engine.codec.payload import dumps, loads, to_wire
from engine.emulator.faults import Faults
from engine.emulator.server import Emulator
from engine.emulator.state import Options
from engine.errors import EngineError, RunFailed
from engine.pipeline.scenario import LETTER_MEMBERS, OutcomeSpec, ScenarioSpec
from engine.pipeline.spec import PipelineSpec, PollSpec
from engine.runtime.drain import StopFlag
from engine.runtime.report import Report
from engine.settings import EmulatorSettings, Platform, Settings
from engine.store.reading import Glance

_COUNTS = ("read", "accepted", "rejected", "dead", "filtered", "jobs")
_LETTERS_MAX = 10_000
_DISABLED = "OTEL_SDK_DISABLED"


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """How a scenario came out. `differences` are sentences; none is a success. `seconds` by the run's own clock."""

    name: str
    differences: list[str]
    outcome: str
    seconds: float
    report: Report | None = None

    @property
    def is_good(self) -> bool:
        """Whether all is as it was expected."""
        return not self.differences


def rehearse(spec: PipelineSpec, spec_path: str, scenario: ScenarioSpec, folder: Path) -> Played:
    """Play one scenario in an empty folder, in a time of its own: what takes hours takes moments.

    Raises:
        ConfigError: the fault script makes no sense.
    """
    with _without_traces(), asyncio.Runner(loop_factory=LeapLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, LeapLoop)  # noqa: S101 - made by the factory above
        return runner.run(play(spec, spec_path, scenario, folder, clock=LeapClock(loop)))


@contextmanager
def _without_traces() -> Iterator[None]:
    """A test is no run: a collector that the environment names must not hear of it."""
    before = os.environ.get(_DISABLED)
    os.environ[_DISABLED] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_DISABLED]
        else:
            os.environ[_DISABLED] = before


async def play(spec: PipelineSpec, spec_path: str, scenario: ScenarioSpec, folder: Path, *, clock: LeapClock) -> Played:
    """Play one scenario in an empty folder, on the loop of this clock.

    Raises:
        ConfigError: the fault script makes no sense.
    """
    faults = Faults(scenario.faults, seed=scenario.seed, path=f"{spec_path}: test {scenario.name!r}")
    options = Options(seed=scenario.seed, inventory=True)
    if scenario.latency is not None:
        options = msgspec.structs.replace(options, latency_s=scenario.latency)
    order = RunOrder(spec=_rehearsed(spec, scenario, folder), spec_path=spec_path, clock=clock)
    started_s, report, failure = clock.monotonic(), None, None
    async with Emulator(options, faults=faults, clock=clock) as emulator:
        try:
            report = await run_pipeline(order, _settings(folder, emulator), observer=clock, stop=StopFlag())
        except EngineError as exc:
            failure = exc
            report = exc.report if isinstance(exc, RunFailed) and isinstance(exc.report, Report) else None
        seconds = clock.monotonic() - started_s
    outcome = "failed" if failure is not None or report is None else report.outcome
    differences = [
        *_about_the_end(scenario.expect, outcome, failure, seconds),
        *_about_counts(scenario.expect, report),
        *_about_rows(scenario.expect, spec, folder),
        *_about_letters(scenario.expect, spec, folder, report),
    ]
    return Played(name=scenario.name, differences=differences, outcome=outcome, seconds=seconds, report=report)


def _settings(folder: Path, emulator: Emulator) -> Settings:
    """Defaults, whatever the user's config.toml says: a test must come out alike on every machine."""
    place = EmulatorSettings(url=emulator.base_url, sandbox_url=emulator.sandbox_url)
    return Settings(state_dir=str(folder / "state"), platform=Platform(profile="emulator", emulator=place))


def _rehearsed(spec: PipelineSpec, scenario: ScenarioSpec, folder: Path) -> PipelineSpec:
    replace = msgspec.structs.replace
    source, sink, callback, job = spec.source, spec.sink, spec.callback, spec.job
    if source.type != "platform":
        path = folder / f"rows.{source.type}"
        path.write_text(_text_of(scenario, spec), encoding="utf-8")
        source = replace(source, paths=(str(path),), compression="none")
    if sink.type != "platform":
        sink = replace(sink, type="ndjson", path=str(folder / "out"), compression="none")
    if callback is not None:
        callback = replace(callback, listen="127.0.0.1:0", public_url=None, secrets=())
    if job is not None and job.poll is None and scenario.latency is not None:
        # Questions as often as it takes to notice an end within an eighth of the time that jobs take.
        job = replace(job, poll=PollSpec(first=0.1, max=max(5.0, scenario.latency / 8)))
    return replace(spec, source=source, sink=sink, callback=callback, job=job)


def _text_of(scenario: ScenarioSpec, spec: PipelineSpec) -> str:
    if scenario.text is not None:
        return scenario.text
    if spec.source.type == "ndjson":
        return "".join(dumps(to_wire(row)).decode("utf-8") + "\n" for row in scenario.rows)
    columns = list(spec.source.header) or list(dict.fromkeys(name for row in scenario.rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, delimiter=spec.source.delimiter, lineterminator="\n", extrasaction="ignore")
    if not spec.source.header:
        writer.writeheader()
    for row in scenario.rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return out.getvalue()


def _cell(value: Any) -> str:
    """A TOML value as a cell of a CSV file."""
    return value if isinstance(value, str) else dumps(to_wire(value)).decode("utf-8").strip('"')


# What is different ---------------------------------------------------------------------------


def _about_the_end(expect: OutcomeSpec, outcome: str, failure: EngineError | None, seconds: float) -> Iterator[str]:
    if outcome != expect.outcome:
        because = f": {failure.message} [{', '.join(_codes(failure))}]" if failure is not None else ""
        yield f"outcome is {outcome}, expected {expect.outcome}{because}"
    if expect.error is not None and failure is not None and expect.error not in (codes := _codes(failure)):
        yield f"error is {', '.join(codes)}, expected {expect.error}"
    if expect.within is not None and seconds > expect.within:
        yield f"it took {seconds:.1f} s, expected {expect.within:.1f} s at most"


def _codes(failure: EngineError) -> list[str]:
    causes = failure.causes if isinstance(failure, RunFailed) else [failure]
    return list(dict.fromkeys(cause.code for cause in causes))


def _about_counts(expect: OutcomeSpec, report: Report | None) -> Iterator[str]:
    for name in _COUNTS:
        wanted = getattr(expect, name)
        found = None if report is None else getattr(report, name)
        if wanted is not None and found != wanted:
            yield f"{name} is {'unknown' if found is None else found}, expected {wanted}"


def _about_rows(expect: OutcomeSpec, spec: PipelineSpec, folder: Path) -> Iterator[str]:
    if expect.rows is None:
        return
    if spec.sink.type == "platform":
        yield "rows cannot be looked at: they went to the platform; expect `accepted` in their place"
        return
    yield from _unlike("row", expect.rows, list(_landed(folder / "out")))


def _landed(out: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of every part that the manifest lists."""
    manifest = out / "_manifest.json"
    parts = loads(manifest.read_bytes())["parts"] if manifest.is_file() else []
    for part in parts:
        for line in (out / part["name"]).read_bytes().splitlines():
            yield loads(line)


def _about_letters(expect: OutcomeSpec, spec: PipelineSpec, folder: Path, report: Report | None) -> Iterator[str]:
    if expect.dead_letters is None:
        return
    letters: list[dict[str, Any]] = []
    if report is not None:
        with Glance(folder / "state" / spec.name) as glance:
            kept = glance.letters(run_id=report.run_id, limit=_LETTERS_MAX)
            letters = [{name: letter[name] for name in LETTER_MEMBERS} for letter in kept]
    yield from _unlike("dead letter", expect.dead_letters, letters)


def _unlike(what: str, wanted: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What was expected and is not there, and what is there and was not expected: in any order, each once."""
    left = list(found)
    for row in wanted:
        plain = to_wire(row)
        match = next((other for other in left if _fits(plain, other)), None)
        if match is None:
            yield f"no {what} like {_shown(plain)}"
        else:
            left.remove(match)
    for other in left:
        yield f"a {what} that was not expected: {_shown(other)}"


def _fits(wanted: Any, found: Any) -> bool:
    """Whether all that is named is there, and alike; tables may hold more than is named."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(
            name in found and _fits(value, found[name]) for name, value in wanted.items()
        )
    if isinstance(wanted, bool) or isinstance(found, bool):
        return wanted is found
    return bool(wanted == found)


def _shown(row: Any) -> str:
    return dumps(row).decode("utf-8")
