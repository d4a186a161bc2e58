"""The composition root: the file that names the parts of a run together; those of the platform are in `platform`.

Turns settings and a pipeline into a running engine, and takes it apart again. Decides nothing about jobs,
rows or routes; those decisions are in the rooms it connects.
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path

import msgspec

from engine.access import asking_also, platform_name
from engine.clock import SystemClock
from engine.codec.fields import struct_of
from engine.components.catalog import open_letters, open_source, open_transforms, sink_of
from engine.components.sources.pages import Gate
from engine.contract.exchange import Trace
from engine.contract.profile import PROFILE
from engine.errors import EngineError, RunFailed
from engine.jobs.batcher import Batcher
from engine.jobs.fetch import Fetcher
from engine.jobs.interpret import reading_of
from engine.jobs.pack import packer_of
from engine.jobs.passing import Passing
from engine.jobs.recover import is_lost, recover
from engine.jobs.schedule import Schedule
from engine.jobs.slots import Slots
from engine.jobs.submit import Submitter
from engine.jobs.tap import Tap
from engine.jobs.watch import Watcher
from engine.pipeline.memory import budget_of, fetch_bytes, line_max, values_max
from engine.pipeline.spec import JobSpec, PipelineSpec
from engine.platform import Platform, open_platform
from engine.ports import Clock, Observer, Sink
from engine.record import Counts, Share
from engine.runtime.allocator import give_back_large_blocks
from engine.runtime.budget import ByteBudget
from engine.runtime.direct import Direct, DirectStages, asking_of, lines_of, rows_max
from engine.runtime.drain import StopFlag
from engine.runtime.edge import Edge
from engine.runtime.endings import Endings
from engine.runtime.hearing import open_hearing
from engine.runtime.landing import Landing
from engine.runtime.planner import Planner
from engine.runtime.reading import Reader
from engine.runtime.replay import Replay, open_replay
from engine.runtime.report import Report
from engine.runtime.run import Run, Stages
from engine.runtime.session import Opened, Order, Session
from engine.runtime.sharing import unjudged
from engine.runtime.tally import Tally
from engine.runtime.tapping import open_tap
from engine.runtime.tolerance import Tolerance
from engine.runtime.tools import Tools
from engine.settings import Settings
from engine.store.ledger import Ledger
from engine.store.letters import Shelf
from engine.store.shares import refuse_divided
from engine.telemetry.otel import open_telemetry
from engine.telemetry.tee import Tee

_FETCH_WORKERS = 8


class RunOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: a pipeline file that was read, from the start (`fresh`) or on, at most `limit` rows of it.

    With `replay` its dead letters are sent again, in place of its input. `is_aborting`: a stop cancels remote jobs too.
    With `share` only that share of the input is read; `spec` has its name. `platform` is what the ledger calls the
    platform, where the settings do not say it. `clock` in place of the system's. With `tap` others may look on.
    """

    spec: PipelineSpec
    spec_path: str
    fresh: bool = False
    limit: int | None = None
    replay: Replay | None = None
    is_aborting: bool = False
    clock: Clock | None = None
    share: Share | None = None
    platform: str | None = None
    tap: Tap | None = None

    @property
    def judged(self) -> PipelineSpec:
        """What the end is judged by; of several shares all together are."""
        return self.spec if self.share is None or self.replay is not None else unjudged(self.spec)


