"""Survey: what lies in a pipeline's input and what its ledger says, found without the platform and without a lock.

Reads the input the way a run does, transforms included, and cuts it into jobs the way a run does; sends nothing,
writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from engine.cli.compared import Last, last_of
from engine.components.catalog import open_source, open_transforms
from engine.components.sources.pages import Gate
from engine.components.sources.streams import STDIN
from engine.contract.profile import PROFILE
from engine.errors import ConfigError
from engine.jobs.batcher import Batcher, Cut
from engine.jobs.lifecycle import SUBMITTED
from engine.jobs.pack import Packing, packer_of
from engine.pipeline.memory import line_max, values_max
from engine.pipeline.spec import PipelineSpec
from engine.record import Mark
from engine.runtime.direct import lines_of, rows_max
from engine.runtime.reading import without_oversized
from engine.runtime.transform import transform
from engine.settings import Settings
from engine.store.reading import Glance
from engine.store.shares import shares_begun


class Survey(msgspec.Struct, kw_only=True):
    """What a run would find. Rows; `is_whole` is False where reading stopped at `limit`, or the input is a pipe."""

    inputs: int = 0
    read: int = 0
    sent: int = 0
    filtered: int = 0
    dead: int = 0
    jobs: int = 0
    body_bytes: int = 0
    is_known: bool = True
    is_whole: bool = True


class Past(msgspec.Struct, kw_only=True):
    """What the ledger says: the unfinished run and its open jobs by state, and how earlier ones went."""

    run_id: str | None = None
    open_jobs: dict[str, int] = {}
    open_rows: int = 0
    marks: Mapping[str, Mark] = {}
    last_s: float | None = None
    rows_per_s: float | None = None
    job_s: float | None = None
    last: Last | None = None

    @property
    def waiting(self) -> int:
        """Jobs that are at the platform."""
        return self.open_jobs.get(SUBMITTED, 0)


def look_back(settings: Settings, spec: PipelineSpec) -> Past:
    """What there is in the ledger, or nothing where there is none yet.

    Raises:
        ConfigError: the pipeline runs in several processes.
    """
    directory = Path(settings.state_dir) / spec.name
    if shares_begun(directory):
        raise ConfigError(
            f"{spec.name} runs in several processes, each with a ledger of its own: only those of one have a plan",
            hint=f"engine status {spec.name}",
        )
    if not (directory / "ledger.sqlite").is_file():
        return Past()
    with Glance(directory) as glance:
        epoch, run_id = glance.newest()
        jobs = [] if epoch is None else [job for job in glance.jobs(limit=10**9, state="open") if job.epoch == epoch]
        states: dict[str, int] = {}
        for job in jobs:
            states[job.state] = states.get(job.state, 0) + 1
        last_s, rows_per_s = glance.last_pace()
        return Past(
            run_id=run_id,
            open_jobs=states,
            open_rows=sum(job.rows for job in jobs),
            marks={} if epoch is None else glance.marks(epoch),
            last_s=last_s,
            rows_per_s=rows_per_s,
            job_s=glance.usual_job_s(),
            last=last_of(glance, spec),
        )


def survey(spec: PipelineSpec, spec_path: str, marks: Mapping[str, Mark], *, limit: int | None) -> Survey:
    """Read on from the marks, as a run would, and count.

    Raises:
        InputError: the input cannot be read. StaleCheckpoint: it is no longer the one the marks point into.
    """
    found = Survey(is_known=spec.source.type != "platform" and STDIN not in spec.source.paths)
    if not found.is_known:
        found.is_whole = False
        return found
    packer, batcher, item_max = _cutting(spec)
    transforms = open_transforms(spec.transform, base=Path(spec_path).resolve().parent)
    source = open_source(
        msgspec.structs.replace(spec.source, line_max=line_max(spec)),
        gate=Gate(),
        want_values=bool(spec.transform),
        values_max=values_max(spec),
    )
    names: set[str] = set()
    try:
        for batch in source.read(marks):
            names.add(batch.input)
            shaped, texts = transform(batch, transforms, key=spec.source.key)
            items = packer.items(texts, shaped.keys)
            if items and max(map(len, items)) > item_max:
                shaped, items = without_oversized(shaped, items, item_max)
            for cut in batcher.add(shaped, items):
                _count(found, cut)
            if limit is not None and found.read >= limit:
                found.is_whole = False
                break
    finally:
        source.close()
    if (last := batcher.flush()) is not None:
        _count(found, last)
    found.inputs = len(names)
    return found


def _cutting(spec: PipelineSpec) -> tuple[Packing, Batcher, int]:
    """How rows become bodies, and where one ends."""
    if spec.job is None:
        packer, bytes_max = lines_of(spec)
        return packer, Batcher(rows_max=rows_max(spec), bytes_max=bytes_max, envelope_bytes=0), bytes_max - 1
    kind = PROFILE.kinds[spec.job.kind]
    packer = packer_of(kind, spec.job.payload, secrecy_level=spec.job.secrecy_level)
    bytes_max = min(spec.job.batch.bytes, PROFILE.body_max)
    batcher = Batcher(
        rows_max=min(spec.job.batch.rows, PROFILE.profile_ids_max),
        bytes_max=bytes_max,
        envelope_bytes=packer.envelope_bytes,
    )
    return packer, batcher, bytes_max - packer.envelope_bytes - 1


def _count(found: Survey, cut: Cut) -> None:
    found.read += cut.read
    found.sent += len(cut.keys)
    found.filtered += cut.filtered
    found.dead += len(cut.bad)
    if cut.keys:
        found.jobs += 1
        found.body_bytes += cut.body_bytes
