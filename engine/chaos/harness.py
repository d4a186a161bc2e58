"""The harness: undisturbed runs first, then rounds among kills and mischief until enough kills have happened.

Rounds are independent (own emulator, own ledgers, own files), so two can play at once. What a round is comes from
`plan`, what came of it goes to `tally`.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from engine.chaos.audit import Finding, audit_platform
from engine.chaos.mischief import ALL, Mischief
from engine.chaos.plan import Round, Stage, Wishes, rounds
from engine.chaos.rows import Reference, compare_undisturbed
from engine.chaos.scratch import Disk, Pipeline, Scratch, has_files, small_disk, steps_of
from engine.chaos.stage import Outcome, Setting, play
from engine.chaos.tally import Tally
from engine.chaos.victims import platform
from engine.contract.profile import PROFILE
from engine.errors import EngineError, StateError
from engine.pipeline.spec import PipelineSpec
from engine.settings import ObjectsSettings

# Rounds whose kills all came too late make no progress; so many in a row mean that none ever will.
_IDLE_ROUNDS = 20
_DISK_MIN_BYTES = 8 * 1024 * 1024


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to do: `kills` that must have happened, in rounds drawn from `seed`, `parallel` of them at once.

    `inputs` is the directory the pipelines' relative inputs lie in; `directory` is made, and removed unless `keep`.
    """

    pipelines: tuple[Pipeline, ...]
    directory: Path
    inputs: Path
    kills: int
    seed: int
    mischief: tuple[Mischief, ...] = ALL
    overrides: dict[str, str] = {}
    latency_s: float = 0.1
    parallel: int = 2
    kills_per_stage: int = 5
    keep: bool = False
    objects: ObjectsSettings = ObjectsSettings()


class Undisturbed(msgspec.Struct, frozen=True, kw_only=True):
    """What each pipeline brings when nobody disturbs it, how long that takes, and how much room it needs."""

    references: list[Reference]
    seconds: list[float]
    body_bytes: int