async def run_pipeline(
    order: RunOrder, settings: Settings, *, observer: Observer | None = None, stop: StopFlag
) -> Report:
    """Run one pipeline to its end, or to where `stop` asked it to pause.

    Raises:
        EngineError: it could not start. RunFailed: it failed on the way; `report` is its account so far, and the
        ledger holds where to go on.
    """
    give_back_large_blocks()
    spec, spec_path = order.spec, order.spec_path
    tally, clock = Tally(), order.clock or SystemClock()
    telemetry = open_telemetry(settings.telemetry, os.environ, observer=observer)
    tee = Tee([listener for listener in (tally, observer, telemetry) if listener is not None])
    refuse_divided(Path(settings.state_dir) / spec.name)
    ledger = Ledger(Path(settings.state_dir) / spec.name, spec.name)
    try:
        ledger.room.report_to(tee)
        stop.then(ledger.room.give_up)
        tolerance = Tolerance(spec.dead_letters.max, after=spec.dead_letters.after)
        budget = ByteBudget(budget_of(spec.memory), clock=clock, observer=tee)
        tools = Tools(
            ledger=ledger, clock=clock, observer=tee, counts=Counts(), stop=stop, tolerance=tolerance, budget=budget,
            tap=order.tap or Tap(),
        )  # fmt: skip
        opening = None
        if order.replay is not None:
            opening = await open_replay(ledger, spec, order.replay, now_ns=clock.now_ns())
        shelf = None if opening is None else Shelf(ledger.path, opening.run.run_id)
        parts = _open_parts(order, settings, tools, shelf)
        asked = Order(spec=order.judged, spec_path=spec_path, platform=order.platform or platform_name(settings))
        session = Session(order=asked, tools=tools, tally=tally, reader=parts.reader, sink=parts.sink)
        opened = await session.open(fresh=order.fresh, opening=opening)
        if not await session.has_work(opened):
            return await session.nothing_new(opened)
        if not spec.needs_platform:
            await session.begin(opened, platform="none: rows pass from source to sink on this machine")
            return await _work(session, opened, _direct(spec, opened, parts), order, settings)
        patience_s = settings.platform.patience
        settings = asking_also(settings, (spec.source.route, spec.row_route))
        async with (
            open_hearing(spec.callback, profile=settings.platform.profile, tools=tools, spec_path=spec_path) as hearing,
            open_platform(settings, observer=tee, clock=clock, patience_s=patience_s) as platform,
        ):
            await session.begin(opened, platform=platform.description + (hearing.said if hearing else ""))
            if spec.source.route is not None:
                platform.lanes.take_in(spec.source.route, platform.lanes.poll)
                parts.gate.connect(platform.client, asyncio.get_running_loop())
            if spec.job is None:
                return await _work(session, opened, _direct(spec, opened, parts, platform), order, settings)
            stages = _stages(spec, spec.job, settings, opened, parts, platform)
            stages.is_aborting = order.is_aborting
            if hearing is not None:
                hearing.connect(stages, opened.run)
            return await _work(session, opened, stages, order, settings)
    finally:
        ledger.close()
        if telemetry is not None:
            await asyncio.to_thread(telemetry.close)


class _Parts(msgspec.Struct, frozen=True, kw_only=True):
    """The components of a pipeline."""

    reader: Reader
    sink: Sink
    tools: Tools
    gate: Gate


def _open_parts(order: RunOrder, settings: Settings, tools: Tools, shelf: Shelf | None) -> _Parts:
    spec, gate, store, share = order.spec, Gate(), settings.objects, order.share
    want_values, base = bool(spec.transform), Path(order.spec_path).resolve().parent
    opening = partial(
        open_source, gate=gate, store=store, want_values=want_values, values_max=values_max(spec), share=share
    )
    source = msgspec.structs.replace(spec.source, line_max=line_max(spec, is_kept=not opening(spec.source).can_reread))
    packer, batch_bytes = lines_of(spec)
    if spec.job is not None:
        packer = packer_of(PROFILE.kinds[spec.job.kind], spec.job.payload, secrecy_level=spec.job.secrecy_level)
        batch_bytes = min(spec.job.batch.bytes, PROFILE.body_max)
    reader = Reader(
        open_source=partial(opening, source)
        if shelf is None
        else partial(open_letters, source, shelf, want_values=want_values),
        transforms=open_transforms(spec.transform, base=base),
        key=spec.source.key,
        packer=packer,
        item_max=batch_bytes - packer.envelope_bytes - 1,
        tools=tools,
    )
    sink = sink_of(spec, owner=tools.ledger.identity, store=store, base=base, share=share)
    return _Parts(reader=reader, sink=sink, tools=tools, gate=gate)


async def _work(
    session: Session, opened: Opened, stages: Stages | DirectStages, order: RunOrder, settings: Settings
) -> Report:
    run: Run | Direct
    spec = order.spec
    try:
        if isinstance(stages, DirectStages):
            run = Direct(opened.run, stages, pipeline=spec.name)
        else:
            run, tools = Run(opened.run, stages, pipeline=spec.name), stages.tools
            now_ns, window_s = tools.clock.now_ns(), PROFILE.idempotency_window_s
            lost = [job for job in opened.jobs if is_lost(job, now_ns=now_ns, window_s=window_s)]
            await recover(lost, client=stages.client, ledger=tools.ledger, clock=tools.clock, pipeline=spec.name)
        async with open_tap(order.tap, Path(settings.state_dir) / spec.name, spec, settings):
            await run.run(opened.jobs, opened.marks, limit=order.limit)
    except EngineError as exc:
        failure = exc if isinstance(exc, RunFailed) else RunFailed(exc.message, pipeline=spec.name, causes=[exc])
        failure.report = await session.failed(opened, failure)
        raise failure from exc
    return await session.close(opened, run, manifest=stages.landing.manifest)