class Harness:
    """Runs one order. `tell` gets a sentence now and then."""

    def __init__(self, order: Order, *, tell: Callable[[str], None]) -> None:
        self._order = order
        self._tell = tell
        self.tally = Tally()

    async def run(self) -> Tally:
        """Everything, to the last round.

        Raises:
            StateError: a pipeline does not even run undisturbed, or twice with the same rows.
        """
        try:
            undisturbed = await self._undisturbed()
            await self._play_all(undisturbed)
        finally:
            if not self._order.keep:
                shutil.rmtree(self._order.directory, ignore_errors=True)
        return self.tally

    # Without chaos ---------------------------------------------------------------------------

    async def _undisturbed(self) -> Undisturbed:
        rows, seconds, sizes = [], [], []
        for turn in ("one", "two"):
            outcomes, scratch, took = await self._calm_round(turn)
            wrong = [finding.text for outcome in outcomes for finding in outcome.findings]
            if wrong:
                raise StateError(
                    f"the pipelines do not run even undisturbed: {'; '.join(wrong)}", hint="engine run them first"
                )
            rows.append([outcome.audited.landed if outcome.audited else [] for outcome in outcomes])
            seconds.append(took)
            sizes.append(_size_of(scratch, self._order.pipelines))
        references = []
        for pipeline, one, two in zip(self._order.pipelines, *rows, strict=True):
            match = pipeline.spec.results.match or _match_of(pipeline.spec)
            try:
                references.append(compare_undisturbed(one, two, match=match))
            except ValueError as exc:
                raise StateError(f"{pipeline.name}: {exc}", hint="nothing can be compared with that") from exc
        self._tell(
            f"undisturbed: {', '.join(_said(p, r) for p, r in zip(self._order.pipelines, references, strict=True))}"
        )
        return Undisturbed(
            references=references,
            seconds=[min(both) for both in zip(*seconds, strict=True)],
            body_bytes=max(sizes),
        )

    async def _calm_round(self, name: str) -> tuple[list[Outcome], Scratch, list[float]]:
        order = self._order
        scratch = Scratch.make(order.directory / f"undisturbed-{name}", order.pipelines, inputs=order.inputs)
        outcomes, seconds = [], []
        async with platform(scratch, (), seed=order.seed, latency_s=order.latency_s) as emulator:
            for position, pipeline in enumerate(order.pipelines):
                started = asyncio.get_running_loop().time()
                setting = Setting(scratch=scratch, platform=emulator, overrides=order.overrides, objects=order.objects)
                outcome = await play(pipeline, Stage(pipeline=position, kills=()), setting, None)
                seconds.append(asyncio.get_running_loop().time() - started)
                outcomes.append(outcome)
                if outcome.findings:
                    break
        return outcomes, scratch, seconds

    # With it ---------------------------------------------------------------------------------

    async def _play_all(self, undisturbed: Undisturbed) -> None:
        order = self._order
        self._skip_what_cannot_be()
        wishes = Wishes(
            seed=order.seed,
            kinds=tuple(_kind_of(pipeline.spec) for pipeline in order.pipelines),
            steps=tuple(map(steps_of, order.pipelines)),
            seconds=tuple(undisturbed.seconds),
            mischief=tuple(m for m in order.mischief if m.name not in self.tally.skipped),
            kills_per_stage=order.kills_per_stage,
        )
        source = rounds(wishes)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(order.parallel):
                    group.create_task(self._play_on(source, undisturbed))
        except BaseExceptionGroup as failures:
            ours = [failure for failure in _leaves(failures) if isinstance(failure, EngineError)]
            if not ours:
                raise
            raise ours[0] from failures

    def _skip_what_cannot_be(self) -> None:
        if not any(map(has_files, self._order.pipelines)):
            for m in self._order.mischief:
                if m.disk == "sink":
                    self.tally.skip(m.name, "no pipeline writes files")
        if not any(m.disk for m in self._order.mischief):
            return
        try:
            with small_disk(self._order.directory / "trial", _DISK_MIN_BYTES):
                return
        except OSError as exc:
            for m in self._order.mischief:
                if m.disk:
                    self.tally.skip(m.name, f"no file system can be mounted here: {exc.strerror}")

    async def _play_on(self, source: Iterator[Round], undisturbed: Undisturbed) -> None:
        idle = 0
        while self.tally.kills < self._order.kills:
            before = self.tally.kills
            await self._play(next(source), undisturbed)
            idle = idle + 1 if self.tally.kills == before else 0
            if idle >= _IDLE_ROUNDS:
                raise StateError(
                    f"{idle} rounds ended before a kill could happen", hint="give the pipelines more to do"
                )

    async def _play(self, planned: Round, undisturbed: Undisturbed) -> None:
        order = self._order
        scratch = Scratch.make(order.directory / f"round-{planned.number:04}", order.pipelines, inputs=order.inputs)
        with contextlib.ExitStack() as stack:
            disks = [stack.enter_context(self._disk(scratch, m, undisturbed)) for m in planned.mischief if m.disk]
            deadly = next((stage.pipeline for stage in planned.stages if stage.may_die), None)
            async with platform(
                scratch,
                planned.mischief,
                seed=planned.seed,
                latency_s=order.latency_s,
                deadly_kind=None if deadly is None else _kind_of(order.pipelines[deadly].spec),
            ) as emulator:
                setting = Setting(
                    scratch=scratch,
                    platform=emulator,
                    overrides={**order.overrides, **planned.overrides},
                    mischief=planned.mischief,
                    disk=disks[0] if disks else None,
                    objects=order.objects,
                )
                outcomes = await self._stages(planned, setting, undisturbed)
                books, strikes = await emulator.books(), await emulator.strikes()
            sums = [outcome.audited.sums for outcome in outcomes if outcome.audited and outcome.audited.sums]
            wrong = audit_platform(scratch.platform / "state.sqlite", books, sums)
        self.tally.add(planned.number, planned.mischief, outcomes, strikes, wrong)
        self._tell(self._line(planned, outcomes, wrong))
        if not order.keep and not wrong and not any(outcome.findings for outcome in outcomes):
            shutil.rmtree(scratch.root, ignore_errors=True)

    async def _stages(self, planned: Round, setting: Setting, undisturbed: Undisturbed) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for stage in planned.stages:
            pipeline = self._order.pipelines[stage.pipeline]
            outcomes.append(await play(pipeline, stage, setting, undisturbed.references[stage.pipeline]))
            if outcomes[-1].findings:
                break  # What is wrong here is wrong in all that reads it: one finding is enough.
        return outcomes

    @contextlib.contextmanager
    def _disk(self, scratch: Scratch, mischief: Mischief, undisturbed: Undisturbed) -> Iterator[Disk]:
        path = scratch.state if mischief.disk == "state" else self._out(scratch)
        with small_disk(path, _DISK_MIN_BYTES + 2 * undisturbed.body_bytes) as disk:
            yield disk

    def _out(self, scratch: Scratch) -> Path:
        """The directory a sink's disk lies under: sinks of a chain share it where they share their first directory."""
        last = next(pipeline for pipeline in reversed(self._order.pipelines) if has_files(pipeline))
        return scratch.root / Path(last.spec.sink.path).parts[0]

    def _line(self, planned: Round, outcomes: Sequence[Outcome], wrong: Sequence[Finding]) -> str:
        texts = [finding.text for outcome in outcomes for finding in outcome.findings] + [f.text for f in wrong]
        names = " + ".join(m.name for m in planned.mischief) or "kills only"
        verdict = "ok" if not texts else f"NOT OK: {'; '.join(texts)}"
        return f"round {planned.number} (seed {planned.seed}, {names}): {self.tally.kills} kills so far, {verdict}"


def _leaves(failures: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for failure in failures.exceptions:
        yield from _leaves(failure) if isinstance(failure, BaseExceptionGroup) else (failure,)


def _size_of(scratch: Scratch, pipelines: Sequence[Pipeline]) -> int:
    """Bytes a run leaves behind: ledgers and parts."""
    places = [scratch.state, *(scratch.sink(pipeline) for pipeline in pipelines if has_files(pipeline))]
    return sum(path.stat().st_size for place in places for path in place.rglob("*") if path.is_file())


def _said(pipeline: Pipeline, reference: Reference) -> str:
    changing = f" without {', '.join(sorted(reference.volatile))}" if reference.volatile else ""
    return f"{pipeline.name} {sum(reference.rows.values())} rows{changing}"


def _kind_of(spec: PipelineSpec) -> str:
    """The job kind; nothing where rows travel without jobs."""
    return spec.job.kind if spec.job else ""


def _match_of(spec: PipelineSpec) -> str:
    """The member by which rows of the output are told apart."""
    return PROFILE.kinds[spec.job.kind].match if spec.job else spec.source.key