def _landing(spec: PipelineSpec, opened: Opened, parts: _Parts) -> Landing:
    return Landing(
        sink=parts.sink, spec=spec, run=opened.run, recall=parts.reader.recall, tools=parts.tools, parts=opened.parts
    )


def _direct(spec: PipelineSpec, opened: Opened, parts: _Parts, platform: Platform | None = None) -> DirectStages:
    """The stages of a pipeline without jobs; without a platform its rows only pass."""
    reader, tools = parts.reader, parts.tools
    asking = asking_of(spec, platform.client, platform.lanes) if platform else None
    batcher = Batcher(rows_max=rows_max(spec), bytes_max=lines_of(spec)[1], envelope_bytes=0, keeps=reader.keeps)
    return DirectStages(
        planner=Planner(
            pipeline=spec.name, run=opened.run, reader=reader, batcher=batcher, tools=tools, first_seq=opened.first_seq
        ),
        reader=reader,
        landing=_landing(spec, opened, parts),
        passing=Passing(
            row=struct_of("ResultRow", spec.results.fields) if spec.results.fields else None,
            encode=parts.sink.encode,
            takes_raw=spec.sink.takes_raw,
        ),
        tools=tools,
        ready=Edge(bytes_max=budget_of(spec.memory) // 4),
        workers=1 if asking is None else _FETCH_WORKERS,
        asking=asking,
        patience=platform.patience if platform else None,
    )


def _stages(
    spec: PipelineSpec, asked: JobSpec, settings: Settings, opened: Opened, parts: _Parts, platform: Platform
) -> Stages:
    limits, tools, client, reader = settings.platform.limits, parts.tools, platform.client, parts.reader
    kind, requests_per_s = PROFILE.kinds[asked.kind], settings.platform.requests_per_s
    schedule = Schedule(asked.poll or platform.poll, timeout_s=asked.timeout, requests_per_s=requests_per_s)
    watcher = Watcher(
        client=client,
        spec=asked,
        schedule=schedule,
        clock=tools.clock,
        observer=tools.observer,
    )
    watcher.trace = Trace(opened.run.trace_id, opened.run.span_id)
    fetcher = Fetcher(
        client=client,
        kind=kind,
        results=spec.results.rows or kind.results,
        reading=reading_of(spec, kind, parts.sink),
        recall=reader.recall,
        patience=platform.patience,
    )
    fetcher.tap = tools.tap
    batcher = Batcher(
        rows_max=min(asked.batch.rows, PROFILE.profile_ids_max),
        bytes_max=min(asked.batch.bytes, PROFILE.body_max),
        envelope_bytes=reader.packer.envelope_bytes,
        keeps=reader.keeps,
    )
    return Stages(
        client=client,
        planner=Planner(
            pipeline=spec.name, run=opened.run, reader=reader, batcher=batcher, tools=tools, first_seq=opened.first_seq
        ),
        reader=reader,
        submitter=Submitter(
            client=client,
            ledger=tools.ledger,
            lane=platform.lanes.create,
            clock=tools.clock,
            observer=tools.observer,
        ),
        watcher=watcher,
        fetcher=fetcher,
        landing=_landing(spec, opened, parts),
        endings=Endings(
            pipeline=spec.name, run=opened.run, retry=asked.retry, reader=reader, client=client, tools=tools
        ),
        tools=tools,
        slots=Slots(min(limits.jobs_in_flight, asked.jobs_in_flight or limits.jobs_in_flight)),
        patience=platform.patience,
        ready=Edge(bytes_max=budget_of(spec.memory) // 4),
        create_workers=limits.concurrency,
        fetch_workers=min(_FETCH_WORKERS, limits.concurrency),
        fetch_bytes=fetch_bytes(spec),
        cooldown_s=asked.retry.cooldown,
    )
